"""Thousands of clients of event streams, as cheap as can be: a socket each, and what came on it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass

_END = b"event: outcome"


class Follower(asyncio.Protocol):
    """One client; ``begun`` and ``ended`` are awaited."""

    def __init__(self, path: str, key: str) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: service\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()
        self._seen = b""
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._seen = self._seen[-len(_END) :] + data
        if not self.begun.done() and b"HTTP/1.1 200" in self._seen:
            self.begun.set_result(None)
        if _END in self._seen and not self.ended.done():
            self.ended.set_result(time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.begun, self.ended):
            if not future.done():
                future.set_exception(ConnectionError("the stream broke off"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Of each stream: bytes of memory, milliseconds of CPU to open it and to end it.

    ``idle``: percent of a CPU for all of them while nothing happens; ``told_within``: seconds from
    the wish to end all relaunches to the last stream's last event.
    """

    memory: float
    opening: float
    idle: float
    ending: float
    told_within: float


def follow(kind: str, relaunches: int, streams: int, rest: float) -> Found:
    """Open the streams, let them rest, end them; ``kind`` as in :mod:`.streaming`."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.service.streaming", kind, str(relaunches)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            return asyncio.run(_follow(process, streams, rest))
        finally:
            process.kill()


async def _follow(process: subprocess.Popen[str], streams: int, rest: float) -> Found:
    async def said(what: str | None = None) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        if what is not None:
            process.stdin.write(f"{what}\n")
            process.stdin.flush()
        return await asyncio.to_thread(process.stdout.readline)

    async def used() -> tuple[float, float]:
        found = json.loads(await said("used"))
        return found[0], found[1]

    key = (await said()).strip()
    port, ids = json.loads(await said())
    loop = asyncio.get_running_loop()
    # A few first: what is made once is nobody's.
    followers: list[Follower] = []

    async def opened(number: int) -> None:
        path = f"/relaunches/{ids[number % len(ids)]}/events"
        _, one = await loop.create_connection(lambda: Follower(path, key), "127.0.0.1", port)
        await one.begun
        followers.append(one)

    for number in range(20):
        await opened(number)
    empty = await used()
    for first in range(0, streams, 50):
        await asyncio.gather(*(opened(n) for n in range(first, min(first + 50, streams))))
    await asyncio.sleep(1.0)
    full = await used()
    await asyncio.sleep(rest)
    rested = await used()
    began = time.monotonic()
    ending = asyncio.create_task(said("end"))
    ended_at = await asyncio.gather(*(one.ended for one in followers))
    await ending
    over = await used()
    for one in followers:
        one.transport.abort()
    return Found(
        memory=(full[0] - empty[0]) / streams,
        opening=(full[1] - empty[1]) / streams * 1000,
        idle=(rested[1] - full[1]) / rest * 100,
        ending=(over[1] - rested[1]) / streams * 1000,
        told_within=max(ended_at) - began,
    )
