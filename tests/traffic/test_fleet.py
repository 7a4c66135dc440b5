"""A fleet of four processes before the sandbox, in virtual time: whole relaunches, politely."""

from __future__ import annotations

import asyncio
import random

import httpx
import pytest

from orchestrator import AsyncRelauncher, Outcome
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.sandbox import Sandbox, SandboxTransport
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Gate, Limits, PolitePlatform

OLD_LAB, NEW_LAB = 1001, 1002
PROCESSES = 4
#: What the platform serves in any second.
SERVED = 20


class Distant(SandboxTransport):
    """The sandbox, a twentieth of a second away."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.05)
        return await super().handle_async_request(request)


class Fleet:
    """Processes that share a store, each with a gate of its own; or with none at all."""

    def __init__(self, sandbox: Sandbox, clock: VirtualClock, limits: Limits | None) -> None:
        self.sandbox = sandbox
        store, dice = MemoryRunStore(), random.Random(1)
        self.gates: list[Gate] = []
        self.relaunchers = []
        for _ in range(PROCESSES):
            client = AsyncSkillableClient("sandbox-key", transport=Distant(sandbox), now=clock.now)
            platform = AsyncSkillablePlatform(client)
            if limits is None:
                self.relaunchers.append(AsyncRelauncher(platform, clock=clock))
                continue
            gate = Gate(store, limits=limits, clock=clock, jitter=dice.random)
            self.gates.append(gate)
            self.relaunchers.append(AsyncRelauncher(PolitePlatform(platform, gate), clock=clock))

    async def relaunch(self, learners: int) -> list[Outcome]:
        """All at the same moment: a class that begins its next lab."""
        users = [f"learner-{n}" for n in range(learners)]
        for user in users:
            self.sandbox.world.give(user, OLD_LAB)
        outcomes = await asyncio.gather(
            *(
                self.relaunchers[n % PROCESSES].relaunch(user, NEW_LAB)
                for n, user in enumerate(users)
            )
        )
        for user in users:
            assert len(self.sandbox.ledger.launches(user)) == 1
            assert self.sandbox.ledger.max_alive(user) == 1
        return list(outcomes)

    def statuses(self, since: float, until: float = float("inf")) -> list[int | None]:
        """The HTTP statuses of what arrived in that time."""
        return [r.status for r in self.sandbox.ledger.requests if since <= r.at < until]


@pytest.mark.parametrize(
    ("limits", "turned_away_at_first", "turned_away_later"),
    [
        (Limits(calls_per_second=15.0, burst=4), 0, 0),
        # Nobody knew the platform's limit: the first volley is lost, and then it is learned.
        (Limits(), 200, 4),
    ],
)
def test_two_hundred_relaunches_at_once_are_served_politely(
    limits: Limits, turned_away_at_first: int, turned_away_later: int
) -> None:
    async def test() -> None:
        clock = VirtualClock()
        sandbox = Sandbox(now=clock.now, teardown="lognormal:30,0.4", max_calls_per_second=SERVED)
        fleet = Fleet(sandbox, clock, limits)
        began = clock.now()
        outcomes = await fleet.relaunch(200)
        assert all(outcome.outcome == "launched" for outcome in outcomes)
        assert fleet.statuses(began, began + 2).count(429) <= turned_away_at_first
        assert fleet.statuses(began + 2).count(429) <= turned_away_later
        busy = fleet.statuses(began + 20, began + 80)
        assert busy.count(200) > 60 * SERVED / 2, "polite, not idle"

    run_virtual(test())


def test_without_a_gate_most_calls_are_turned_away() -> None:
    """What the test above is measured against, with fewer learners."""

    async def test() -> None:
        clock = VirtualClock()
        sandbox = Sandbox(now=clock.now, teardown="fixed:20", max_calls_per_second=SERVED // 4)
        fleet = Fleet(sandbox, clock, None)
        await fleet.relaunch(50)
        statuses = fleet.statuses(0)
        assert statuses.count(429) > statuses.count(200)

    run_virtual(test())


def test_an_outage_of_a_minute_costs_a_few_calls_and_no_relaunch() -> None:
    async def test() -> None:
        clock = VirtualClock()
        sandbox = Sandbox(now=clock.now, teardown="lognormal:30,0.4")
        fleet = Fleet(sandbox, clock, Limits())
        loop = asyncio.get_running_loop()
        loop.call_later(20, sandbox.faults.add, "*:http_503=0*0")
        loop.call_later(80, sandbox.faults.faults.clear)
        outcomes = await fleet.relaunch(100)
        assert {outcome.outcome for outcome in outcomes} == {"launched"}
        requests = sandbox.ledger.requests
        failed = [r.at for r in requests if r.status == 503]
        volley = sum(at < failed[0] + 1 for at in failed)
        assert volley <= 100, "what was on the way when it began: nobody calls twice"
        assert len(failed) - volley <= 4, "then trials alone, further apart each time"
        back = min(r.at for r in requests if r.at > failed[-1])
        assert len(fleet.statuses(back, back + 5)) <= 40, "they don't come back all at once"

    run_virtual(test())
