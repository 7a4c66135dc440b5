"""A whole world under one manual clock: client, sandbox and driver, with no socket and no sleep."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from orchestrator import AsyncRelauncher, LaunchParameters, Outcome, Policy, Relauncher
from orchestrator.sandbox import Instance, Readings, Sandbox, SandboxTransport
from orchestrator.skillable import (
    AsyncSkillableClient,
    AsyncSkillablePlatform,
    SkillableClient,
    SkillablePlatform,
)
from orchestrator.testing import AsyncManualClock, ManualClock

USER, OLD_LAB, NEW_LAB, EXAM = "ann", 1001, 1002, 1003
KEY = "sandbox-key"


@dataclass
class World:
    """The sandbox's world and a learner in it."""

    readings: Readings = field(default_factory=Readings)
    drive: str = "sync"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock: Any = ManualClock() if self.drive == "sync" else AsyncManualClock()
        self.sandbox = Sandbox(readings=self.readings, now=self.clock.now, **self.options)
        self.transport = SandboxTransport(self.sandbox, self.clock.advance)
        self.settings: dict[str, Any] = {"transport": self.transport, "now": self.clock.now}

    def give(self, lab: int = OLD_LAB, user: str = USER, **options: Any) -> Instance:
        """Give a learner a running lab."""
        return self.sandbox.world.give(user, lab, **options)

    def relaunch(
        self,
        lab: int = NEW_LAB,
        *,
        key: str = KEY,
        parameters: LaunchParameters | None = None,
        **policy: Any,
    ) -> Outcome:
        """Relaunch for the learner, in whichever driver."""
        if self.drive == "sync":
            with SkillableClient(key, **self.settings) as client:
                relauncher = Relauncher(SkillablePlatform(client), clock=self.clock)
                outcome = relauncher.relaunch(
                    USER, lab, policy=Policy(**policy), parameters=parameters
                )
                assert outcome.api_calls == client.requests_sent
                return outcome
        return asyncio.run(self._relaunch(lab, key, parameters, Policy(**policy)))

    async def _relaunch(
        self, lab: int, key: str, parameters: LaunchParameters | None, policy: Policy
    ) -> Outcome:
        async with AsyncSkillableClient(key, **self.settings) as client:
            relauncher = AsyncRelauncher(AsyncSkillablePlatform(client), clock=self.clock)
            return await relauncher.relaunch(USER, lab, policy=policy, parameters=parameters)
