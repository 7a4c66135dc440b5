"""What a press costs: the same relaunches on the same store, by the library and over HTTP.

``python -m tests.benchmarks.service.pressing HOW NUMBER``, in a process of its own: tells its port,
and when it is told to go (by a line on standard input), ``library`` begins the relaunches itself
and follows each; ``service`` is sent them. At the end of standard input it tells its CPU seconds
and the bytes of memory that it had at most.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator import AsyncRelauncher, Policy, Schedules
from orchestrator.durable import SQLiteRunStore
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.learner_tokens import LearnerTokens
from orchestrator.service.app import create_app
from orchestrator.service.parts import ServiceParts
from orchestrator.service.server import listen, server_of, serving
from orchestrator.testing import Async
from orchestrator.waiting import FixedSchedule
from tests.benchmarks.durability.platform import NEW, Platform
from tests.service.crowd import SECRET, most_memory, press

#: Seconds of a teardown, and after which one looks: relaunches are parked, as in real ones.
TEARDOWN, LOOK = 2.1, 2.4
WARM_UP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Milliseconds of CPU for one relaunch, and bytes of memory at most."""

    cpu: float
    memory: float


async def child(how: str, number: int, folder: Path) -> None:
    """See the module's docstring."""
    platform = Platform(teardown_seconds=TEARDOWN)
    for n in range(number + WARM_UP):
        platform.give(f"user-{n}")
    store = SQLiteRunStore(folder / "relaunches.db")
    relauncher = AsyncRelauncher(
        Async(platform),
        store=store,
        policy=Policy(deadline_seconds=86_400),
        schedules=Schedules(teardown=FixedSchedule(LOOK)),
    )
    parts = ServiceParts(
        relauncher=relauncher,
        platform=Async(platform),
        store=store,
        authority=Authority(tokens=LearnerTokens(secret=SECRET)),
    )

    async def one(n: int) -> None:
        handle = relauncher.start(f"user-{n}", NEW)
        async for _ in handle.events():
            pass

    listening = listen("127.0.0.1", 0)
    server = server_of(create_app(parts), parts, proxies=[])
    async with relauncher, serving(server, listening):
        print(listening.getsockname()[1], flush=True)
        for numbers in (range(WARM_UP), range(WARM_UP, number + WARM_UP)):
            await asyncio.to_thread(sys.stdin.readline)
            before = time.process_time()
            if how == "library":
                await asyncio.gather(*(one(n) for n in numbers))
            print("done", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        used = time.process_time() - before
        print(json.dumps([used, most_memory(os.getpid())]), flush=True)
    await store.close()


def measure(how: str, number: int) -> Found:
    """One measurement."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.service.pressing", how, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            for numbers in (range(WARM_UP), range(WARM_UP, number + WARM_UP)):
                process.stdin.write("go\n")
                process.stdin.flush()
                process.stdout.readline()
                if how == "service":
                    asyncio.run(_all_press(url, numbers))
            process.stdin.close()
            used, memory = json.loads(process.stdout.readline())
        finally:
            process.kill()
    return Found(cpu=used / number * 1000, memory=memory)


async def _all_press(url: str, numbers: range) -> None:
    pressed = await asyncio.gather(*(press(url, f"user-{n}", NEW) for n in numbers))
    for one in pressed:
        if one.events[-1][2]["outcome"] != "launched":
            raise RuntimeError(one.events[-1])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pressing") as place:
        asyncio.run(child(sys.argv[1], int(sys.argv[2]), Path(place)))
