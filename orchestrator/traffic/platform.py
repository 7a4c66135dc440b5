"""A platform whose calls all pass the gate: the same protocol, in its turn, at a polite pace."""

from __future__ import annotations

from typing import cast

from orchestrator.labs import (
    DisplaceAnswer,
    InstanceDetails,
    Labs,
    LaunchAnswer,
    LaunchParameters,
    RosterEntry,
    RosterPage,
)
from orchestrator.ports import AsyncCancelStep, AsyncPlatform, AsyncRoster
from orchestrator.traffic.gate import Gate


class PolitePlatform:
    """:class:`orchestrator.ports.AsyncPlatform` over another one.

    It is an :class:`orchestrator.ports.AsyncRoster`, too, if the other one is.
    Each call may raise :class:`~orchestrator.errors.HeldBack` without having been sent.
    """

    def __init__(self, platform: AsyncPlatform, gate: Gate) -> None:
        self.platform = platform
        self.gate = gate

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        """A poll."""
        return await self.gate.through(
            "userrunningandsavedlabs",
            lambda left: self.platform.survey(user_id, timeout=left),
            timeout=timeout,
        )

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """A poll."""
        return await self.gate.through(
            "details",
            lambda left: self.platform.inspect(instance_id, timeout=left),
            timeout=timeout,
        )

    async def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """An effect."""
        return await self.gate.through(
            "launch",
            lambda left: self.platform.launch(user_id, lab_profile_id, parameters, timeout=left),
            timeout=timeout,
            effect=True,
        )

    async def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """An effect."""
        return await self.gate.through(
            "resume",
            lambda left: self.platform.resume(instance_id, timeout=left),
            timeout=timeout,
            effect=True,
        )

    async def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """An effect."""
        step = polite_step(self.platform.cancel, self.gate)
        return await step(instance_id, note=note, timeout=timeout)

    async def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """An effect."""
        step = polite_step(self.platform.save, self.gate, operation="save")
        return await step(instance_id, note=note, timeout=timeout)

    async def access_url(self, instance_id: int, *, timeout: float) -> str:
        """A question, but as urgent as an effect: the lab is there, and somebody waits for it."""
        return await self.gate.through(
            "LabAccessUrl",
            lambda left: self.platform.access_url(instance_id, timeout=left),
            timeout=timeout,
            urgent=True,
        )

    async def count_active(self, *, timeout: float) -> int:
        """A poll."""
        return await self.gate.through(
            "stats", lambda left: self.platform.count_active(timeout=left), timeout=timeout
        )

    async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
        """A poll."""
        platform = cast(AsyncRoster, self.platform)
        return await self.gate.through(
            "runningandsavedlabs", lambda left: platform.roster(timeout=left), timeout=timeout
        )

    async def search(
        self,
        *,
        class_id: str | None = None,
        lab_profile_id: int | None = None,
        since: float | None = None,
        page: int = 0,
        timeout: float,
    ) -> RosterPage:
        """A poll."""
        platform = cast(AsyncRoster, self.platform)

        async def send(left: float) -> RosterPage:
            return await platform.search(
                class_id=class_id,
                lab_profile_id=lab_profile_id,
                since=since,
                page=page,
                timeout=left,
            )

        return await self.gate.through("labinstance/search", send, timeout=timeout)


def polite_step(step: AsyncCancelStep, gate: Gate, *, operation: str = "cancel") -> AsyncCancelStep:
    """An injected step that makes room, through the same gate."""

    async def polite(instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        return await gate.through(
            operation,
            lambda left: step(instance_id, note=note, timeout=left),
            timeout=timeout,
            effect=True,
        )

    return polite
