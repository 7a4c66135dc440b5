"""What a fleet makes of a platform that counts: the limit is met once, and then nearly used up."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import HeldBack, PlatformError, RateLimited
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Gate, Limits, priority
from orchestrator.traffic.served import Served


class Counting:
    """A platform that serves ``most`` calls in any ``window`` seconds, a twentieth away."""

    def __init__(self, most: int, window: float = 1.0, retry_after: float | None = 1.0) -> None:
        self.most, self.window, self.retry_after = most, window, retry_after
        self.served: list[float] = []
        self.turned_away: list[float] = []
        self._last: deque[float] = deque()
        self._dice = random.Random(4)

    async def __call__(self, left: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.02 + 0.01 * self._dice.random())
        now = loop.time()
        while self._last and self._last[0] <= now - self.window:
            self._last.popleft()
        is_served = len(self._last) < self.most
        if is_served:
            self._last.append(now)
        (self.served if is_served else self.turned_away).append(now)
        await asyncio.sleep(0.02 + 0.01 * self._dice.random())
        if not is_served:
            raise RateLimited("slow down", status=429, retry_after=self.retry_after)

    def share(self, since: float, until: float) -> float:
        """The share of what it would have served in that time that it did serve."""
        count = sum(since <= at < until for at in self.served)
        return count * self.window / (self.most * (until - since))


def fleet(
    platform: Counting,
    seconds: float,
    *,
    limits: Limits | None = None,
    processes: int = 1,
    callers: int = 150,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """So many callers who call again and again, a second apart, and begin one after the other."""

    async def call(gate: Gate, dice: random.Random, begin: float) -> None:
        priority.set(1)
        await asyncio.sleep(begin)
        while True:
            try:
                await gate.through("details", platform, timeout=30, effect=dice.random() < 0.4)
            except HeldBack as error:
                await asyncio.sleep(error.retry_after or 0.0)
            except PlatformError as error:
                await asyncio.sleep((error.retry_after or 0.0) + 2 * dice.random())
            await asyncio.sleep(dice.random())

    async def test() -> None:
        store, dice, clock = MemoryRunStore(), random.Random(2), VirtualClock()
        gates = [
            Gate(store, limits=limits, clock=clock, jitter=dice.random) for _ in range(processes)
        ]
        asyncio.get_running_loop().call_later(seconds / 2, meanwhile)
        begins, gap = 0.0, 0.2
        going = []
        for n in range(callers):
            going.append(asyncio.create_task(call(gates[n % processes], dice, begins)))
            begins, gap = begins + gap, max(0.005, 0.9 * gap)
        await asyncio.wait(going, timeout=seconds)
        for task in going:
            task.cancel()

    run_virtual(test())


@pytest.mark.parametrize(("most", "share"), [(20, 0.8), (50, 0.93), (100, 0.94)])
def test_the_limit_is_met_once_and_then_nearly_used_up(most: int, share: float) -> None:
    platform = Counting(most)
    fleet(platform, 100, callers=4 * most)
    assert max(platform.turned_away) < min(platform.turned_away) + 1.0
    assert len(platform.turned_away) < most / 2, "the first volley is no salvo"
    assert platform.share(10, 100) >= share


@pytest.mark.parametrize("processes", [2, 4])
def test_a_fleet_learns_it_together(processes: int) -> None:
    platform = Counting(60)
    fleet(platform, 100, processes=processes, callers=240)
    assert max(platform.turned_away) < min(platform.turned_away) + 2.0
    assert platform.share(10, 100) >= 0.92


def test_a_configured_rate_is_used_up() -> None:
    platform = Counting(100)
    fleet(platform, 100, limits=Limits(calls_per_second=90.0, burst=5), callers=400)
    assert platform.turned_away == []
    assert platform.share(10, 100) >= 0.9 * 0.99


def test_a_limit_a_minute_is_learned_by_its_word() -> None:
    platform = Counting(600, window=60.0, retry_after=45.0)
    fleet(platform, 1200)
    episodes = [
        at for n, at in enumerate(platform.turned_away) if at > platform.turned_away[n - 1] + 5
    ]
    assert len(episodes) <= 6
    assert len(platform.turned_away) <= 40


def test_a_limit_that_becomes_lower_is_learned_again() -> None:
    platform = Counting(80)

    def lower() -> None:
        platform.most = 40

    fleet(platform, 240, callers=300, meanwhile=lower)
    assert sum(at > 122 for at in platform.turned_away) <= 20
    assert platform.share(190, 240) >= 0.8


def test_a_platform_that_turns_away_whatever_it_likes_is_called_less_and_less() -> None:
    """It counts nothing: one call in ten meets a 429, however slowly they come."""

    class Moody(Counting):
        async def __call__(self, left: float) -> None:
            await super().__call__(left)
            if self._dice.random() < 0.1:
                self.turned_away.append(self.served.pop())
                raise RateLimited("slow down", status=429, retry_after=1.0)

    platform = Moody(1_000_000)
    fleet(platform, 300)
    assert sum(at > 100 for at in platform.turned_away) < 200 * 1.5


def test_what_was_served_is_counted_up_to_the_call_that_was_not() -> None:
    served = Served()
    for n in range(1, 1000):
        served.note(n / 10)
    assert served.per_second(99.9, 1.0) == 10
    assert served.per_second(99.9, 5.0) == 10
    assert served.per_second(45.0, 1.0) == 10, "what came later is no part of it"
    served.turned_away(45.01)
    assert served.before_others(45.01, 1.0) == 0, "it is told with the 429 itself"
    assert served.before_others(45.0, 1.0) == 10
    assert served.before_others(0.0, 1.0) == 0
