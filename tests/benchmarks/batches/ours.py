"""Ours: ``reset_many`` on an SQLite store behind the gate; and one relaunch after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from orchestrator import AsyncRelauncher
from orchestrator.batch.requests import Row
from orchestrator.batch.resetting import reset_many
from orchestrator.clocks import AsyncSystemClock
from orchestrator.durable import SQLiteRunStore
from orchestrator.durable.batches import Pace
from orchestrator.ports import AsyncClock
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.traffic import Gate, Limits, PolitePlatform
from tests.benchmarks.batches.school import KEY, Learner


class Busy:
    """Whether the thread of a store is at work: virtual time stands still meanwhile."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self) -> bool:
        return self._calls > 0

    def watch(self, store: SQLiteRunStore) -> None:
        """Count what is asked of it."""
        thread: Any = store._thread
        submit = thread._submit

        def counted(call: Any) -> Any:
            self._calls += 1
            future = submit(call)
            future.add_done_callback(self._answered)
            return future

        thread._submit = counted

    def _answered(self, future: object) -> None:
        self._calls -= 1


def client_of(
    base_url: str, transport: httpx.AsyncBaseTransport | None, clock: AsyncClock
) -> AsyncSkillableClient:
    """The client of the platform, over HTTP or straight."""
    return AsyncSkillableClient(
        KEY, base_url=base_url, transport=transport, allow_http=True, now=clock.now
    )


async def batch(
    everybody: list[Learner],
    *,
    client: AsyncSkillableClient,
    file: Path,
    at_a_time: int,
    limits: Limits,
    clock: AsyncClock | None = None,
    watch: Callable[[SQLiteRunStore], None] = lambda store: None,
) -> Counter[str]:
    """Reset the class; how many ended in which way."""
    clock = clock or AsyncSystemClock()
    store = SQLiteRunStore(file)
    watch(store)
    ended: Counter[str] = Counter()
    platform = PolitePlatform(
        AsyncSkillablePlatform(client), Gate(store, limits=limits, clock=clock)
    )
    rows = [Row(user_id=x.user_id, lab_profile_id=x.wants) for x in everybody]
    async with client, AsyncRelauncher(platform, store=store, clock=clock) as relauncher:
        pace = Pace(concurrency=at_a_time)
        async for outcome in reset_many(relauncher, rows, pace=pace):
            ended[outcome.result.reason or outcome.result.outcome] += 1
    await store.close()
    return ended


async def one_by_one(
    everybody: list[Learner], *, client: AsyncSkillableClient, clock: AsyncClock
) -> Counter[str]:
    """A loop over single relaunches, each to its end before the next."""
    ended: Counter[str] = Counter()
    async with client:
        relauncher = AsyncRelauncher(AsyncSkillablePlatform(client), clock=clock)
        for learner in everybody:
            outcome = await relauncher.relaunch(learner.user_id, learner.wants)
            ended[outcome.reason or outcome.outcome] += 1
    return ended
