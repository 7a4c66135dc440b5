"""Real time for the drivers.

Wall-clock time read once, then carried on by the monotonic clock: deadlines can be compared
between processes, and a step of the system's clock moves none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time


class SystemClock:
    """The real clock of the sync driver."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Unix epoch seconds."""
        return self._offset + time.monotonic()

    def wait(self, seconds: float, wakeup: threading.Event) -> None:
        """Sleep until ``seconds`` are over or ``wakeup`` is set."""
        wakeup.wait(seconds)


class AsyncSystemClock:
    """The real clock of the async driver."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Unix epoch seconds."""
        return self._offset + time.monotonic()

    async def wait(self, seconds: float, wakeup: asyncio.Event) -> None:
        """Sleep until ``seconds`` are over or ``wakeup`` is set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wakeup.wait()
