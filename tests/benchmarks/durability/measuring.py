"""One measurement of one engine, in a process of its own.

``python -m tests.benchmarks.durability.measuring ENGINE WHAT`` with the sizes as JSON on standard
input; writes what was found as JSON. ``ENGINE`` is one of :data:`ENGINES`, ``WHAT`` one of
:data:`MEASUREMENTS`.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.durability.engines import Bare, Engine, Postgres, SQLite
from tests.benchmarks.durability.peers import Dbos, Restate
from tests.benchmarks.durability.platform import Platform
from tests.benchmarks.durability.usage import memory, usage

#: Seconds that the platform takes for a teardown, and after which one looks: long enough for the
#: embedded runtime to park a relaunch, as in every real teardown.
TEARDOWN, LOOK = 2.1, 2.4
#: A wait that nothing but a hint ends.
LONG = 3600.0
#: Relaunches before the first that is measured.
WARM_UP = 20

ENGINES = ("bare", "sqlite", "postgres", "dbos", "restate")

Found = dict[str, Any]


def engine_of(
    name: str, platform: Platform, wait: float, folder: Path, url: str | None, *, hinted: bool
) -> Engine:
    """The engine of that name; ``url`` is an empty database of PostgreSQL."""
    match name:
        case "bare":
            return Bare(platform, wait)
        case "sqlite":
            return SQLite(platform, wait, folder / "relaunches.db")
        case "postgres":
            return Postgres(platform, wait, url or "")
        case "dbos":
            return Dbos(platform, wait, url or "", hinted=hinted)
        case _:
            return Restate(platform, wait, folder, hinted=hinted)


async def burst(name: str, folder: Path, url: str | None, number: int) -> Found:
    """Whole relaunches, all begun at once."""
    platform = Platform(teardown_seconds=TEARDOWN)
    async with engine_of(name, platform, LOOK, folder, url, hinted=False) as engine:
        await _whole(engine, _learners(platform, "warm", WARM_UP))
        users = _learners(platform, "user", number)
        before = usage(engine.server)
        await _whole(engine, users)
        used = usage(engine.server) - before
        everything = number + WARM_UP
        return {
            "client": used.client / number * 1000,
            "server": used.server / number * 1000,
            "rate": number / (used.wall - LOOK),
            "kept": {
                what: (size / everything, rows / everything)
                for what, (size, rows) in engine.kept().items()
            },
        }


async def stream(name: str, folder: Path, url: str | None, number: int, rate: float) -> Found:
    """Whole relaunches, begun one by one, ``rate`` a second."""
    platform = Platform(teardown_seconds=TEARDOWN)
    async with engine_of(name, platform, LOOK, folder, url, hinted=False) as engine:
        await _whole(engine, _learners(platform, "warm", WARM_UP))
        going = []
        before = usage(engine.server)
        for n, user_id in enumerate(_learners(platform, "user", number)):
            await asyncio.sleep(max(0.0, before.wall + n / rate - time.monotonic()))
            going.append(asyncio.create_task(engine.relaunch(user_id)))
        await asyncio.gather(*going)
        used = usage(engine.server) - before
        return {"client": used.client / number * 1000, "server": used.server / number * 1000}


async def hints(name: str, folder: Path, url: str | None, number: int, pause: float) -> Found:
    """Milliseconds from the hint to the launch, given here and by another process."""
    platform = Platform(teardown_seconds=math.inf)
    found: Found = {}
    async with engine_of(name, platform, LONG, folder, url, hinted=True) as engine:
        found["here"] = await _hinted(platform, engine, "here", number, pause, engine.hint)
        if name in ("sqlite", "postgres"):
            where = str(folder / "relaunches.db") if name == "sqlite" else url or ""
            async with _Announcer(where) as announcer:
                found["elsewhere"] = await _hinted(
                    platform, engine, "elsewhere", number, pause, announcer.hint
                )
    return found


async def _hinted(
    platform: Platform,
    engine: Engine,
    names: str,
    number: int,
    pause: float,
    hint: Callable[[str, int], Awaitable[float | None]],
) -> list[float]:
    loop = asyncio.get_running_loop()
    launched, launched_at = asyncio.Event(), dict[str, float]()

    def launch(user_id: str) -> None:
        launched_at[user_id] = time.monotonic()
        loop.call_soon_threadsafe(launched.set)  # whatever thread the engine calls in

    platform.launched = launch
    learners = {f"{names}-{n}": platform.give(f"{names}-{n}") for n in range(number)}
    await _waiting(platform, engine, list(learners))
    latencies = []
    for user_id, instance_id in learners.items():
        platform.tear_down(instance_id)
        launched.clear()
        given = time.monotonic()
        given = await hint(user_id, instance_id) or given
        await launched.wait()
        latencies.append((launched_at[user_id] - given) * 1000)
        # At random, so that they meet every phase of whatever polls.
        await asyncio.sleep(random.uniform(0, 2 * pause))
    return latencies


async def waiting(name: str, folder: Path, url: str | None, number: int, seconds: float) -> Found:
    """Bytes of memory for each waiting relaunch, and the CPU of all of them in rest, in percent."""
    platform = Platform(teardown_seconds=math.inf)
    async with engine_of(name, platform, LONG, folder, url, hinted=True) as engine:
        await _waiting(platform, engine, _learners(platform, "warm", WARM_UP))
        users = _learners(platform, "user", number)
        empty = memory()
        await _waiting(platform, engine, users)
        full = memory()
        before = usage(engine.server)
        await asyncio.sleep(seconds)
        used = usage(engine.server) - before
        return {
            "memory": (full - empty) / number,
            "client": used.client / used.wall * 100,
            "server": used.server / used.wall * 100,
        }


def _learners(platform: Platform, names: str, number: int) -> list[str]:
    users = [f"{names}-{n}" for n in range(number)]
    for user_id in users:
        platform.give(user_id)
    return users


async def _whole(engine: Engine, users: list[str]) -> None:
    await asyncio.gather(*(engine.relaunch(user_id) for user_id in users))


async def _waiting(platform: Platform, engine: Engine, users: list[str]) -> None:
    """Begin these, a few at a time, and return when all of them wait."""
    loop = asyncio.get_running_loop()
    for first in range(0, len(users), 100):
        some = users[first : first + 100]
        goal, reached = platform.cancelled + len(some), asyncio.Event()

        def cancelled(number: int, goal: int = goal, reached: asyncio.Event = reached) -> None:
            if number == goal:
                loop.call_soon_threadsafe(reached.set)

        platform.cancels_begun = cancelled
        await asyncio.gather(*(engine.begin(user_id) for user_id in some))
        await reached.wait()
    await asyncio.sleep(1.0)


class _Announcer:
    """:mod:`tests.benchmarks.durability.announcer` as a child."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> _Announcer:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.benchmarks.durability.announcer", self._store),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await self._said()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.stdin.close()  # type: ignore[union-attr]  # a pipe, as asked for
            await self._process.wait()

    async def hint(self, user_id: str, instance_id: int) -> float:
        """The moment at which it was given."""
        self._process.stdin.write(f"{instance_id}\n".encode())  # type: ignore[union-attr]  # likewise
        return float(await self._said())

    async def _said(self) -> bytes:
        return await self._process.stdout.readline()  # type: ignore[union-attr]  # likewise


MEASUREMENTS: dict[str, Callable[..., Awaitable[Found]]] = {
    "burst": burst,
    "stream": stream,
    "hints": hints,
    "waiting": waiting,
}


def measure(name: str, what: str, url: str | None, sizes: dict[str, float]) -> Found:
    """One measurement, with a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="durability") as folder:
        return asyncio.run(MEASUREMENTS[what](name, Path(folder), url, **sizes))  # type: ignore[arg-type]  # a coroutine each


if __name__ == "__main__":
    _, engine, what = sys.argv
    given = json.load(sys.stdin)
    print(json.dumps(measure(engine, what, given["url"], given["sizes"])))
