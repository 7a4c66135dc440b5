"""Clocks that a test moves by hand: no test needs to sleep.

``ManualClock`` and ``AsyncManualClock`` jump: a wait moves time on at once, and whatever was
planned for the meantime (``at``) happens on the way, in order, so that a hint can end it early.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable


class _Manual:
    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        #: Every wait that was asked for, in seconds.
        self.waits: list[float] = []

    def now(self) -> float:
        """The time that the clock shows (Unix epoch seconds)."""
        return self._now

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Plan ``action`` for the moment ``when``."""
        heapq.heappush(self._planned, (when, next(self._order), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Plan ``action`` for ``seconds`` from now."""
        self.at(self._now + seconds, action)

    def advance(self, seconds: float) -> None:
        """Move time on; what was planned for the meantime happens."""
        self._advance_to(self._now + seconds, lambda: False)

    def _advance_to(self, end: float, interrupted: Callable[[], bool]) -> None:
        while self._planned and self._planned[0][0] <= end and not interrupted():
            when, _, action = heapq.heappop(self._planned)
            self._now = max(self._now, when)
            action()
        if not interrupted():
            self._now = max(self._now, end)


class ManualClock(_Manual):
    """The clock of a sync driver under test."""

    def wait(self, seconds: float, wakeup: threading.Event) -> None:
        """Move time on by ``seconds``, or to the planned action that sets ``wakeup``."""
        self.waits.append(seconds)
        self._advance_to(self._now + seconds, wakeup.is_set)


class AsyncManualClock(_Manual):
    """The clock of an async driver under test."""

    async def wait(self, seconds: float, wakeup: asyncio.Event) -> None:
        """Move time on by ``seconds``, or to the planned action that sets ``wakeup``."""
        self.waits.append(seconds)
        await asyncio.sleep(0)
        end = self._now + seconds
        while self._planned and self._planned[0][0] <= end and not wakeup.is_set():
            self._advance_to(self._planned[0][0], wakeup.is_set)
            # A hint from "another thread" arrives through the loop.
            await asyncio.sleep(0)
        if not wakeup.is_set():
            self._now = max(self._now, end)
