"""Batches: many relaunches asked for at once, and the port of whoever keeps them.

A batch is what was asked for (its items, its policy) and what has come of each item. The relaunches
themselves are ordinary runs of the same store; a batch only says which of its items have been
begun, by which relaunch, and how each ended. Rules for every store (one contract suite,
``tests/contract/test_batch_stores.py``, holds them to it):

* A batch and all of its items are stored in one transaction, or not at all.
* An item is begun before its relaunch is created, under the id that the relaunch will have: whoever
  goes on after a crash creates it again, which joins it if it was there (see
  :mod:`orchestrator.durable.starting`). So no crash makes two of one item.
* What an item came to is kept with the item: it outlives the relaunch, which is forgotten sooner.
* Who carries a batch out says so by :meth:`BatchStore.hold`. That saves work and is not what keeps
  anybody from being relaunched twice: two that carry the same batch out begin the same relaunches.

Times are Unix epoch seconds, by the caller's clock. Every method may raise
:class:`~orchestrator.errors.StoreUnavailable`, after which it may be called again, and each that
names a batch :class:`~orchestrator.errors.UnknownBatch`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from orchestrator.labs import LaunchParameters
from orchestrator.machine.run import Policy

OnError = Literal["continue", "stop"]
Origin = Literal["command", "service", "library"]


class BatchState(StrEnum):
    """Where a batch stands.

    ``RUNNING``: it is to be carried out, whether or not anybody does so right now. ``STOPPED``: no
    new item is begun until it is resumed; ``reason`` says why. ``ENDED``: every item has come to an
    end. ``ABORTED``: it is never gone on with.
    """

    RUNNING = "running"
    STOPPED = "stopped"
    ENDED = "ended"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of a batch: a learner, the lab profile, and what goes with the launch.

    ``number`` counts from 1. ``displace_instance_id``: only this lab instance may make room (or be
    ended, where nothing is launched).
    """

    number: int
    user_id: str
    lab_profile_id: int
    displace_instance_id: int | None = None
    parameters: LaunchParameters = field(default_factory=LaunchParameters, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """When a relaunch entered a phase (the machine's state); the marks make its time line."""

    phase: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What an item has come to: what stays of its relaunch's outcome, without the way in.

    ``outcome`` and ``reason`` are the relaunch's (or ``failed`` and an error's code if it could not
    be begun); ``launch_in_doubt``: a launch got no answer, so there may be a lab.
    ``ended_lab_profile_id``: of the lab that made room last, whose teardown the marks tell.
    """

    outcome: str
    reason: str | None
    message: str
    lab_instance_id: int | None = None
    cancelled_instance_ids: tuple[int, ...] = ()
    saved_instance_ids: tuple[int, ...] = ()
    waited_seconds: float = 0.0
    api_calls: int = 0
    ended_lab_profile_id: int | None = None
    launch_in_doubt: bool = False
    marks: tuple[Mark, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the learner has what was asked for: a lab, or a free slot."""
        return self.outcome in OK


