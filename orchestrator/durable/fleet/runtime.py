"""The runtime of a process whose store has a fleet: it starts and follows; its workers drive.

Who drives a run, and who is dead, is the queue's business (:mod:`orchestrator.durable.fleet`);
whoever gets a run's job takes its lease over. Nothing is parked: a worker holds its runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from orchestrator.durable.driver import Driven, Parts
from orchestrator.durable.driving import GRACE, Driving, owner_name
from orchestrator.durable.fleet.queue import Fleet
from orchestrator.durable.following import Follower
from orchestrator.durable.postgres.store import PostgresRunStore
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.store import Filter, StoredRun
from orchestrator.errors import ConfigurationError, StoreUnavailable, UnknownRelaunch


class FleetRuntime(Runtime):
    """See the module's docstring."""

    def __init__(self, parts: Parts, *, owner: str | None = None) -> None:
        super().__init__(parts.store, parts.clock, parts.on_end)
        if not isinstance(parts.store, PostgresRunStore):
            raise ConfigurationError("store: a fleet needs a PostgresRunStore.")
        self.owner = owner or owner_name()
        self._parts = parts
        self._driving = Driving(parts.store, parts.clock)
        self._fleet = Fleet(
            parts.store,
            self._drive,
            concurrency=parts.worker.concurrency,
            heartbeat_seconds=parts.worker.heartbeat_seconds,
            stalled_after_seconds=parts.worker.stalled_after_seconds,
        )
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Open the store and the queue."""
        async with self._opening:
            await super().open()
            await self._fleet.open()

    async def close(self, *, grace: float = GRACE) -> None:
        """Let go of the queue; what is unfinished, the workers drive."""
        await self._fleet.close()
        await super().close(grace=grace)

    async def work(self) -> None:
        """Be a worker of the fleet, until cancelled; then hand over what is being driven."""
        await self.open()
        await self._fleet.work()

    async def resume_all(self) -> tuple[StoredRun, ...]:
        """Every unfinished run; it is the workers who take them up."""
        await self.open()
        return await self.store.history(Filter(unfinished=True, limit=1_000_000))

    def drives(self, relaunch_id: str) -> bool:
        """Whether the run is being driven in this process right now."""
        return relaunch_id in self._driving

    def knows(self, relaunch_id: str) -> bool:
        """Likewise: nothing is parked."""
        return self.drives(relaunch_id)

    def _reached(self, relaunch_ids: Iterable[str]) -> None:
        self._driving.deliver(relaunch_ids)

    async def _drive(self, relaunch_id: str) -> None:
        """A run's job: drive it to its end."""
        try:
            stored = await self.store.claim(
                relaunch_id, self.owner, at=self.clock.now(), take_over=True
            )
        except UnknownRelaunch:
            return
        if stored is None:
            return
        driven = Driven(stored, self._parts, stepped=lambda: self._tell_followers(relaunch_id))
        task = self._driving.begin(relaunch_id, driven)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._driving.leave((relaunch_id,), GRACE)
            with contextlib.suppress(StoreUnavailable):
                await self.store.release(relaunch_id, stored.epoch)
            raise
        if driven.lost:
            # This worker was taken for dead, and the job is another's now: it is not ours to end.
            await self.outcome(relaunch_id)

    async def _end_or_change(self, relaunch_id: str, follower: Follower) -> None:
        if relaunch_id in self._driving and await self._driving.ended(relaunch_id):
            return
        await super()._end_or_change(relaunch_id, follower)

    def _changed(self, relaunch_id: str | None) -> None:
        super()._changed(relaunch_id)
        reached: Iterable[str] | None = None if relaunch_id is None else (relaunch_id,)
        self._driving.deliver(reached)
