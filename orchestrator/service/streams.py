"""One server-sent event stream: what a relaunch tells, with heartbeats, up to its end.

It ends after the outcome; when the service drains; and when the caller must prove itself anew. In
the last two cases nothing is lost: the client comes again and says which event it saw last.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from orchestrator.ports import AsyncClock


def event(name: str, sequence: int | None, data: Any) -> bytes:
    """One event in the wire format; JSON has no line breaks in it.

    Without a ``sequence`` the client goes on saying that of the event before it.
    """
    text = json.dumps(data, separators=(",", ":"))
    place = "" if sequence is None else f"id: {sequence}\n"
    return f"event: {name}\n{place}data: {text}\n\n".encode()


def opening(retry_milliseconds: int) -> bytes:
    """The first bytes: when to come again if the stream breaks; proxies see that it has begun."""
    return f"retry: {retry_milliseconds}\n: here\n\n".encode()


def parting(retry_milliseconds: int) -> bytes:
    """The last bytes of a stream that ends too soon: when to come again, not all at once."""
    return f"retry: {round(retry_milliseconds * random.uniform(1, 3))}\n\n".encode()


class Streams:
    """The streams that are open in this process, so that all can be told to end."""

    def __init__(self) -> None:
        self._open: set[Stream] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.contextmanager
    def opened(self, stream: Stream) -> Iterator[None]:
        """While inside, ``stream`` is one of them."""
        self._open.add(stream)
        if self._closed:
            stream.end()
        try:
            yield
        finally:
            self._open.discard(stream)

    def close(self) -> None:
        """End all of them, and whichever is opened from now on."""
        self._closed = True
        for stream in self._open:
            stream.end()


class Stream:
    """See the module's docstring. ``ends_at``: when the caller's credential runs out.

    It reads on only when what it has read was sent: whoever doesn't read costs no memory.
    """

    def __init__(
        self,
        source: AsyncGenerator[bytes],
        *,
        clock: AsyncClock,
        heartbeat: float,
        retry_milliseconds: int,
        ends_at: float | None,
        failed: Callable[[BaseException], object],
    ) -> None:
        self._source = source
        self._clock = clock
        self._heartbeat = heartbeat
        self._retry_milliseconds = retry_milliseconds
        self._ends_at = ends_at
        self._failed = failed
        self._wake = asyncio.Event()
        self._ending = False

    def end(self) -> None:
        """End now; what was not sent is sent to the client when it comes again."""
        self._ending = True
        self._wake.set()

    async def lines(self) -> AsyncGenerator[bytes]:
        """What is to be sent, as it comes."""
        reading: asyncio.Task[bytes | None] | None = None
        try:
            while not self._ending and self._left() > 0:
                if reading is None:
                    reading = asyncio.create_task(self._next())
                    reading.add_done_callback(self._has_read)
                if not reading.done():
                    await self._clock.wait(min(self._heartbeat, self._left()), self._wake)
                if reading.done():
                    piece, reading = reading.result(), None
                    self._wake.clear()
                    if piece is None:
                        return
                    yield piece
                elif not self._wake.is_set():
                    yield b": still here\n\n"
            yield parting(self._retry_milliseconds)
        finally:
            if reading is not None:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading
            await self._source.aclose()

    def _has_read(self, _: object) -> None:
        self._wake.set()

    def _left(self) -> float:
        if self._ends_at is None:
            return float("inf")
        return self._ends_at - self._clock.now()

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._source, None)
        except Exception as error:  # the stream ends, the client comes again and is told then
            self._failed(error)
            return None
