"""A worker to be killed: ``python -m tests.crash.killed_worker STORE BASE_URL``.

It is put together as the command line's is, with a gate that all workers share. It is impatient: it
looks often, and not for long for what a lost call has done, as the platform here does that at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import retry, retry_if_exception_type, wait_fixed

from orchestrator import AsyncRelauncher, Schedules
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import RunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.ports import AsyncPlatform
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.traffic import Gate, PolitePlatform
from orchestrator.waiting import FixedSchedule

T = TypeVar("T")

KEY = "sandbox-key"


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """What the call returns, once the store is there."""

    @retry(retry=retry_if_exception_type(StoreUnavailable), wait=wait_fixed(0.2))
    async def again() -> T:
        return await call()

    return await again()


def store_at(place: str) -> RunStore:
    """The store at a URL of PostgreSQL, or in a file."""
    if not place.startswith("postgresql:"):
        return SQLiteRunStore(place)
    from orchestrator.durable.postgres import PostgresRunStore

    return PostgresRunStore(place)


def relauncher_for(store: RunStore, platform: AsyncPlatform) -> AsyncRelauncher:
    """A process's relauncher."""
    return AsyncRelauncher(
        PolitePlatform(platform, Gate(store)),
        schedules=Schedules(
            teardown=FixedSchedule(1.0),
            backoff=FixedSchedule(1.0),
            settle=FixedSchedule(0.5),
        ),
        store=store,
    )


async def main(place: str, base_url: str) -> None:
    """Work until killed."""
    async with AsyncSkillableClient(KEY, base_url=base_url, allow_http=True) as client:
        relauncher = relauncher_for(store_at(place), AsyncSkillablePlatform(client))
        # One that begins while the store is away ends, and would be started again.
        await patiently(relauncher.work)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
