"""Another process that gets the webhook: ``python -m tests.benchmarks.durability.announcer STORE``.

Reads lab instance ids, one a line, and announces each at once; writes the moment before (by the
monotonic clock, which is the machine's). ``STORE`` is an SQLite file or a PostgreSQL URL.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from orchestrator import AsyncRelauncher
from orchestrator.durable import RunStore, SQLiteRunStore
from orchestrator.testing import Async
from tests.benchmarks.durability.platform import Platform


async def main(store: RunStore) -> None:
    """Announce until there is nothing more to read."""
    async with AsyncRelauncher(Async(Platform(teardown_seconds=0)), store=store) as relauncher:
        await relauncher.announce(1)  # nobody's: now everything is open and warm
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(time.monotonic(), flush=True)
            await relauncher.announce(int(line))
    await store.close()


def store_of(where: str) -> RunStore:
    """The store that is named."""
    if not where.startswith("postgresql:"):
        return SQLiteRunStore(Path(where))
    from orchestrator.durable.postgres import PostgresRunStore

    return PostgresRunStore(where)


if __name__ == "__main__":
    asyncio.run(main(store_of(sys.argv[1])))
