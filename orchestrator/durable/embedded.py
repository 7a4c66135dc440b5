"""The embedded runtime: one asyncio loop drives the runs of the store that this process shares.

* A run is driven by whoever holds its lease. This process says that it lives every
  :data:`BEAT` seconds; what a silent process held is free :data:`LEASE` seconds later.
* A run that waits for long is parked: it costs a row in the store, and nothing here.
* It drives the runs that were started or attached here; after :meth:`resume_all` every run of the
  store that nobody living drives, each at the moment it is due.
* At its end it lets calls that are under way come to their answer, and leaves the runs to others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Iterable

from orchestrator.durable.driver import Driven, Parts
from orchestrator.durable.driving import GRACE, Driving
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.store import Filter, StoredRun
from orchestrator.errors import StoreUnavailable, UnknownRelaunch
from orchestrator.logs import get_logger

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
        self, parts: Parts, *, owner: str | None = None, park_after: float = PARK_AFTER
    ) -> None:
        super().__init__(parts.store, parts.clock)
        self.owner = owner or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._parts = parts
        self._park_after = park_after
        self._driving = Driving(parts.store, parts.clock)
        #: Runs to be seen to an end here; those that others began only after resume_all().
        self._mine: set[str] = set()
        #: Runs whose lease this process has, driven or parked.
        self._held: set[str] = set()
        self._broken: set[str] = set()
        self._all = False
        self._working: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._look_at = 0.0
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Open the store, say that this process lives, and begin to drive."""
        await super().open()
        async with self._opening:
            if self._working is not None:
                return
            await self.store.beat(self.owner, until=self.clock.now() + LEASE)
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
        self._look(self.clock.now())
        return await self.store.history(Filter(unfinished=True, limit=1_000_000))

    def see_to(self, stored: StoredRun) -> None:
        """Drive the run from this process, as soon as nobody else living does."""
        if stored.finished_at is None:
            self._mine.add(stored.run.relaunch_id)
            self._look(self.clock.now())

    def knows(self, relaunch_id: str) -> bool:
        """Whether this process has the run's lease."""
        return relaunch_id in self._held

    @property
    def in_memory(self) -> int:
        """How many runs are being driven in this process right now, parked ones left out."""
        return len(self._driving)

    async def hint(self, lab_instance_id: int) -> bool:
        """Store that an instance seems torn down, and wake who waits for it."""
        await self.open()
        hit = await self.store.hint(lab_instance_id, at=self.clock.now())
        self._reached(hit)
        return bool(hit)

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
        if at < self._look_at:
            self._look_at = at
            self._wake.set()

    async def _work(self) -> None:
        alive_until = self.clock.now() + LEASE
        beat_at = self.clock.now() + BEAT
        while True:
            now = self.clock.now()
            if now >= alive_until:
                # Silent for too long: others may have taken what was held here.
                self._held.clear()
                self._changed(None)
            self._look_at = now + LEASE
            try:
                if now >= beat_at:
                    await self.store.beat(self.owner, until=now + LEASE)
                    alive_until, beat_at = now + LEASE, now + BEAT
                if self._all or self._mine:
                    await self._take_up(now)
            except StoreUnavailable:
                _log.warning("store_unavailable")
                self._look(now + BEAT / 2)
            # Whatever woke it so far is in the plan already.
            self._wake.clear()
            next_at = min(self._look_at, beat_at)
            await self.clock.wait(max(0.0, next_at - self.clock.now()), self._wake)

    async def _take_up(self, now: float) -> None:
        """Drive what is due, and plan the next look."""
        due = await self.store.due(self.owner, at=now, limit=AT_ONCE)
        wanted = [i for i in due if self._is_wanted(i)]
        await asyncio.gather(*(self._drive(relaunch_id) for relaunch_id in wanted))
        if len(due) == AT_ONCE and wanted:
            self._look(now)
            return
        next_due = await self.store.next_due(self.owner, after=now)
        if next_due is not None:
            self._look(next_due)

    def _is_wanted(self, relaunch_id: str) -> bool:
        if relaunch_id in self._driving or relaunch_id in self._broken:
            return False
        return self._all or relaunch_id in self._mine

    async def _drive(self, relaunch_id: str) -> None:
        try:
            stored = await self.store.claim(relaunch_id, self.owner, at=self.clock.now())
        except UnknownRelaunch:
            stored = None
        if stored is None:
            return
        self._held.add(relaunch_id)
        driven = Driven(
            stored,
            self._parts,
            park_after=self._park_after,
            stepped=lambda: self._tell_followers(relaunch_id),
        )
        task = self._driving.begin(relaunch_id, driven)
        task.add_done_callback(lambda done: self._driven(relaunch_id, driven, done))

    def _driven(self, relaunch_id: str, driven: Driven, task: asyncio.Task[None]) -> None:
        if driven.run_ended or driven.lost:
            self._held.discard(relaunch_id)
        if driven.run_ended:
            self._mine.discard(relaunch_id)
        elif task.cancelled() or task.exception() is not None:
            self._failed(relaunch_id, task)
        elif not driven.lost:
            self._look(driven.wake_at)
        self._tell_followers(relaunch_id)

    def _failed(self, relaunch_id: str, task: asyncio.Task[None]) -> None:
        """A driver that broke by a bug of ours: this process does not try that run again."""
        if not task.cancelled():
            error = type(task.exception()).__name__
            _log.error("driver_failed", relaunch_id=relaunch_id, reason=error)
            self._held.discard(relaunch_id)
            self._mine.discard(relaunch_id)
            self._broken.add(relaunch_id)

    async def _end_or_change(self, relaunch_id: str, changed: asyncio.Event) -> None:
        while relaunch_id in self._driving:
            if await self._driving.ended(relaunch_id):
                return
        await super()._end_or_change(relaunch_id, changed)

    def _changed(self, relaunch_id: str | None) -> None:
        super()._changed(relaunch_id)
        self._driving.deliver(None if relaunch_id is None else (relaunch_id,))
        if relaunch_id not in self._driving and (self._all or self._mine):
            self._look(self.clock.now())
