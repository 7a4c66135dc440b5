"""The client as the orchestrator's platform port: one HTTP request for each port call.

The state machine does its own repeating (it looks first), so none happens here.
"""

from __future__ import annotations

from orchestrator.errors import AnswerUnreadable
from orchestrator.labs import (
    DisplaceAnswer,
    Displaced,
    InstanceDetails,
    Labs,
    LaunchAnswer,
    LaunchParameters,
    RosterEntry,
    RosterPage,
)
from orchestrator.skillable import calls
from orchestrator.skillable.answers import CancelAnswer, ConsumerLab, SaveAnswer, Stats
from orchestrator.skillable.client import AsyncSkillableClient, SkillableClient


class SkillablePlatform:
    """:class:`orchestrator.ports.Platform` over a :class:`SkillableClient`."""

    def __init__(self, client: SkillableClient) -> None:
        self.client = client

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        """``userrunningandsavedlabs``."""
        call = calls.user_running_and_saved_labs(user_id)
        return self.client.send(call, timeout=timeout, repeat=False)

    def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """``details``."""
        details = self.client.send(calls.details(instance_id), timeout=timeout, repeat=False)
        return _about(instance_id, details)

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """``launch``."""
        call = calls.launch(user_id, lab_profile_id, parameters)
        return self.client.send(call, timeout=timeout, repeat=False)

    def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """``resume``."""
        return self.client.send(calls.resume(instance_id), timeout=timeout, repeat=False)

    def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """``cancel``."""
        call = calls.cancel(instance_id, note)
        return _displaced(self.client.send(call, timeout=timeout, repeat=False))

    def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """``save``; it takes no note."""
        return _displaced(self.client.send(calls.save(instance_id), timeout=timeout, repeat=False))

    def access_url(self, instance_id: int, *, timeout: float) -> str:
        """``LabAccessUrl``."""
        return self.client.send(calls.lab_access_url(instance_id), timeout=timeout, repeat=False)

    def count_active(self, *, timeout: float) -> int:
        """``stats``, NumActive."""
        return _num_active(self.client.send(calls.stats(), timeout=timeout, repeat=False))


class AsyncSkillablePlatform:
    """:class:`orchestrator.ports.AsyncPlatform` over an :class:`AsyncSkillableClient`.

    It is an :class:`orchestrator.ports.AsyncRoster`, too.
    """

    def __init__(self, client: AsyncSkillableClient) -> None:
        self.client = client

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        """``userrunningandsavedlabs``."""
        call = calls.user_running_and_saved_labs(user_id)
        return await self.client.send(call, timeout=timeout, repeat=False)

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """``details``."""
        call = calls.details(instance_id)
        return _about(instance_id, await self.client.send(call, timeout=timeout, repeat=False))

    async def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """``launch``."""
        call = calls.launch(user_id, lab_profile_id, parameters)
        return await self.client.send(call, timeout=timeout, repeat=False)

    async def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """``resume``."""
        return await self.client.send(calls.resume(instance_id), timeout=timeout, repeat=False)

    async def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """``cancel``."""
        call = calls.cancel(instance_id, note)
        answer = await self.client.send(call, timeout=timeout, repeat=False)
        return _displaced(answer)

    async def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """``save``; it takes no note."""
        answer = await self.client.send(calls.save(instance_id), timeout=timeout, repeat=False)
        return _displaced(answer)

    async def access_url(self, instance_id: int, *, timeout: float) -> str:
        """``LabAccessUrl``."""
        call = calls.lab_access_url(instance_id)
        return await self.client.send(call, timeout=timeout, repeat=False)

    async def count_active(self, *, timeout: float) -> int:
        """``stats``, NumActive."""
        return _num_active(await self.client.send(calls.stats(), timeout=timeout, repeat=False))

    async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
        """``runningandsavedlabs``."""
        call = calls.running_and_saved_labs()
        labs = await self.client.send(call, timeout=timeout, repeat=False)
        # An instance is listed once, and what is saved by now was running before: in that order.
        entries = {lab.instance_id: _entry(lab, saved=False) for lab in labs.running}
        entries |= {lab.instance_id: _entry(lab, saved=True) for lab in labs.saved}
        return tuple(entries.values())

    async def search(
        self,
        *,
        class_id: str | None = None,
        lab_profile_id: int | None = None,
        since: float | None = None,
        page: int = 0,
        timeout: float,
    ) -> RosterPage:
        """``labinstance/search``, concise: no passwords on the wire.

        Oldest first, so that what is launched meanwhile comes last and shifts no page.
        """
        call = calls.search(
            class_id=class_id,
            lab_profile_id=lab_profile_id,
            start=since,
            sort="start",
            page_index=page,
        )
        answer = await self.client.send(call, timeout=timeout, repeat=False)
        return RosterPage(instances=answer.instances, total_pages=answer.total_pages)


def _about(instance_id: int, details: InstanceDetails) -> InstanceDetails:
    """What is said of another instance than the one asked for says nothing about that one."""
    if details.instance_id == instance_id:
        return details
    error = f"the platform described lab instance {details.instance_id} instead"
    return InstanceDetails(instance_id=instance_id, readable=False, error=error)


def _entry(lab: ConsumerLab, *, saved: bool) -> RosterEntry:
    return RosterEntry(
        instance_id=lab.instance_id,
        user_id=lab.user_id if lab.user_id and lab.user_id.strip() else None,
        lab_profile_id=lab.lab_profile_id,
        lab_profile_name=lab.lab_profile_name,
        started_at=lab.started_at,
        expires_at=lab.expires_at,
        is_exam=lab.is_exam,
        saved=saved,
    )


def _displaced(answer: CancelAnswer | SaveAnswer) -> DisplaceAnswer:
    if answer.foreign:
        return DisplaceAnswer(displaced=Displaced.FOREIGN, error=answer.error)
    displaced = Displaced.ACCEPTED if answer.result == 1 else Displaced.REFUSED
    return DisplaceAnswer(displaced=displaced, error=answer.error)


def _num_active(answer: Stats) -> int:
    if answer.num_active is None:
        raise AnswerUnreadable("The platform's stats name no NumActive.", operation="stats")
    return answer.num_active
