"""Questions to the platform before a batch begins: asked in nobody's way, and asked again.

A class is selected by many questions in a row, and one of them may be put off or get lost. None
changes anything, so it is asked again, until :data:`LONGEST` seconds are over for the one question,
or the platform has failed it :data:`FAILURES` times. Being sent away for a while is no failure.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from orchestrator.clocks import AsyncSystemClock
from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    HeldBack,
    NotSent,
    PlatformError,
    RateLimited,
)
from orchestrator.labs import InstanceDetails, RosterEntry, RosterPage
from orchestrator.ports import AsyncClock, AsyncRoster
from orchestrator.requests import Priority
from orchestrator.traffic.guard import priority

T = TypeVar("T")

#: Seconds for one try, and for one question with all its tries.
TRY, LONGEST = 60.0, 180.0
#: Tries that may fail.
FAILURES = 4
#: Labs that are asked about at a time.
AT_A_TIME = 8
_backing_off = wait_random_exponential(multiplier=0.5, max=10)


class Asker:
    """Asks a platform; see the module's docstring. ``calls`` counts what was asked."""

    def __init__(self, platform: AsyncRoster, clock: AsyncClock | None = None) -> None:
        self._platform = platform
        self._clock = clock or AsyncSystemClock()
        self.calls = 0

    async def roster(self) -> tuple[RosterEntry, ...]:
        """Every running and saved lab of the API consumer."""
        return await self._patiently(lambda: self._platform.roster(timeout=TRY))

    async def page(
        self, number: int, *, class_id: str | None, lab_profile_id: int | None, since: float | None
    ) -> RosterPage:
        """One page of a search."""
        return await self._patiently(
            lambda: self._platform.search(
                class_id=class_id,
                lab_profile_id=lab_profile_id,
                since=since,
                page=number,
                timeout=TRY,
            )
        )

    async def about(self, instance_ids: Iterable[int]) -> dict[int, InstanceDetails]:
        """What is said of each of these labs, a few at a time; nothing of those that it refuses."""
        narrow = asyncio.Semaphore(AT_A_TIME)
        told: dict[int, InstanceDetails] = {}

        async def ask(instance_id: int) -> None:
            async with narrow:
                with contextlib.suppress(CallRefused):
                    details = await self._patiently(
                        lambda: self._platform.inspect(instance_id, timeout=TRY)
                    )
                    if details.readable:
                        told[instance_id] = details

        try:
            async with asyncio.TaskGroup() as tasks:
                for instance_id in instance_ids:
                    tasks.create_task(ask(instance_id))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return told

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        began, failures = self._clock.now(), 0

        async def once() -> T:
            nonlocal failures
            self.calls += 1
            token = priority.set(Priority.BULK)
            try:
                return await ask()
            except (HeldBack, RateLimited) as error:
                self.calls -= isinstance(error, HeldBack)
                raise
            except PlatformError:
                failures += 1
                raise
            finally:
                priority.reset(token)

        async def sleep(seconds: float) -> None:
            await self._clock.wait(seconds, asyncio.Event())

        def is_enough(state: RetryCallState) -> bool:
            return failures >= FAILURES or self._clock.now() - began >= LONGEST

        answer: T = await AsyncRetrying(
            retry=retry_if_exception_type((NotSent, AnswerLost)),
            wait=_wait,
            stop=is_enough,
            sleep=sleep,
            reraise=True,
        )(once)
        return answer


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    told = error.retry_after if isinstance(error, PlatformError) else None
    return _backing_off(state) if told is None else told