#: Outcomes that are what was asked for.
OK = frozenset({"launched", "reused", "freed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredItem:
    """An item as it is kept.

    ``attempt`` counts how often it was begun (0: not yet), ``relaunch_id`` is the relaunch of the
    last time; ``result`` is ``None`` until that has ended. What is tried again is begun with the
    next ``attempt``, which forgets the result.
    """

    item: Item
    attempt: int = 0
    relaunch_id: str | None = None
    begun_at: float | None = None
    ended_at: float | None = None
    result: ItemResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a batch goes, and when it stops.

    ``concurrency``: items in flight at a time, at most. ``per_minute``: items begun a minute, at
    most (``None``: as fast as the platform's limit lets them). ``wait_seconds``: for so long the
    batch is carried out; then no new item is begun, and what is in flight is left as it stands.
    ``on_error``: go on with the others when an item fails, or stop.
    """

    concurrency: int = 200
    per_minute: float | None = None
    wait_seconds: float | None = None
    on_error: OnError = "continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it is kept, without its items.

    ``fingerprint`` says what was asked for, so that the same request is known again; ``total`` is
    how many items there are; ``policy`` and ``note`` are those of every relaunch. ``selection``
    tells, for people, by what the items were selected (``None``: they were listed). ``holder``
    carries it out until ``held_until``, unless it says so again. ``started_at`` is when it was
    last begun or resumed, ``ended_at`` when its last item ended, or when it was aborted.
    """

    batch_id: str
    fingerprint: str
    total: int
    created_at: float
    started_at: float
    policy: Policy = field(default_factory=Policy)
    note: str | None = None
    pace: Pace = field(default_factory=Pace)
    origin: Origin = "library"
    selection: str | None = None
    state: BatchState = BatchState.RUNNING
    reason: str | None = None
    holder: str | None = None
    held_until: float | None = None
    ended_at: float | None = None

    def is_held(self, at: float) -> bool:
        """Whether somebody who lives carries the batch out."""
        return self.holder is not None and (self.held_until or 0.0) > at


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How the items of a batch stand: those never begun, in flight, and ended by outcome.

    ``in_flight`` are begun and have no result. ``api_calls`` are those of all results.
    """

    waiting: int
    in_flight: int
    ended: Mapping[str, int]
    api_calls: int = 0

    @property
    def ok(self) -> int:
        """How many ended well."""
        return sum(count for outcome, count in self.ended.items() if outcome in OK)

    @property
    def not_ok(self) -> int:
        """How many ended otherwise."""
        return sum(self.ended.values()) - self.ok


class BatchStore(Protocol):
    """Keeps the batches of one API consumer. See the module's docstring for the rules."""

    async def create(self, batch: Batch, items: Sequence[Item]) -> tuple[Batch, bool]:
        """Store a new batch and say ``True``; or the one that has its id already, and ``False``.

        (That may be this very one, if the answer to an earlier call got lost.) Raises
        ``ValueError`` unless ``batch.total`` items come, numbered from 1 in order.
        """

    async def load(self, batch_id: str) -> Batch:
        """The batch."""

    async def find(self, fingerprint: str) -> Batch | None:
        """The newest batch of the same request."""

    async def history(
        self, *, unfinished: bool | None = None, limit: int = 100
    ) -> tuple[Batch, ...]:
        """Batches, newest first; ``unfinished``: those running or stopped (``False``: the rest)."""

    async def items(
        self,
        batch_id: str,
        *,
        after: int = 0,
        limit: int | None = None,
        begun: bool | None = None,
        ended: bool | None = None,
    ) -> tuple[StoredItem, ...]:
        """Items whose number is above ``after``, in order, at most ``limit``.

        ``begun``: only those that were (or were not) begun; ``ended``: that have (or have not) a
        result.
        """

    async def begin(
        self, batch_id: str, number: int, *, attempt: int, relaunch_id: str, at: float
    ) -> bool:
        """An item is begun, or its relaunch turns out to be another one (same ``attempt``).

        ``False``, and nothing changes, if this attempt has a result, or a later one has been begun.
        A result of an earlier attempt is forgotten. ``begun_at`` is when the attempt was begun
        first. Raises ``ValueError`` if there is no such item, or for an attempt below 1.
        """

    async def finish(
        self, batch_id: str, number: int, result: ItemResult, *, attempt: int, at: float
    ) -> bool:
        """The item's ``attempt`` has ended.

        ``False``, and nothing changes, unless that is its latest attempt, without a result; the
        very same result again counts as stored. Raises ``ValueError`` if there is no such item.
        """

    async def counts(self, batch_id: str) -> Counts:
        """How the items stand; one question."""

    async def change(
        self,
        batch_id: str,
        state: BatchState,
        *,
        only_from: frozenset[BatchState],
        at: float,
        reason: str | None = None,
        pace: Pace | None = None,
        policy: Policy | None = None,
    ) -> Batch:
        """Change the state if it is one of ``only_from``; the batch as it is then.

        To ``RUNNING``: ``started_at`` becomes ``at``; to ``ENDED`` or ``ABORTED``: ``ended_at``
        becomes ``at``, otherwise ``None``. ``reason`` replaces the one before, and so do ``pace``
        and ``policy`` if they are given.
        """

    async def hold(self, batch_id: str, holder: str, *, at: float, until: float) -> Batch:
        """Say that ``holder`` carries the batch out, unless somebody else does at ``at``.

        The batch as it is then: ``batch.holder == holder`` if that was granted.
        """

    async def let_go(self, batch_id: str, holder: str) -> None:
        """``holder`` carries it out no more."""

    async def prune(self, *, before: float) -> int:
        """Forget the batches that ended (or were aborted) before then, items and all; how many."""
