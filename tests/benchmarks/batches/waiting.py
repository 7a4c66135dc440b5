"""What a learner who waits weighs.

``python -m tests.benchmarks.batches.waiting LEARNERS AT_A_TIME``: a batch is carried out on a
platform whose teardowns never end, until so many learners wait for theirs; the rest wait to be
begun. Writes the bytes that the process has grown by.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator import AsyncRelauncher, Policy, Schedules
from orchestrator.batch.requests import Row
from orchestrator.batch.resetting import reset_many
from orchestrator.durable import SQLiteRunStore
from orchestrator.durable.batches import Pace
from orchestrator.testing import Async
from orchestrator.waiting import FixedSchedule
from tests.benchmarks.durability.platform import NEW, Platform
from tests.benchmarks.durability.usage import memory

#: Seconds that nothing in here lasts.
LONG = 3600.0
#: Learners before the first that is weighed, and seconds for the last ones to come to rest.
WARM_UP, REST = 20, 3.0


async def weigh(learners: int, at_a_time: int, *, rest: float = REST) -> int:
    """Bytes."""
    platform = Platform(teardown_seconds=float("inf"))
    users = [f"learner-{n}" for n in range(WARM_UP + learners)]
    for user_id in users:
        platform.give(user_id)
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteRunStore(Path(folder) / "relaunches.db")
        relauncher = AsyncRelauncher(
            Async(platform),
            store=store,
            policy=Policy(deadline_seconds=LONG),
            schedules=Schedules(teardown=FixedSchedule(LONG)),
        )
        async with relauncher:
            await _until_so_many_wait(relauncher, platform, users[:WARM_UP], WARM_UP, rest)
            before = memory()
            await _until_so_many_wait(relauncher, platform, users[WARM_UP:], at_a_time, rest)
            grown = memory() - before
            for task in _carrying:
                task.cancel()
            await asyncio.wait(_carrying)
        await store.close()
    return grown


_carrying: list[asyncio.Task[None]] = []


async def _until_so_many_wait(
    relauncher: AsyncRelauncher, platform: Platform, users: list[str], most: int, rest: float
) -> None:
    goal = platform.cancelled + min(most, len(users))

    async def carry_out() -> None:
        rows = (Row(user_id=user_id, lab_profile_id=NEW) for user_id in users)
        async for outcome in reset_many(relauncher, rows, pace=Pace(concurrency=most)):
            raise AssertionError(f"nothing ends here: {outcome}")

    _carrying.append(asyncio.create_task(carry_out()))
    while platform.cancelled < goal:
        await asyncio.wait(_carrying, timeout=0.1)
        for task in _carrying:
            if task.done():
                task.result()
    await asyncio.sleep(rest)


def weighed(learners: int, at_a_time: int, *, patience: float = 300.0) -> int:
    """:func:`weigh` in a process of its own: one that has freed much does not grow."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.batches.waiting", f"{learners}", f"{at_a_time}"],
        stdout=subprocess.PIPE,
        timeout=patience,
        text=True,
        check=True,
    )
    return int(done.stdout)


if __name__ == "__main__":
    print(asyncio.run(weigh(int(sys.argv[1]), int(sys.argv[2]))))
