"""A class in virtual time: learners with labs on the sandbox, and processes that reset them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from orchestrator import AsyncRelauncher, Policy, Schedules
from orchestrator.batch.carrying_out import BatchRun
from orchestrator.batch.outcomes import ItemOutcome
from orchestrator.batch.requests import Row, batch_of
from orchestrator.batch.resetting import begin
from orchestrator.durable.batches import Batch, Pace
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.store import RunStore
from orchestrator.sandbox import Sandbox, SandboxTransport
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import VirtualClock
from orchestrator.traffic import Gate, Limits, PolitePlatform
from orchestrator.waiting import FixedSchedule
from tests.world import EXAM, NEW_LAB, OLD_LAB

__all__ = ["EXAM", "NEW_LAB", "OLD_LAB", "Classroom", "name"]

KEY = "sandbox-key"


def name(number: int) -> str:
    """A learner."""
    return f"learner-{number}"


class Distant(SandboxTransport):
    """The sandbox, a twentieth of a second away."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.05)
        return await super().handle_async_request(request)


class Classroom:
    """A class of ``learners``, each with a lab that runs; belongs to one virtual loop."""

    def __init__(
        self, learners: int, *, store: RunStore | None = None, lab: int = OLD_LAB, **sandbox: Any
    ) -> None:
        self.clock = VirtualClock()
        self.sandbox = Sandbox(now=self.clock.now, **({"teardown": "fixed:30"} | sandbox))
        self.store = store or MemoryRunStore()
        self.learners = [name(number) for number in range(learners)]
        for user in self.learners:
            self.sandbox.world.give(user, lab)

    def process(self, *, key: str = KEY, **options: Any) -> AsyncRelauncher:
        """A process that drives relaunches."""
        client = AsyncSkillableClient(key, transport=Distant(self.sandbox), now=self.clock.now)
        gate = Gate(self.store, limits=Limits(), clock=self.clock, jitter=lambda: 0.5)
        return AsyncRelauncher(
            PolitePlatform(AsyncSkillablePlatform(client), gate),
            store=self.store,
            clock=self.clock,
            schedules=Schedules(teardown=FixedSchedule(5.0)),
            **options,
        )

    def rows(self, lab: int = NEW_LAB) -> list[Row]:
        """Every learner, and the lab that they are to have."""
        return [Row(user_id=user, lab_profile_id=lab) for user in self.learners]

    async def batch(
        self, rows: list[Row] | None = None, *, policy: Policy | None = None, **pace: Any
    ) -> Batch:
        """A batch that nobody carries out yet."""
        batch, items = batch_of(
            self.rows() if rows is None else rows,
            policy=policy or Policy(),
            consumer=self.store.consumer,
            at=self.clock.now(),
            pace=Pace(**pace),
        )
        await self.store.open()
        stored, _ = await begin(self.store, batch, items)
        return stored

    @asynccontextmanager
    async def carrying(self, batch: Batch, **options: Any) -> AsyncIterator[Carrying]:
        """A process that carries a batch out; at the end of the block it is gone."""
        carrying = Carrying(self, batch, **options)
        try:
            yield carrying
        finally:
            await carrying.vanish()

    async def carry_out(self, batch: Batch, **options: Any) -> Carrying:
        """Carry a batch out to its end, by one process."""
        async with self.carrying(batch, **options) as carrying:
            await carrying.end()
        return carrying

    def launched(self, user_id: str) -> int:
        """How many labs were launched for a learner."""
        return len(self.sandbox.ledger.launches(user_id))

    def each_once(self) -> bool:
        """Whether each learner has had exactly one launch, one cancel, and never two labs."""
        ledger = self.sandbox.ledger
        return all(
            self.launched(user) == 1 and ledger.max_alive(user) == 1 for user in self.learners
        ) and len(ledger.cancels()) == len(self.learners)


class Carrying:
    """A process that carries a batch out in the background."""

    def __init__(self, classroom: Classroom, batch: Batch, **process: Any):
        self._clock = classroom.clock
        self.relauncher = classroom.process(**process)
        self.run = BatchRun(self.relauncher, batch)
        self.outcomes: list[ItemOutcome] = []
        #: The most that were in flight at a moment when one ended.
        self.most = 0
        self._task = asyncio.create_task(self._go())

    async def _go(self) -> None:
        async for outcome in self.run.outcomes():
            self.outcomes.append(outcome)
            self.most = max(self.most, self.run.standing().in_flight + 1)

    async def end(self) -> None:
        """Until there is nothing to do any more."""
        await self._task

    async def until_ended(self, number: int) -> None:
        """Until so many items have ended."""
        while len(self.outcomes) < number:
            assert not self._task.done(), "it has ended before"
            await asyncio.sleep(0.1)

    async def vanish(self) -> None:
        """Die without a farewell: what is in flight stays as it is stored."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self.relauncher.aclose(grace=0)

    def told(self) -> dict[str, str]:
        """What came of each learner."""
        return {o.item.user_id: o.result.reason or o.result.outcome for o in self.outcomes}
