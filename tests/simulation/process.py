"""A process that drives relaunches: its clock, its wires, its life.

Whatever a process does to the world goes through one of its ports. A frozen process is one whose
ports let nothing through in either direction until it is thawed, and a dead one is never thawed:
no line of its clean-up runs, as after a SIGKILL. What it had sent before may still arrive.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from orchestrator.durable.driver import Parts
from orchestrator.durable.embedded import EmbeddedRuntime
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import VirtualClock
from tests.simulation.database import Database, Wired
from tests.simulation.network import Network, Wire


class Process:
    """One process; see the module's docstring. ``skew``: how wrong its clock is, in seconds."""

    def __init__(
        self,
        name: str,
        database: Database,
        network: Network,
        *,
        skew: float,
        seed: str,
        most_in_flight: int | None,
    ) -> None:
        self.name = name
        self.skew = skew
        self.is_dead = False
        self.is_closing = False
        self.tasks: list[asyncio.Task[Any]] = []
        #: Its luck, apart from everybody else's: what one process does moves no other's.
        self.luck = random.Random(f"{seed} {name}")
        self.luck_in_reading = random.Random(f"{seed} {name} reading")
        self._running = asyncio.Event()
        self._running.set()
        self._told_later: list[Callable[[], object]] = []
        self.clock = _Clock(self, skew)
        self.store: Any = Wired(database, self)
        client = AsyncSkillableClient(
            network.key, transport=Wire(network, self), now=self.clock.now
        )
        platform = AsyncSkillablePlatform(client)
        parts = Parts(
            store=self.store,
            platform=platform,
            steps={"cancel": platform.cancel, "save": platform.save},
            clock=self.clock,
            most_in_flight=most_in_flight,
        )
        self.runtime = EmbeddedRuntime(parts, owner=name)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing gets through at the moment (or ever again)."""
        return not self._running.is_set()

    async def through(self) -> None:
        """What each port waits for, on the way out and on the way in."""
        while self.is_frozen:
            await self._running.wait()

    def freeze(self) -> None:
        """Let nothing through from now on."""
        self._running.clear()

    def thaw(self) -> None:
        """Let everything through again, unless it is dead."""
        if not self.is_dead and self.is_frozen:
            self._running.set()
            told, self._told_later = self._told_later, []
            for call in told:
                call()

    def kill(self) -> None:
        """End it, without a chance to do anything about it."""
        self.is_dead = True
        self.freeze()

    def tell(self, call: Callable[[], object]) -> None:
        """Call it in this process, once it runs."""
        if not self.is_frozen:
            call()
        elif not self.is_dead:
            self._told_later.append(call)


class _Clock(VirtualClock):
    def __init__(self, process: Process, skew: float) -> None:
        super().__init__(skew=skew)
        self._process = process

    async def wait(self, seconds: float, wakeup: asyncio.Event) -> None:
        await super().wait(seconds, wakeup)
        await self._process.through()
