"""Many learners, two workers, one of them killed every few seconds, until every relaunch has ended.

One process starts the relaunches, the workers drive them, the platform is a program of its own.
Which worker is killed, and when, follows from a seed; what it is doing just then does not.
"""

from __future__ import annotations

import asyncio
import functools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

from orchestrator import AsyncRelauncher, Policy, Run
from orchestrator.durable.starting import start
from orchestrator.durable.store import Filter, RunStore, StoredRun
from orchestrator.requests import new_run
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from tests.crash.killed_worker import KEY, patiently, relauncher_for
from tests.crash.lenient_sandbox import NEW_LAB, learner

ROOT = Path(__file__).parents[2]
#: So many relaunches begin in a second: there are always some at each point of their way.
STARTS_PER_SECOND = 40
#: Seconds between two kills.
KILL_EVERY = (2.0, 4.0)
#: One relaunch in so many is followed to its end by whoever started it.
FOLLOWED = 20

_ALL = 1_000_000


@dataclass
class Platform:
    """The running sandbox."""

    base_url: str

    def effects(self) -> list[dict[str, Any]]:
        """What really happened, in order: the ledger's effects."""
        url = self.base_url.removesuffix("/api/v3") + "/_sandbox/ledger"
        effects: list[dict[str, Any]] = httpx.get(url, timeout=20.0).json()["effects"]
        return effects


@contextmanager
def a_platform(learners: int, seed: int) -> Iterator[Platform]:
    """The sandbox, with that many learners in their labs."""
    arguments = ("tests.crash.lenient_sandbox", str(learners), str(seed))
    with _program(*arguments, stdout=subprocess.PIPE) as sandbox:
        try:
            assert sandbox.stdout is not None
            yield Platform(sandbox.stdout.readline().strip())
        finally:
            sandbox.kill()


@dataclass
class Campaign:
    """See the module's docstring. ``disturb`` is awaited when half of the relaunches have begun."""

    place: str
    learners: int
    seed: int
    log: Path
    disturb: Callable[[], Awaitable[None]] | None = None
    kills: int = 0
    #: What killed workers held: (relaunch id, epoch of the lease).
    orphans: list[tuple[str, int]] = field(default_factory=list)
    #: How many of those were at a call that changes something.
    at_an_effect: int = 0
    followed: int = 0
    seconds: float = 0.0
    _workers: list[subprocess.Popen[str]] = field(default_factory=list)

    async def run(self, platform: Platform, store: RunStore) -> None:
        """Go on until all relaunches have ended."""
        dice, began = random.Random(self.seed), time.monotonic()
        with self.log.open("w") as log:
            try:
                self._workers = [self._worker(platform, log), self._worker(platform, log)]
                async with asyncio.TaskGroup() as others:
                    starting = others.create_task(self._start_all(platform, store))
                    others.create_task(self._disturb())
                    while not starting.done() or await unfinished(store):
                        await asyncio.sleep(dice.uniform(*KILL_EVERY))
                        await self._kill_one(store, dice)
                        self._workers.append(self._worker(platform, log))
            finally:
                for worker in self._workers:
                    worker.kill()
                    worker.wait()
        self.seconds = time.monotonic() - began

    async def _disturb(self) -> None:
        await asyncio.sleep(self.learners / STARTS_PER_SECOND / 2)
        if self.disturb is not None:
            await self.disturb()

    def _worker(self, platform: Platform, log: IO[str]) -> subprocess.Popen[str]:
        return _program("tests.crash.killed_worker", self.place, platform.base_url, stderr=log)

    async def _kill_one(self, store: RunStore, dice: random.Random) -> None:
        # Mostly the older one, so that each lives for two turns and has something to lose.
        worker = self._workers.pop(0 if dice.random() < 0.8 else 1)
        worker.kill()
        code = await asyncio.to_thread(worker.wait)
        assert code == -signal.SIGKILL, f"it had died by itself: {self.log.read_text()[-2000:]}"
        self.kills += 1
        for stored in await unfinished(store):
            if stored.owner is not None and f"-{worker.pid}-" in stored.owner:
                self.orphans.append((stored.run.relaunch_id, stored.epoch))
                self.at_an_effect += stored.run.effect_pending

    async def _start_all(self, platform: Platform, store: RunStore) -> None:
        async with (
            AsyncSkillableClient(KEY, base_url=platform.base_url, allow_http=True) as client,
            relauncher_for(store, AsyncSkillablePlatform(client)) as relauncher,
            asyncio.TaskGroup() as everybody,
        ):
            for number in range(self.learners):
                run = new_run(learner(number), NEW_LAB, Policy(), {}, time.time())
                if store.engine == "fleet":
                    follow = number % FOLLOWED == 0
                    everybody.create_task(self._start_and_follow(relauncher, run, follow=follow))
                else:
                    # Here whoever has a handle drives the relaunch: it is only stored.
                    everybody.create_task(patiently(functools.partial(_store, store, run)))
                await asyncio.sleep(1 / STARTS_PER_SECOND)

    async def _start_and_follow(
        self, relauncher: AsyncRelauncher, run: Run, *, follow: bool
    ) -> None:
        async def accepted() -> None:
            await relauncher.start(
                run.user_id, run.lab_profile_id, relaunch_id=run.relaunch_id
            ).accepted()

        await patiently(accepted)
        if follow:
            handle = await patiently(lambda: relauncher.attach(run.relaunch_id))
            outcome = await patiently(handle.result)
            assert outcome.outcome in ("launched", "refused")
            self.followed += 1


async def unfinished(store: RunStore) -> tuple[StoredRun, ...]:
    """The runs that have not ended."""
    return await patiently(lambda: store.history(Filter(unfinished=True, limit=_ALL)))


async def everything(store: RunStore) -> tuple[StoredRun, ...]:
    """All runs."""
    return await store.history(Filter(limit=_ALL))


async def _store(store: RunStore, run: Run) -> None:
    await start(store, run, at=time.time())


def _program(module: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, **options)
