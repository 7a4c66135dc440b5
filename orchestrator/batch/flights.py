"""One item of a batch in flight: its relaunch is begun, followed to its end, and the end is kept.

* The intent first: that an item is begun is stored before its relaunch is created, under the id
  that it will have. Whoever comes after a crash creates it again, and joins it.
* A relaunch of the same lab that somebody else has in flight is joined; for one of another lab the
  item waits, and begins when that has ended.
* Whoever has got the lab by a relaunch of their own since the batch was asked for keeps it.
* While the store is away everything waits; nothing is begun twice, and no end is lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from orchestrator.batch.outcomes import ItemOutcome, outcome_of_stored
from orchestrator.batch.patience import patiently
from orchestrator.batch.requests import relaunch_id_of
from orchestrator.durable.batches import Batch, Item, ItemResult, Mark, StoredItem
from orchestrator.durable.store import Filter, StoredRun
from orchestrator.errors import InvalidRequest, RelaunchInFlight, UnknownRelaunch
from orchestrator.machine.run import Policy
from orchestrator.machine.vocabulary import State
from orchestrator.progress import Progress, outcome_of
from orchestrator.relauncher import AsyncRelauncher
from orchestrator.requests import Priority

T = TypeVar("T")

#: How often an item lets a relaunch of another lab go first.
GOES_AFTER = 5


class _BegunElsewhereError(Exception):
    """Another process has brought this attempt to its end, or has begun the next one."""


_PROBE = (State.PROBING, State.COUNTING)


class Flight:
    """An item in flight: ``phase``, what it is ``blocked_by``, and whether the store is away.

    It stays blocked while the call that was put off is tried again, until that leads on.
    """

    __slots__ = (
        "_attempt", "_batch", "_begun_at", "_item", "_known", "_marks", "_own", "_policy",
        "_put_off", "_relauncher", "_since", "blocked_by", "phase", "store_away",
    )  # fmt: skip

    def __init__(self, relauncher: AsyncRelauncher, batch: Batch, stored: StoredItem) -> None:
        again = stored.result is not None
        self.phase = State.NEW.value
        self.blocked_by: str | None = None
        self.store_away = False
        self._put_off: tuple[str, ...] = ()
        self._since = relauncher.clock.now()
        self._relauncher = relauncher
        self._batch = batch
        self._item = stored.item
        self._attempt = max(stored.attempt, 1) + again
        self._policy = _policy_for(batch.policy, stored.item)
        self._begun_at = relauncher.clock.now() if again else stored.begun_at
        self._own = self._id_of(self._attempt)
        self._known = None if again else stored.relaunch_id
        self._marks: list[Mark] = []

    @property
    def user_id(self) -> str:
        """Whose item it is."""
        return self._item.user_id

    def _id_of(self, attempt: int) -> str:
        consumer = self._relauncher.store.consumer
        return relaunch_id_of(self._batch, consumer, self._item.number, attempt)

    async def fly(self) -> ItemOutcome:
        """Bring the item to its end, and keep what it came to."""
        url, relaunch_id = None, None
        try:
            relaunch_id = await self._begin()
        except _BegunElsewhereError:
            return await self._as_it_is_kept()
        except (InvalidRequest, RelaunchInFlight) as error:
            result = ItemResult(outcome=State.FAILED, reason=error.code, message=str(error))
        else:
            await self._patiently(lambda: self._follow(relaunch_id))
            ended = await self._patiently(lambda: self._relauncher.store.load(relaunch_id))
            result, url = _result_of(ended, self._marks), ended.run.new_url
        ended_at = self._relauncher.clock.now()
        await self._patiently(
            lambda: self._relauncher.store.batches.finish(
                self._batch.batch_id,
                self._item.number,
                result,
                attempt=self._attempt,
                at=ended_at,
            )
        )
        return ItemOutcome(
            batch_id=self._batch.batch_id,
            item=self._item,
            attempt=self._attempt,
            relaunch_id=relaunch_id,
            result=result,
            begun_at=self._begun_at,
            ended_at=ended_at,
            url=url,
        )

    async def _as_it_is_kept(self) -> ItemOutcome:
        """What another process, which carried the batch out as well, has made of the item."""
        stored = await self._patiently(
            lambda: self._relauncher.store.batches.items(
                self._batch.batch_id, after=self._item.number - 1, limit=1
            )
        )
        if stored[0].result is not None:
            return outcome_of_stored(self._batch.batch_id, stored[0])
        return await Flight(self._relauncher, self._batch, stored[0]).fly()

    async def _begin(self) -> str:
        """The id of the item's relaunch, which is in flight or has ended."""
        if self._known is None:
            if not await self._note(self._own):
                raise _BegunElsewhereError
        elif self._known != self._own:
            # Somebody else's, which was joined before this process had the item.
            with contextlib.suppress(UnknownRelaunch):
                await self._patiently(lambda: self._relauncher.attach(str(self._known)))
                return self._known
        relaunch_id = await self._had_meanwhile() or await self._created()
        if relaunch_id != self._own:
            await self._note(relaunch_id)
        return relaunch_id

    async def _had_meanwhile(self) -> str | None:
        """A relaunch by which the learner got the same lab since the batch was asked for."""
        if not self._policy.launch or self._item.displace_instance_id is not None:
            return None
        lately = Filter(user_id=self.user_id, created_since=self._batch.created_at)
        for stored in await self._patiently(lambda: self._relauncher.store.history(lately)):
            run = stored.run
            if run.state is State.LAUNCHED and run.lab_profile_id == self._item.lab_profile_id:
                return run.relaunch_id
        return None

    async def _created(self) -> str:
        for _ in range(GOES_AFTER):
            try:
                return await self._patiently(self._create)
            except RelaunchInFlight as other:
                goes_first = other.relaunch_id
            await self._patiently(lambda: self._end_of(goes_first))  # noqa: B023 - awaited at once
        return await self._patiently(self._create)

    async def _create(self) -> str:
        handle = self._relauncher.start(
            self._item.user_id,
            self._item.lab_profile_id,
            parameters=self._item.parameters,
            note=self._batch.note,
            policy=self._policy,
            repeats=tuple(self._id_of(attempt) for attempt in range(1, self._attempt)),
            relaunch_id=self._own,
            idempotency_key=self._own,
            priority=Priority.BULK,
        )
        return await handle.accepted()

    async def _note(self, relaunch_id: str) -> bool:
        at = self._begun_at = self._begun_at or self._relauncher.clock.now()
        return await self._patiently(
            lambda: self._relauncher.store.batches.begin(
                self._batch.batch_id,
                self._item.number,
                attempt=self._attempt,
                relaunch_id=relaunch_id,
                at=at,
            )
        )

    async def _end_of(self, relaunch_id: str) -> None:
        with contextlib.suppress(UnknownRelaunch):
            async for _ in self._events(relaunch_id):
                pass

    async def _follow(self, relaunch_id: str) -> None:
        self._marks.clear()
        async for progress in self._events(relaunch_id):
            self.store_away = False
            if progress.phase != self.phase or not self._marks:
                self._marks.append(Mark(phase=progress.phase, at=progress.at))
            self._see(progress)
            del progress

    def _see(self, progress: Progress) -> None:
        before, self.phase = self.phase, progress.phase
        if self.phase == State.BACKING_OFF:
            # What was in the way before this process came, need not be any more.
            self.blocked_by = progress.blocked_by if progress.at >= self._since else None
            # Whose labs fill a limit is asked between two tries.
            self._put_off = (State.PROBING, State.COUNTING) if before in _PROBE else (before,)
        elif self.phase not in self._put_off:
            self.blocked_by, self._put_off = None, ()

    async def _events(self, relaunch_id: str) -> AsyncIterator[Progress]:
        # Neither the handle, which holds the run, nor what was told is kept: thousands wait here.
        async for progress in (await self._relauncher.attach(relaunch_id)).events():
            yield progress
            del progress

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, away=self._be_away)

    def _be_away(self, is_away: bool) -> None:
        self.store_away = is_away


def _policy_for(policy: Policy, item: Item) -> Policy:
    """The policy of an item: where a lab was named for it, no other one may be ended."""
    if item.displace_instance_id is None:
        return policy
    return dataclasses.replace(
        policy, displace_instance_id=item.displace_instance_id, max_recancels=0
    )


def _result_of(stored: StoredRun, marks: list[Mark]) -> ItemResult:
    """What stays of a relaunch that has ended."""
    told = outcome_of(
        stored.run,
        at=stored.finished_at or stored.updated_at,
        api_calls=stored.api_calls,
        events=(),
    )
    return ItemResult(
        outcome=told.outcome,
        reason=told.reason,
        message=told.message,
        lab_instance_id=told.lab_instance_id,
        cancelled_instance_ids=told.cancelled_instance_ids,
        saved_instance_ids=told.saved_instance_ids,
        waited_seconds=told.waited_seconds,
        api_calls=told.api_calls,
        ended_lab_profile_id=stored.run.target_profile_id,
        launch_in_doubt=told.left.launch_in_doubt_tag is not None,
        marks=tuple(marks),
    )
