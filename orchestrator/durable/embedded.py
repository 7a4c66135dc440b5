"""The embedded runtime: one asyncio loop drives the runs of the store that this process shares.

* A run is driven by whoever holds its lease. This process says that it lives every
  :data:`BEAT` seconds, however long the store takes to find what is due; what a silent process
  held is free :data:`LEASE` seconds later.
* A run that waits for long is parked: it costs a row in the store, and nothing here.
* It drives the runs that were started or attached here; after :meth:`resume_all` every run of the
  store that nobody living drives, each at the moment it is due.
* At its end it lets calls that are under way come to their answer, and leaves the runs to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from collections.abc import Iterable

from orchestrator.durable.driver import Driven, Parts
from orchestrator.durable.driving import GRACE, Driving, owner_name
from orchestrator.durable.following import Follower
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.starting import Started
from orchestrator.durable.store import Filter, StoredRun
from orchestrator.errors import (
    InvalidRequest,
    RelaunchInFlight,
    StoreUnavailable,
    UnknownRelaunch,
)
from orchestrator.logs import get_logger
from orchestrator.machine.run import Run
from orchestrator.requests import OnConflict, Priority

_log = get_logger("orchestrator.durable")

#: Seconds between two signs of life, and how long one lasts.
BEAT = 1.5
LEASE = 5.0
#: A wait longer than this (seconds) is not kept in memory.
PARK_AFTER = 2.0
#: How many due runs are taken up in one go.
AT_ONCE = 1000


class EmbeddedRuntime(Runtime):
    """See the module's docstring."""

    def __init__(
        self,
        parts: Parts,
        *,
        owner: str | None = None,
        park_after: float = PARK_AFTER,
        lease: float = LEASE,
        beat: float = BEAT,
    ) -> None:
        super().__init__(parts.store, parts.clock, parts.on_end)
        self.owner = owner or owner_name()
        self.drives_new = self.owner
        self._parts = parts
        self._park_after = park_after
        self._lease = lease
        self._beat = beat
        self._driving = Driving(
            parts.store, parts.clock, missed=lambda: self._look(self.clock.now())
        )
        #: Runs to be seen to an end here; those that others began only after resume_all().
        self._mine: set[str] = set()
        #: Runs whose lease this process has, and when a parked one is to be gone on with.
        self._held: dict[str, float] = {}
        self._claiming: set[str] = set()
        self._broken: set[str] = set()
        self._all = False
        self._working: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        #: When to look at what is due, soonest first; what is parked here is in it.
        self._plan: list[float] = []
        self._look_at = 0.0
        #: When the store was last asked when the runs that nobody holds will be due.
        self._asked_at = -math.inf
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Open the store, say that this process lives, and begin to drive."""
        await super().open()
        async with self._opening:
            if self._working is not None:
                return
            await self.store.beat(self.owner, until=self.clock.now() + self._lease)
            self._working = asyncio.create_task(self._work(), name="relaunches")

    async def close(self, *, grace: float = GRACE) -> None:
        """Leave every run to others; calls under way get ``grace`` seconds to be answered."""
        if self._working is not None:
            self._working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._working
            self._working = None
            await self._driving.leave(None, grace)
            with contextlib.suppress(StoreUnavailable):
                await self.store.retire(self.owner)
        await super().close(grace=grace)

    async def resume_all(self) -> tuple[StoredRun, ...]:
        """Take up every unfinished run that nobody living drives, now and from now on."""
        await self.open()
        self._all = True
        self._asked_at = -math.inf
        self._look(self.clock.now())
        return await self.store.history(Filter(unfinished=True, limit=1_000_000))

    async def start(
        self,
        run: Run,
        *,
        key: str | None = None,
        priority: Priority = Priority.BUTTON,
        on_conflict: OnConflict = "refuse",
    ) -> Started:
        """Store the run as claimed by this process, or join the one that is there."""
        relaunch_id = run.relaunch_id
        known = relaunch_id in self._mine
        # If the answer gets lost, it may be stored all the same, and is for this process to drive.
        self._mine.add(relaunch_id)
        try:
            started = await super().start(run, key=key, priority=priority, on_conflict=on_conflict)
        except (RelaunchInFlight, InvalidRequest):
            if not known:
                self._mine.discard(relaunch_id)
            raise
        stored = started.stored
        if stored.run.relaunch_id != relaunch_id and not known:
            self._mine.discard(relaunch_id)
        if self._working is None and stored.owner == self.owner:
            # It came too late to be left to others with all the rest.
            with contextlib.suppress(StoreUnavailable):
                await self.store.release(stored.run.relaunch_id, stored.epoch)
        return started

    def see_to(self, stored: StoredRun) -> None:
        """Drive the run from this process, as soon as nobody else living does."""
        relaunch_id = stored.run.relaunch_id
        if stored.finished_at is not None:
            return
        self._mine.add(relaunch_id)
        here = relaunch_id in self._held or not self._is_free(relaunch_id)
        if stored.owner == self.owner and not here and self._working is not None:
            self._begin(stored)
        else:
            self._asked_at = -math.inf
            self._look(self.clock.now())

    def drives(self, relaunch_id: str) -> bool:
        """Whether the run is being driven in this process right now."""
        return relaunch_id in self._driving

    def knows(self, relaunch_id: str) -> bool:
        """Whether this process has the run's lease."""
        return relaunch_id in self._held

    @property
    def in_memory(self) -> int:
        """How many runs are being driven in this process right now, parked ones left out."""
        return len(self._driving)

    async def abort(self, relaunch_id: str) -> bool:
        """Store the wish to abort, and wake the run."""
        wanted = await super().abort(relaunch_id)
        if wanted:
            # Somebody has to carry it out, even if nobody drives the run.
            self._mine.add(relaunch_id)
            self._reached((relaunch_id,))
        return wanted

    def _reached(self, relaunch_ids: Iterable[str]) -> None:
        self._driving.deliver(relaunch_ids)
        if any(relaunch_id not in self._driving for relaunch_id in relaunch_ids):
            self._look(self.clock.now())

    def _look(self, at: float) -> None:
        """Plan a look at what is due."""
        heapq.heappush(self._plan, at)
        if at < self._look_at:
            self._look_at = at
            self._wake.set()

    async def _work(self) -> None:
        await asyncio.gather(self._say_that_it_lives(), self._take_up_what_is_due())

    async def _say_that_it_lives(self) -> None:
        alive_until = self.clock.now() + self._lease
        while True:
            await self.clock.wait(self._beat, asyncio.Event())
            now = self.clock.now()
            if now >= alive_until:
                # Silent for too long: others may have taken what was held here.
                self._held.clear()
                self._changed(None)
            try:
                await self.store.beat(self.owner, until=now + self._lease)
                alive_until = now + self._lease
            except StoreUnavailable:
                _log.warning("store_unavailable")

    async def _take_up_what_is_due(self) -> None:
        while True:
            now = self.clock.now()
            while self._plan and self._plan[0] <= now:
                heapq.heappop(self._plan)
            self._look_at = min([now + self._beat, *self._plan[:1]])
            try:
                if self._all or self._mine:
                    await self._take_up(now)
            except StoreUnavailable:
                _log.warning("store_unavailable")
                self._look(now + self._beat / 2)
            # Whatever wakes it is in the plan already.
            self._wake.clear()
            while (seconds := self._look_at - self.clock.now()) > 0:
                await self.clock.wait(seconds, self._wake)
                self._wake.clear()

    async def _take_up(self, now: float) -> None:
        """Drive what is due, and plan the next look."""
        limit = AT_ONCE
        while True:
            due = await self.store.due(self.owner, at=now, limit=limit)
            wanted = [i for i in due if self._is_wanted(i)]
            if wanted or len(due) < limit:
                break
            # Nothing but what others have begun, or what is driven here already: look behind it.
            limit *= 4
        tried = await asyncio.gather(
            *(self._drive(relaunch_id) for relaunch_id in wanted), return_exceptions=True
        )
        for failed in tried:
            if failed is not None:
                raise failed
        if len(due) == limit:
            self._look(now)
            return
        self._give_up(self._gone_from_here(due, now))
        if now >= self._asked_at + self._beat:
            # What is held here is in the plan; this is about what others have let go.
            self._asked_at = now
            next_due = await self.store.next_due(self.owner, after=now)
            if next_due is not None:
                self._look(next_due)

    def _gone_from_here(self, due: Iterable[str], now: float) -> list[str]:
        """Parked runs that should be due by now: they are not, so another process has them."""
        free = {*due, *self._claiming}
        return [
            relaunch_id
            for relaunch_id, wake_at in self._held.items()
            if wake_at <= now and relaunch_id not in free and relaunch_id not in self._driving
        ]

    def _give_up(self, relaunch_ids: Iterable[str]) -> None:
        for relaunch_id in relaunch_ids:
            self._held.pop(relaunch_id, None)
            self._tell_followers(relaunch_id)

    def _is_wanted(self, relaunch_id: str) -> bool:
        return self._is_free(relaunch_id) and (self._all or relaunch_id in self._mine)

    def _is_free(self, relaunch_id: str) -> bool:
        """Whether the run is neither driven here, nor about to be, nor never to be again."""
        going = relaunch_id in self._driving or relaunch_id in self._claiming
        return not going and relaunch_id not in self._broken

    async def _drive(self, relaunch_id: str) -> None:
        if not self._is_free(relaunch_id):
            return  # it has been begun since
        self._claiming.add(relaunch_id)
        try:
            stored = await self.store.claim(relaunch_id, self.owner, at=self.clock.now())
        except UnknownRelaunch:
            stored = None
        finally:
            self._claiming.discard(relaunch_id)
        if stored is None:
            self._give_up((relaunch_id,))
            return
        self._begin(stored)

    def _begin(self, stored: StoredRun) -> None:
        """Drive a run whose lease is held here."""
        relaunch_id = stored.run.relaunch_id
        self._held[relaunch_id] = math.inf
        driven = Driven(
            stored,
            self._parts,
            park_after=self._park_after,
            stepped=lambda: self._tell_followers(relaunch_id),
        )
        task = self._driving.begin(relaunch_id, driven)
        task.add_done_callback(lambda done: self._driven(relaunch_id, driven, done))

    def _driven(self, relaunch_id: str, driven: Driven, task: asyncio.Task[None]) -> None:
        # An end that could not be recorded any more is none: another process goes on with the run.
        ended = driven.run_ended and not driven.lost
        if ended or driven.lost:
            self._held.pop(relaunch_id, None)
        if ended:
            self._mine.discard(relaunch_id)
        elif task.cancelled() or task.exception() is not None:
            self._failed(relaunch_id, task)
        elif not driven.lost:
            self._held[relaunch_id] = driven.wake_at
            self._look(driven.wake_at)
            return  # parked, each step told
        self._tell_followers(relaunch_id)

    def _failed(self, relaunch_id: str, task: asyncio.Task[None]) -> None:
        """A driver that broke by a bug of ours: this process does not try that run again."""
        if not task.cancelled():
            error = type(task.exception()).__name__
            _log.error("driver_failed", relaunch_id=relaunch_id, reason=error)
            self._held.pop(relaunch_id, None)
            self._mine.discard(relaunch_id)
            self._broken.add(relaunch_id)

    async def _end_or_change(self, relaunch_id: str, follower: Follower) -> None:
        while relaunch_id in self._driving:
            if await self._driving.ended(relaunch_id):
                return
        await super()._end_or_change(relaunch_id, follower)

    def _changed(self, relaunch_id: str | None) -> None:
        super()._changed(relaunch_id)
        self._driving.deliver(None if relaunch_id is None else (relaunch_id,))
        if relaunch_id not in self._driving and (self._all or self._mine):
            self._asked_at = -math.inf
            self._look(self.clock.now())
