"""What people run instead, written as they would: httpx, tenacity, a semaphore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from tests.benchmarks.batches.school import KEY, Learner

#: Tries of each call; with waits of up to a minute, a quarter of an hour or so.
ATTEMPTS = 35


class NotYet(Exception):
    """The launch was refused."""


class Api:
    """The three calls that a script needs; ``obeys``: a 429 is slept through as it says."""

    def __init__(self, client: httpx.AsyncClient, *, obeys: bool) -> None:
        self._client = client
        self._obeys = obeys

    async def _get(self, operation: str, **parameters: Any) -> dict[str, Any]:
        while True:
            response = await self._client.get(
                operation, params=parameters, headers={"api_key": KEY}
            )
            if response.status_code != 429 or not self._obeys:
                break
            await asyncio.sleep(float(response.headers["Retry-After"]))
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    async def running(self, user_id: str) -> list[int]:
        """The user's labs."""
        answer = await self._get("userrunningandsavedlabs", userid=user_id)
        return [lab["LabInstanceId"] for lab in answer["RunningLabs"] or ()]

    async def cancel(self, instance_id: int) -> None:
        """End one."""
        await self._get("cancel", labinstanceid=instance_id)

    async def launch(self, learner: Learner) -> None:
        """Launch. Raises :class:`NotYet` if that was refused."""
        answer = await self._get("launch", userid=learner.user_id, labid=learner.wants)
        if answer.get("Result") != 1:
            raise NotYet(answer.get("Error"))


#: How one learner is relaunched.
Script = Callable[[Api, Learner], Awaitable[None]]


def with_tenacity(longest_wait: float) -> Script:
    """Cancel what runs, then launch until it works, each call repeated with jitter."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((httpx.HTTPError, NotYet)),
        wait=wait_random_exponential(multiplier=1, max=longest_wait),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )

    async def relaunch(api: Api, learner: Learner) -> None:
        running: list[int] = await retrying.copy()(api.running, learner.user_id)
        for instance_id in running:
            await retrying.copy()(api.cancel, instance_id)
        await retrying.copy()(api.launch, learner)

    return relaunch


def with_a_sleep(seconds: float) -> Script:
    """Cancel what runs, sleep, launch: nothing is repeated but what meets a 429."""

    async def relaunch(api: Api, learner: Learner) -> None:
        for instance_id in await api.running(learner.user_id):
            await api.cancel(instance_id)
        await asyncio.sleep(seconds)
        await api.launch(learner)

    return relaunch


async def gathered(
    relaunch: Script,
    api: Api,
    everybody: list[Learner],
    at_a_time: int,
) -> int:
    """``asyncio.gather``, so many at a time; how many ended with an exception."""
    places = asyncio.Semaphore(at_a_time)

    async def one(learner: Learner) -> None:
        async with places:
            await relaunch(api, learner)

    ended = await asyncio.gather(*(one(x) for x in everybody), return_exceptions=True)
    return sum(isinstance(outcome, BaseException) for outcome in ended)
