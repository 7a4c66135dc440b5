"""The port of whoever keeps relaunches: what is stored, and the rules that make it safe.

A run is a plain value and its stored form is the whole durable state; nothing is replayed. Rules
for every store (one contract suite, ``tests/contract/test_run_stores.py``, holds them to it):

* **Single-flight**: a learner has one unfinished run, by a unique index of the database. Learners
  of different API consumers never meet: a store is opened for one consumer, by its label.
* **Fencing**: :meth:`RunStore.append` is a compare-and-set on (run, version, lease epoch). Each
  claim makes the epoch one higher, so whoever lost the lease can record nothing any more.
* **Intent first**: a transition is stored with the call that it announces *before* that call is
  made; :meth:`RunStore.append` returns only when the database has it for good.
* Hints and the wish to abort are stored with the run, and come back from the next ``append``.

Times are Unix epoch seconds, by the caller's clock. Every method may raise
:class:`~orchestrator.errors.StoreUnavailable`, after which it may be called again: those that
change something notice that they already have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from orchestrator.durable.batches import BatchStore
from orchestrator.machine.run import Run
from orchestrator.progress import Progress
from orchestrator.requests import Priority

T = TypeVar("T")

#: Seconds for which one who asked to be admitted keeps its place in the line.
STANDING = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a run's journal: a transition, and the call that it announces.

    ``progress.sequence`` is the run's version after it; ``event`` the name of the machine's event
    that led to it; ``tag`` the launch's tag if a launch is announced. An entry whose
    ``progress.calling`` is set is the intent: "about to call this, for this lab instance".
    """

    event: str
    progress: Progress
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What has reached the run from outside: how many hints, and the instance of the last one."""

    hints: int = 0
    hinted: int | None = None
    abort_requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as it is kept.

    ``version`` counts its transitions, ``epoch`` its claims; ``owner`` drives it (``None``:
    nobody); ``due_at`` is when it must be looked after next (``None`` once it has ended).
    ``signals`` is what reached it from outside, ``hints_seen`` how many hints it has taken.
    """

    run: Run
    version: int = 0
    epoch: int = 0
    owner: str | None = None
    due_at: float | None = None
    api_calls: int = 0
    key: str | None = None
    priority: Priority = Priority.BUTTON
    admitted: bool = False
    signals: Signals = Signals()
    hints_seen: int = 0
    updated_at: float = 0.0
    finished_at: float | None = None


