"""The process that is killed, and the ones that go on with what it has left.

A point is a call of the store or the platform, which of them, and the moment before or after it:
``append:5:before``, ``launch:1:after``. All of it happens in forked processes that have imported
everything already.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import Policy, Schedules
from orchestrator.clocks import AsyncSystemClock
from orchestrator.durable.driver import Parts, WorkerOptions
from orchestrator.durable.embedded import EmbeddedRuntime
from orchestrator.durable.engines import runtime_of
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import RunStore
from orchestrator.requests import new_run
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.waiting import FixedSchedule, SequenceSchedule
from tests.world import KEY, NEW_LAB

T = TypeVar("T")

#: What is counted and killed at: the journal's writes, and every request of a relaunch.
STORE, PLATFORM = ("create", "claim", "append"), ("survey", "launch", "inspect", "cancel")

#: Seconds after which a silent process counts as dead.
LEASE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a process is to do: relaunch for these learners (``works``: whatever is unfinished).

    It dies at ``point``; without one it leaves the points that it has passed in ``passed``, a file.
    """

    store: str
    platform: str
    learners: tuple[str, ...]
    works: bool = False
    point: str | None = None
    passed: Path | None = None


def carry_out(orders: Orders) -> None:
    """The whole life of a process."""
    asyncio.run(_Life(orders).live())


class _Life:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._calls: Counter[str] = Counter()
        self._passed: list[str] = []

    async def live(self) -> None:
        orders = self._orders
        learners: dict[str, list[str]] = {}
        for learner in orders.learners:
            learners.setdefault(consumer_of(orders.store, learner), []).append(learner)
        async with AsyncSkillableClient(KEY, base_url=orders.platform) as client:
            platform = AsyncSkillablePlatform(client)
            self._make_deadly(platform, PLATFORM)
            await asyncio.gather(
                *(self._drive(platform, consumer, some) for consumer, some in learners.items())
            )
        if orders.passed is not None:
            orders.passed.write_text("\n".join(self._passed))

    async def _drive(
        self, platform: AsyncSkillablePlatform, consumer: str, learners: list[str]
    ) -> None:
        store = open_store(self._orders.store, consumer)
        self._make_deadly(store, STORE)
        runtime = _runtime(store, platform)
        working = asyncio.create_task(runtime.work()) if store.engine == "fleet" else None
        if self._orders.works:
            ids = [stored.run.relaunch_id for stored in await runtime.resume_all()]
        else:
            ids = [await self._ask(runtime, learner) for learner in learners]
        await asyncio.gather(*(runtime.outcome(relaunch_id) for relaunch_id in ids))
        if working is not None:
            working.cancel()
            await asyncio.wait([working])
        await runtime.close()
        await store.close()

    def _make_deadly(self, port: object, names: tuple[str, ...]) -> None:
        for name in names:
            setattr(port, name, self._deadly(name, getattr(port, name)))

    async def _ask(self, runtime: Runtime, learner: str) -> str:
        policy = Policy(deadline_seconds=60.0)
        run = new_run(learner, NEW_LAB, policy, {}, runtime.clock.now())
        return (await runtime.start(run, key=learner)).stored.run.relaunch_id

    def _deadly(self, name: str, call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def counted(*args: Any, **options: Any) -> T:
            self._calls[name] += 1
            number = self._calls[name]
            self._pass(f"{name}:{number}:before")
            answer = await call(*args, **options)
            self._pass(f"{name}:{number}:after")
            return answer

        return counted

    def _pass(self, point: str) -> None:
        self._passed.append(point)
        if point == self._orders.point:
            os.kill(os.getpid(), signal.SIGKILL)


def consumer_of(store: str, learner: str) -> str:
    """Whose API consumer a learner is. A fleet's worker drives whatever there is for its consumer;
    so that each dies at a point of the run that is meant, it has one of its own there.
    """
    return learner if "://" in store else "default"


def open_store(where: str, consumer: str) -> Any:
    """The store that a path or a URL names."""
    if "://" not in where:
        return SQLiteRunStore(where, consumer=consumer)
    from orchestrator.durable.postgres import PostgresRunStore

    return PostgresRunStore(where, consumer=consumer)


def _runtime(store: RunStore, platform: AsyncSkillablePlatform) -> Runtime:
    parts = Parts(
        store=store,
        platform=platform,
        steps={"cancel": platform.cancel, "save": platform.save},
        clock=AsyncSystemClock(),
        schedules=Schedules(
            teardown=FixedSchedule(0.3), settle=SequenceSchedule((0.1, 0.2, 0.3, 0.4))
        ),
        worker=WorkerOptions(heartbeat_seconds=LEASE / 4, stalled_after_seconds=LEASE),
    )
    if store.engine == "fleet":
        return runtime_of(parts)
    # Each wait of the teardown is parked, so that there are claims to die at.
    return EmbeddedRuntime(parts, park_after=0.1, lease=LEASE, beat=LEASE / 4)
