"""Many small pools behind one transport: bounded in all, whatever becomes of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from orchestrator.skillable.pools import EACH, POOLS, Pools

MOST = POOLS * EACH


class _Body(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{}"


class _Pool(httpx.AsyncBaseTransport):
    """Answers when told to, or fails."""

    def __init__(self) -> None:
        self.requests = 0
        self.fails = False
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.fails:
            raise httpx.ReadError("broken", request=request)
        return httpx.Response(200, stream=_Body())

    async def aclose(self) -> None:
        self.is_closed = True


def _pools() -> tuple[Pools, list[_Pool]]:
    made: list[_Pool] = []

    def one() -> _Pool:
        made.append(_Pool())
        return made[-1]

    return Pools(one), made


def _request(wait: float) -> httpx.Request:
    return httpx.Request("GET", "http://platform", extensions={"timeout": {"pool": wait}})


async def _full(pools: Pools) -> list[httpx.Response]:
    return [await pools.handle_async_request(_request(1)) for _ in range(MOST)]


def test_all_pools_are_filled_evenly_and_no_further() -> None:
    async def scenario() -> None:
        pools, made = _pools()
        under_way = await _full(pools)
        assert [pool.requests for pool in made] == [EACH] * POOLS
        with pytest.raises(httpx.PoolTimeout):
            await pools.handle_async_request(_request(0.01))
        waiting = asyncio.create_task(pools.handle_async_request(_request(30)))
        await asyncio.sleep(0)
        assert not waiting.done()
        await under_way[-1].aclose()
        await waiting
        assert made[-1].requests == EACH + 1
        await pools.aclose()
        assert all(pool.is_closed for pool in made)

    asyncio.run(scenario())


def test_one_at_a_time_stays_in_the_first_pool() -> None:
    async def scenario() -> None:
        pools, made = _pools()
        for _ in range(3 * MOST):
            response = await pools.handle_async_request(_request(0.01))
            assert await response.aread() == b"{}"  # read to its end, it is closed
        assert [pool.requests for pool in made] == [3 * MOST, *[0] * (POOLS - 1)]

    asyncio.run(scenario())


def test_whatever_fails_or_is_closed_twice_or_cancelled_frees_its_place_once() -> None:
    async def scenario() -> None:
        pools, made = _pools()
        made[0].fails = True
        for _ in range(2 * MOST):
            with pytest.raises(httpx.ReadError):
                await pools.handle_async_request(_request(0.01))
        made[0].fails = False
        under_way = await _full(pools)
        for response in under_way:
            await response.stream.aclose()  # type: ignore[union-attr]  # an async one
            await response.stream.aclose()  # type: ignore[union-attr]  # likewise
        under_way = await _full(pools)
        waiting = asyncio.create_task(pools.handle_async_request(_request(30)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await under_way[0].aclose()
        await pools.handle_async_request(_request(0.01))
        with pytest.raises(httpx.PoolTimeout):
            await pools.handle_async_request(_request(0.01))

    asyncio.run(scenario())
