"""One contract for every clock: time goes on, and a wakeup ends a wait at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from orchestrator import AsyncSystemClock, SystemClock
from orchestrator.testing import AsyncManualClock, ManualClock


@pytest.mark.parametrize("kind", [SystemClock, ManualClock])
def test_sync_clocks(kind: Any) -> None:
    clock, wakeup = kind(), threading.Event()
    before = clock.now()
    clock.wait(0.01, wakeup)
    assert clock.now() >= before + 0.009
    wakeup.set()
    clock.wait(3600, wakeup)
    assert clock.now() < before + 60


@pytest.mark.parametrize("kind", [AsyncSystemClock, AsyncManualClock])
def test_async_clocks(kind: Any) -> None:
    async def main() -> None:
        clock, wakeup = kind(), asyncio.Event()
        before = clock.now()
        await clock.wait(0.01, wakeup)
        assert clock.now() >= before + 0.009
        wakeup.set()
        await clock.wait(3600, wakeup)
        assert clock.now() < before + 60

    asyncio.run(main())


def test_a_manual_clock_does_what_was_planned_on_the_way() -> None:
    clock, wakeup = ManualClock(100.0), threading.Event()
    seen: list[float] = []
    clock.after(5, lambda: seen.append(clock.now()))
    clock.after(7, wakeup.set)
    clock.after(9, lambda: seen.append(clock.now()))
    clock.wait(20, wakeup)
    assert (seen, clock.now()) == ([105.0], 107.0)
    clock.advance(10)
    assert (seen, clock.now()) == ([105.0, 109.0], 117.0)
    assert clock.waits == [20]
