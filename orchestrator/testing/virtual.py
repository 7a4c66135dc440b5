"""An event loop whose time is virtual: it jumps to the next timer as soon as nothing else can run.

Any number of tasks may sleep, wait for each other and time out in it, for hours of their time in
milliseconds of ours, in the same order each time. What really waits, a thread at work, say, is
named by ``busy``: while it says yes, time stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Real seconds that a wait for something outside may last before it counts as a deadlock.
PATIENCE = 20.0


#: Virtual seconds after which what still runs counts as never ending.
LIMIT = 7 * 86_400.0


class Deadlock(RuntimeError):
    """Nothing can run, no timer is set, and nothing comes from outside; or it never ends."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until a timer is due, lets the time jump there."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        super().__init__()
        self.now = 0.0
        self._busy = busy

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self._busy():
            ready = super().select(PATIENCE)
            if not ready:
                raise Deadlock(f"nothing happened for {PATIENCE:g} s, and no timer is set")
            return ready
        self.now += timeout
        if self.now > LIMIT:
            raise Deadlock(f"it has not ended after {LIMIT:g} virtual seconds")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    def __init__(self, busy: Callable[[], bool] = lambda: False) -> None:
        self._jumping = _JumpingSelector(busy)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now


class VirtualClock:
    """The clock of whatever runs in a :class:`VirtualLoop`; ``skew`` seconds off, if told."""

    def __init__(self, start: float = 1_700_000_000.0, *, skew: float = 0.0) -> None:
        self._offset = start + skew

    def now(self) -> float:
        """Unix epoch seconds."""
        return self._offset + asyncio.get_running_loop().time()

    async def wait(self, seconds: float, wakeup: asyncio.Event) -> None:
        """Sleep, in virtual time, until ``seconds`` are over or ``wakeup`` is set."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wakeup.wait()


def run_virtual(main: Coroutine[Any, Any, T], *, busy: Callable[[], bool] = lambda: False) -> T:
    """``asyncio.run`` in virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(busy)) as runner:
        return runner.run(main)
