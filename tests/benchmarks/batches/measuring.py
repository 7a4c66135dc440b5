"""One contestant and one class, in a process of its own.

``python -m tests.benchmarks.batches.measuring`` with a :class:`Task` as JSON on standard input;
writes what was found as JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from orchestrator.clocks import AsyncSystemClock
from orchestrator.sandbox import SandboxTransport
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Limits
from tests.benchmarks.batches import ours, peers, school

CONTESTANTS = ("taught", "configured", "tenacity", "sleep", "loop")
#: Seconds from here to the platform, one way and back, in virtual time.
DISTANCE = 0.05
#: What is configured of the platform's limit, where it counts the calls of any second: a burst
#: comes on top of the rate.
BURST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """``learners`` by ``contestant``, ``at_a_time``; over HTTP if there is a ``base_url``, else in
    virtual time.

    The platform serves ``rate`` calls in any second; ``sleep`` is for how long the one sleeps, and
    the other waits at most.
    """

    contestant: str
    learners: int
    at_a_time: int
    rate: int
    teardown: str
    sleep: float
    base_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``cpu`` seconds (of the platform as well in virtual time), most ``memory`` in bytes."""

    account: school.Account
    cpu: float
    memory: int
    ended: Mapping[str, int]


class Distant(SandboxTransport):
    """The sandbox, a little away."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(DISTANCE)
        return await super().handle_async_request(request)


def measure(task: Task) -> Found:
    """Measure, here."""
    return _virtual(task) if task.base_url is None else _real(task, task.base_url)


def measured(task: Task, patience: float = 540.0) -> Found:
    """Measure, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.batches.measuring"],
        input=json.dumps(dataclasses.asdict(task)),
        stdout=subprocess.PIPE,
        timeout=patience,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return Found(**(found | {"account": school.Account(**found["account"])}))


def _limits(task: Task) -> Limits:
    if task.contestant == "taught":
        return Limits()
    return Limits(calls_per_second=max(1.0, task.rate - BURST), burst=BURST)


def _virtual(task: Task) -> Found:
    busy = ours.Busy()

    async def main() -> tuple[Counter[str], school.Account, float]:
        clock = VirtualClock()
        sandbox = school.platform(
            task.learners, rate=task.rate, teardown=task.teardown, now=clock.now
        )
        before = time.process_time()
        ended = await _run(task, "https://sandbox.invalid/api/v3", Distant(sandbox), clock, busy)
        cpu = time.process_time() - before
        ledger = sandbox.ledger
        told = school.account(
            task.learners,
            rate=task.rate,
            effects=[dataclasses.asdict(effect) for effect in ledger.effects],
            requests=[dataclasses.asdict(request) for request in ledger.requests],
        )
        return ended, told, cpu

    ended, told, cpu = run_virtual(main(), busy=busy)
    return Found(account=told, cpu=cpu, memory=_most_memory(), ended=dict(ended))


def _real(task: Task, base_url: str) -> Found:
    who = resource.RUSAGE_CHILDREN if task.contestant == "loop" else resource.RUSAGE_SELF
    before = _cpu(who)
    if task.contestant == "loop":
        ended = _shell_loop(task, base_url)
    else:
        ended = asyncio.run(_run(task, base_url, None, AsyncSystemClock(), ours.Busy()))
    cpu, memory = _cpu(who) - before, _most_memory(who)
    origin = base_url.removesuffix("/api/v3")
    ledger = httpx.get(f"{origin}/_sandbox/ledger", timeout=60).json()
    told = school.account(task.learners, rate=task.rate, **ledger)
    return Found(account=told, cpu=cpu, memory=memory, ended=dict(ended))


async def _run(
    task: Task,
    base_url: str,
    transport: httpx.AsyncBaseTransport | None,
    clock: Any,
    busy: ours.Busy,
) -> Counter[str]:
    everybody = school.learners(task.learners)
    if task.contestant == "loop":
        client = ours.client_of(base_url, transport, clock)
        return await ours.one_by_one(everybody, client=client, clock=clock)
    if task.contestant in ("taught", "configured"):
        with tempfile.TemporaryDirectory() as folder:
            return await ours.batch(
                everybody,
                client=ours.client_of(base_url, transport, clock),
                file=Path(folder) / "relaunches.db",
                at_a_time=task.at_a_time,
                limits=_limits(task),
                clock=clock,
                watch=busy.watch,
            )
    write = peers.with_tenacity if task.contestant == "tenacity" else peers.with_a_sleep
    connections = httpx.Limits(max_connections=task.at_a_time)
    async with httpx.AsyncClient(
        base_url=base_url, transport=transport, timeout=60, limits=connections
    ) as http:
        api = peers.Api(http, obeys=task.contestant == "sleep")
        failed = await peers.gathered(write(task.sleep), api, everybody, task.at_a_time)
    return Counter(failed=failed, ended=task.learners - failed)


def _shell_loop(task: Task, base_url: str) -> Counter[str]:
    """``relaunch run`` for one learner after the other, each a process."""
    ended: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "SKILLABLE_API_KEY": school.KEY,
            "SKILLABLE_BASE_URL": base_url,
            "RELAUNCH_STORE__URL": str(Path(folder) / "relaunches.db"),
            "RELAUNCH_KNOWLEDGE__FILE": str(Path(folder) / "teardowns.json"),
        }
        for learner in school.learners(task.learners):
            who = ["--user", learner.user_id, "--lab", str(learner.wants)]
            done = subprocess.run(
                [sys.executable, "-m", "orchestrator.cli", "run", "--json", *who],
                env=os.environ | settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=False,
            )
            outcome = json.loads(done.stdout)
            ended[outcome["reason"] or outcome["outcome"]] += 1
    return ended


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _most_memory(who: int = resource.RUSAGE_SELF) -> int:
    return resource.getrusage(who).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(measure(Task(**json.load(sys.stdin))))))
