"""What durability costs: ``python -m tests.benchmarks.durability`` measures it, beside others.

The same relaunch (survey, try the launch, inspect, cancel, wait, look, launch, verify) against the
same platform in the same process: on a bare asyncio loop, in an SQLite file, on PostgreSQL with a
worker, and written straight on DBOS and Restate. Each measurement has a process of its own; rounds
go through all engines in turn, so that a noisy machine is noisy for all, and medians are told.

PostgreSQL is the tests' (its disk made honest). The peers are in no extra, and left out with a word
where they are missing: ``pip install dbos`` and ``pip install restate-sdk hypercorn``,
``npm install @restatedev/restate-server`` (on the path, or named by ``RESTATE_SERVER``).

A quarter of an hour on two cores. ``quick`` as an argument takes two minutes, and writes no
``results.md``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.durability.measuring import ENGINES, Found
from tests.benchmarks.durability.peers import VARIABLE, has_dbos, has_restate
from tests.benchmarks.durability.report import results
from tests.postgres import PostgresServer, start_server

HERE = Path(__file__).parent
#: Seconds for one measurement at most.
PATIENCE = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often and how much; peers take longer, and are measured with fewer relaunches."""

    rounds: int
    burst: int
    burst_of_peers: int
    stream: int
    hints: int
    waiting: tuple[int, ...]
    waiting_of_peers: tuple[int, ...]
    rest: float


FULL = Plan(
    rounds=3,
    burst=1000,
    burst_of_peers=200,
    stream=200,
    hints=60,
    waiting=(1000, 10_000),
    waiting_of_peers=(1000,),
    rest=20.0,
)
QUICK = Plan(
    rounds=1,
    burst=100,
    burst_of_peers=50,
    stream=40,
    hints=10,
    waiting=(200,),
    waiting_of_peers=(200,),
    rest=5.0,
)
#: Relaunches a second where they come one by one.
RATE = 20.0


def measurements(plan: Plan) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Engine, what is measured, and its sizes; in the order in which to measure."""
    for turn in range(plan.rounds):
        for n in range(len(ENGINES)):
            engine = ENGINES[(n + turn) % len(ENGINES)]
            ours = engine in ("bare", "sqlite", "postgres")
            yield engine, "burst", {"number": plan.burst if ours else plan.burst_of_peers}
            yield engine, "stream", {"number": plan.stream, "rate": RATE}
            yield engine, "hints", {"number": plan.hints, "pause": 0.05}
    for engine in ENGINES:
        ours = engine in ("bare", "sqlite", "postgres")
        for number in plan.waiting if ours else plan.waiting_of_peers:
            yield engine, "waiting", {"number": number, "seconds": plan.rest}


def measured(engine: str, what: str, sizes: dict[str, float], url: str | None) -> Found:
    """One measurement, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.durability.measuring", engine, what],
        input=json.dumps({"url": url, "sizes": sizes}),
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        text=True,
        check=True,
    )
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def honest_server() -> Iterator[PostgresServer | None]:
    """The tests' PostgreSQL, but what it says is on the disk is; ``None`` if there is none."""
    try:
        server = start_server()
    except pytest.skip.Exception as missing:
        print(missing)
        yield None
        return
    try:
        if server.restartable:
            for setting in ("fsync", "full_page_writes"):
                server.execute(f"ALTER SYSTEM SET {setting} = on")
            server.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        server.close()


def missing(server: PostgresServer | None) -> dict[str, str]:
    """The engines that are not here, and a word why."""
    words = {}
    if server is None:
        words.update(dict.fromkeys(("postgres", "dbos"), "there is no PostgreSQL"))
    if not has_dbos():
        words["dbos"] = "it is not installed: pip install dbos"
    if not has_restate():
        words["restate"] = (
            "it is not installed: pip install restate-sdk hypercorn, npm install "
            f"@restatedev/restate-server, and {VARIABLE} says where"
        )
    return words


def main(plan: Plan, *, write: bool) -> None:
    """Measure, tell, and write."""
    found: dict[tuple[str, str, int], list[Any]] = defaultdict(list)
    loads = [os.getloadavg()[0]]
    with honest_server() as server:
        left_out = missing(server)
        for engine, what, sizes in measurements(plan):
            if engine in left_out:
                continue
            url = name = None
            if server is not None and engine in ("postgres", "dbos"):
                name = server.create_database()
                url = server.url(name)
            found[engine, what, int(sizes["number"])].append(measured(engine, what, sizes, url))
            print(engine, what, sizes, file=sys.stderr)
            if server is not None and name is not None:
                server.drop_database(name)
            loads.append(os.getloadavg()[0])
    circumstances = (
        f"Python {platform.python_version()} on {os.cpu_count()} cores, {plan.rounds} rounds, "
        f"load of the machine {min(loads):.1f} to {max(loads):.1f} (the benchmark's own included)."
    )
    text = results(found, left_out, circumstances)
    if write:
        (HERE / "results.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    quick = sys.argv[1:] == ["quick"]
    main(QUICK if quick else FULL, write=not quick)
