"""Somebody presses a button while a bulk run uses up all calls that the platform allows."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import httpx
import pytest

from orchestrator import AsyncRelauncher
from orchestrator.sandbox import Sandbox, SandboxTransport
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Gate, InProcess, Limits, PolitePlatform, priority
from orchestrator.traffic.line import Return
from orchestrator.traffic.rank import Rank

OLD_LAB, NEW_LAB = 1001, 1002
#: Calls a second, of all; bulk relaunches in flight at any time.
RATE, BULK = 5.0, 200
#: Seconds between two presses, and how many there are.
PAUSE, PRESSES = 30.0, 5


class Distant(SandboxTransport):
    """The sandbox, a twentieth of a second away."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.05)
        return await super().handle_async_request(request)


async def presses(bulk: int, *, processes: int) -> list[float]:
    """Seconds from each press to its lab. The button's process is the first; the bulk run's all."""
    clock = VirtualClock()
    sandbox = Sandbox(now=clock.now, teardown="fixed:20")
    state, dice = InProcess(), random.Random(1)
    relaunchers = []
    for _ in range(processes):
        client = AsyncSkillableClient("sandbox-key", transport=Distant(sandbox), now=clock.now)
        limits = Limits(calls_per_second=RATE)
        gate = Gate(state, limits=limits, clock=clock, jitter=dice.random)
        platform = PolitePlatform(AsyncSkillablePlatform(client), gate)
        relaunchers.append(AsyncRelauncher(platform, clock=clock))

    async def go_on_and_on(number: int) -> None:
        priority.set(1)
        again = 0
        while True:
            user, again = f"class-{number}-{again}", again + 1
            sandbox.world.give(user, OLD_LAB)
            await relaunchers[number % processes].relaunch(user, NEW_LAB)

    going = [asyncio.create_task(go_on_and_on(n)) for n in range(bulk)]
    await asyncio.sleep(150)
    waited = []
    for n in range(PRESSES):
        user = f"learner-{n}"
        sandbox.world.give(user, OLD_LAB)
        pressed_at = clock.now()
        outcome = await relaunchers[0].relaunch(user, NEW_LAB)
        assert outcome.outcome == "launched"
        waited.append(clock.now() - pressed_at)
        await asyncio.sleep(PAUSE)
    for task in going:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*going)
    served = sum(r.at > clock.now() - 200 for r in sandbox.ledger.requests)
    assert not bulk or served > 0.9 * RATE * 200, "the bulk run is not idle meanwhile"
    return waited


@pytest.mark.parametrize("processes", [1, 3])
def test_a_bulk_run_costs_a_press_next_to_nothing(processes: int) -> None:
    alone = run_virtual(presses(0, processes=processes))
    beside = run_virtual(presses(BULK, processes=processes))
    assert sum(beside) < sum(alone) + PRESSES * 3.0


def test_places_are_booked_one_by_one_by_whoever_shares_the_rate() -> None:
    back = Return(lambda: 0.0)

    def told(rank: Rank) -> float:
        return round(back.after(100.0, rank=rank, rate=2.0, now=90.0), 3)

    assert [told(Rank.BULK_POLL) for _ in range(3)] == [10.0, 10.5, 11.0]
    assert [told(Rank.BUTTON_POLL) for _ in range(2)] == [10.0, 10.5], "as if nobody else were"
    assert [told(Rank.BULK_URGENT), told(Rank.BULK_POLL)] == [11.0, 13.0], "behind all of them"
    assert told(Rank.BUTTON_URGENT) == 10.0
