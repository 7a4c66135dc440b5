"""A platform whose calls are counted and timed.

It belongs inside the gate, right around the client: what the gate holds back was not sent, and the
time in its line is not the platform's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from orchestrator.errors import CallRefused, KeyRejected, PlatformError, RateLimited
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
from orchestrator.ports import AsyncPlatform, AsyncRoster
from orchestrator.service.metrics import Metrics

T = TypeVar("T")

#: The results of calls that were answered as hoped for, that were given up while they were under
#: way, and in which something failed that never should.
OK, DROPPED, BROKEN = "ok", "dropped", "broken"


class MeteredPlatform:
    """:class:`orchestrator.ports.AsyncPlatform` and ``AsyncRoster``, over another one.

    The result of a call is :data:`OK`, ``result_<code>`` of a launch or a resume that the platform
    answered with another code, ``refused`` or ``foreign`` of a cancel, a save or a description that
    it answered with a no, or the error's own code.
    """

    def __init__(self, platform: AsyncPlatform, metrics: Metrics) -> None:
        self.platform = platform
        self._metrics = metrics

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        """Counted."""
        call = self.platform.survey(user_id, timeout=timeout)
        return await self._metered("userrunningandsavedlabs", call, _fine)

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """Counted."""
        call = self.platform.inspect(instance_id, timeout=timeout)
        return await self._metered("details", call, _described)

    async def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Counted."""
        call = self.platform.launch(user_id, lab_profile_id, parameters, timeout=timeout)
        return await self._metered("launch", call, _launched)

    async def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """Counted."""
        call = self.platform.resume(instance_id, timeout=timeout)
        return await self._metered("resume", call, _launched)

    async def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Counted."""
        call = self.platform.cancel(instance_id, note=note, timeout=timeout)
        return await self._metered("cancel", call, _displaced)

    async def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Counted."""
        call = self.platform.save(instance_id, note=note, timeout=timeout)
        return await self._metered("save", call, _displaced)

    async def access_url(self, instance_id: int, *, timeout: float) -> str:
        """Counted."""
        call = self.platform.access_url(instance_id, timeout=timeout)
        return await self._metered("LabAccessUrl", call, _fine)

    async def count_active(self, *, timeout: float) -> int:
        """Counted."""
        call = self.platform.count_active(timeout=timeout)
        return await self._metered("stats", call, _fine)

    async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
        """Counted."""
        call = cast(AsyncRoster, self.platform).roster(timeout=timeout)
        return await self._metered("runningandsavedlabs", call, _fine)

    async def search(
        self,
        *,
        class_id: str | None = None,
        lab_profile_id: int | None = None,
        since: float | None = None,
        page: int = 0,
        timeout: float,
    ) -> RosterPage:
        """Counted."""
        call = cast(AsyncRoster, self.platform).search(
            class_id=class_id,
            lab_profile_id=lab_profile_id,
            since=since,
            page=page,
            timeout=timeout,
        )
        return await self._metered("labinstance/search", call, _fine)

    async def _metered(
        self, operation: str, call: Awaitable[T], result_of: Callable[[T], str]
    ) -> T:
        began = time.perf_counter()
        result, answered = BROKEN, False
        try:
            answer = await call
            result, answered = result_of(answer), True
        except asyncio.CancelledError:
            result = DROPPED
            raise
        except PlatformError as error:
            result = error.code
            answered = isinstance(error, CallRefused | KeyRejected | RateLimited)
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.call(operation, result, seconds, answered=answered)
        return answer


def _fine(_: object) -> str:
    return OK


def _described(details: InstanceDetails) -> str:
    if details.readable:
        return OK
    return "foreign" if details.foreign else "refused"


def _launched(answer: LaunchAnswer) -> str:
    if answer.result == 1:
        return OK
    return "no_result" if answer.result is None else f"result_{answer.result}"


def _displaced(answer: DisplaceAnswer) -> str:
    return OK if answer.displaced is Displaced.ACCEPTED else answer.displaced.value