def new_stored(
    run: Run, *, at: float, key: str | None, priority: Priority, owner: str | None
) -> StoredRun:
    """A run that is stored for the first time; with an owner it is claimed by that one."""
    return StoredRun(
        run=run,
        epoch=0 if owner is None else 1,
        owner=owner,
        due_at=at,
        key=key,
        priority=priority,
        updated_at=at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One transition to be recorded, by the holder of the lease of ``epoch``.

    ``entry.progress.sequence`` must be the stored version plus one.
    """

    run: Run
    entry: Entry
    epoch: int
    due_at: float
    api_calls: int = 0
    hints_seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which runs a history is about; what is ``None`` doesn't matter. Newest first."""

    user_id: str | None = None
    state: str | None = None
    unfinished: bool | None = None
    created_since: float | None = None
    limit: int = 100


class RunStore(Protocol):
    """Keeps runs. See the module's docstring for the rules."""

    @property
    def consumer(self) -> str:
        """The label of the API consumer whose runs these are."""

    @property
    def engine(self) -> str:
        """Who drives the runs: ``embedded`` (the processes that share the store) or ``fleet``."""

    @property
    def batches(self) -> BatchStore:
        """The batches of the same API consumer; open while the store is."""

    async def open(self) -> None:
        """Connect, and bring the schema up to date. More than once is harmless.

        Raises :class:`~orchestrator.errors.StoreIncompatible`.
        """

    async def close(self) -> None:
        """Let go of every connection; what was to be stored is."""

    async def create(
        self,
        run: Run,
        *,
        at: float,
        key: str | None = None,
        priority: Priority = Priority.BUTTON,
        replacing: Step | None = None,
        owner: str | None = None,
    ) -> tuple[StoredRun, bool]:
        """Store a new run, due at once, and say ``True``; or the one in its way and ``False``.

        With an ``owner`` it is stored as claimed by that one, which saves the first claim.
        In its way is a run with the same idempotency key, finished or not, else the learner's
        unfinished one. ``replacing`` ends the latter in the same transaction (a compare-and-set: if
        it fails, nothing is stored, and the one in the way is returned as it is now). Called again
        with the same run, which nobody has gone on with since, it says ``True`` again.
        """

    async def load(self, relaunch_id: str) -> StoredRun:
        """The run. Raises :class:`~orchestrator.errors.UnknownRelaunch`."""

    async def claim(
        self, relaunch_id: str, owner: str, *, at: float, take_over: bool = False
    ) -> StoredRun | None:
        """Take the lease: a new epoch for ``owner``. ``None`` if the run has ended or is held.

        Held means that a living owner has it; with ``take_over`` it is taken all the same.
        A run whose stored form is newer than this program is left alone, likewise.
        """

    async def release(self, relaunch_id: str, epoch: int) -> None:
        """Let the lease go, so that others needn't wait for it to run out."""

    async def beat(self, owner: str, *, until: float) -> None:
        """Say that ``owner`` lives until then, unless it says so again (``embedded`` only)."""

    async def retire(self, owner: str) -> None:
        """Let go of everything that ``owner`` holds."""

    async def append(self, step: Step) -> Signals:
        """Record a transition; once more, if the same one was recorded last, changes nothing.

        While there are signals that the step has not seen, the run stays due as early as they made
        it, in case its driver dies now. Raises :class:`~orchestrator.errors.LeaseLost`.
        """

    async def holds(self, relaunch_id: str, epoch: int) -> bool:
        """Whether the lease of ``epoch`` is still the one in force, and the run unfinished."""

    async def signals(self, relaunch_id: str) -> Signals:
        """What has reached the run from outside so far."""

    async def hint(self, lab_instance_id: int, *, at: float) -> tuple[str, ...]:
        """Store that the instance seems torn down; the ids of the runs that wait for it.

        They become due at once. A hint that no run waits for is dropped.
        """

    async def request_abort(self, relaunch_id: str, *, at: float) -> bool:
        """Store the wish to abort; ``False`` if the run has ended."""

    async def due(self, owner: str | None, *, at: float, limit: int = 1000) -> tuple[str, ...]:
        """The unfinished runs due by ``at``, longest due first, that nobody living holds.

        Those that ``owner`` holds count as free for it.
        """

    async def next_due(self, owner: str | None, *, after: float) -> float | None:
        """When the first of those will be due that are not due ``after`` yet."""

    async def admit(self, relaunch_id: str, *, at: float, most: int) -> int | None:
        """Let the run begin if fewer than ``most`` are in flight (``None``), else how many wait
        before it. The line is in order of priority, then of coming; whoever has not asked for
        :data:`STANDING` seconds has left it. Asking again is harmless, and after the end, too.
        """

    async def journal(self, relaunch_id: str, *, after: int = 0) -> tuple[Entry, ...]:
        """The run's journal from version ``after`` + 1 on."""

    async def moved_on(self, seen: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
        """Those runs whose version is not the one given: their version, and whether they ended.

        One question for all who follow, so that of thousands of idle ones nothing is read. A run
        that is gone counts as ended, with the version given.
        """

    async def history(self, which: Filter) -> tuple[StoredRun, ...]:
        """The runs that fit, newest first."""

    async def unfinished(self) -> int:
        """How many runs have not ended, those of newer programs included; one cheap question."""

    async def prune(self, *, before: float) -> int:
        """Forget the runs that ended before then, journal and all; how many."""

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change a small shared text in one transaction, seen by all processes.

        ``step`` gets the text (``None`` if there is none) and gives the new one and what is to be
        returned. It must be pure: it may be called more than once, in another thread.
        """

    def watch(self, changed: Callable[[str | None], object]) -> Callable[[], None]:
        """Call ``changed`` in this event loop whenever a run may have changed, here or elsewhere.

        It gets the run's id, or ``None`` for "any of them". Best effort, never late by more than
        :attr:`latency`. Of what a run's owner does through this very store (``create``, ``append``)
        only the last step is told: it knows. Returns what ends the watch.
        """

    @property
    def latency(self) -> float:
        """Seconds after which a change by another process is noticed without fail."""
