"""Waiting for a store that is away: every question of a batch may be asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from orchestrator.errors import StoreUnavailable

T = TypeVar("T")

#: Seconds between two tries, at most.
LONGEST_WAIT = 5.0


async def patiently(
    call: Callable[[], Awaitable[T]], *, away: Callable[[bool], object] = lambda _: None
) -> T:
    """What the call returns, once the store is there; ``away`` is told that it is, and no more."""
    try:
        return await call()
    except StoreUnavailable:
        away(True)
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(StoreUnavailable),
        wait=wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT),
    ):
        with attempt:
            answer = await call()
    away(False)
    return answer
