"""Many connections, in several small pools behind one transport.

httpcore looks at every connection of a pool twice for each request, and asks the system about each:
with a hundred of them that costs more than the request. Here no pool has more than a few. The first
pools are preferred, so that a connection which is open is used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx

#: How many pools, and how many connections each has at most.
POOLS, EACH = 20, 5


class Pools(httpx.AsyncBaseTransport):
    """See the module's docstring. ``pool`` makes a transport with :data:`EACH` connections."""

    def __init__(self, pool: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._pools = [pool() for _ in range(POOLS)]
        self._busy = [0] * POOLS
        self._free = asyncio.Semaphore(POOLS * EACH)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it over a connection that is free, or becomes free in time."""
        await self._wait(request)
        number = next(n for n, busy in enumerate(self._busy) if busy < EACH)
        self._busy[number] += 1
        try:
            response = await self._pools[number].handle_async_request(request)
        except BaseException:
            self._leave(number)
            raise
        response.stream = _Leaving(response.stream, lambda: self._leave(number))
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(pool.aclose() for pool in self._pools))

    async def _wait(self, request: httpx.Request) -> None:
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("pool")):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("no connection was free", request=request) from None

    def _leave(self, number: int) -> None:
        self._busy[number] -= 1
        self._free.release()


class _Leaving(httpx.AsyncByteStream):
    """A response's body, which says once that its connection is free again."""

    def __init__(self, stream: object, leave: Callable[[], None]) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - what a transport gives
        self._stream = stream
        self._leave: Callable[[], None] | None = leave

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        """Free the connection."""
        leave, self._leave = self._leave, None
        try:
            await self._stream.aclose()
        finally:
            if leave is not None:
                leave()
