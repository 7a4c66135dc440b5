"""Alive and ready: what it costs, what it says, and how a service finds back."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    HeldBack,
    KeyRejected,
    PlatformUnreachable,
    RateLimited,
    StoreUnavailable,
)
from orchestrator.service import health
from orchestrator.testing.virtual import run_virtual
from orchestrator.traffic.pace import FIRST_OPEN
from tests.service.operating import Service

IN_ORDER = {"ready": True, "store": "ok", "platform": "ok", "draining": False}


class Counts:
    """A platform that counts the questions that it is asked, and answers them in time or not."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.seconds = 0.0

    async def count_active(self, *, timeout: float) -> int:
        self.asked += 1
        await asyncio.sleep(min(self.seconds, timeout))
        if self.seconds >= timeout:
            raise AnswerLost("no answer in time")
        if self.error is not None:
            raise self.error
        return 0


class IsAway(MemoryRunStore):
    """A store that cannot be reached, or says nothing at all, while it is told to."""

    away = silent = False
    asked = 0

    async def next_due(self, owner: str | None, *, after: float) -> float | None:
        if owner is None:
            self.asked += 1
            if self.away:
                raise StoreUnavailable("gone")
            if self.silent:
                await asyncio.sleep(1e6)
        return await super().next_due(owner, after=after)


async def _ready(client: httpx.AsyncClient, *, after: float = 0.0) -> tuple[int, dict[str, Any]]:
    await asyncio.sleep(after)
    answer = await client.get("/readyz")
    told: dict[str, Any] = answer.json()
    assert told["ready"] == (answer.status_code == 200)
    return answer.status_code, told


def test_alive_needs_nothing() -> None:
    async def main() -> None:
        platform, store = Counts(), IsAway()
        service = Service(around=platform, store=store)
        store.away = True
        platform.error = PlatformUnreachable("gone")
        service.parts.drain()
        async with service.client() as client:
            answer = await client.get("/healthz")
            assert (answer.status_code, answer.json()) == (200, {"alive": True})
        assert (platform.asked, store.asked) == (0, 0)

    run_virtual(main())


@pytest.mark.parametrize("gated", [False, True])
def test_ten_probes_a_second_ask_the_platform_once_a_minute(gated: bool) -> None:
    async def main() -> None:
        platform, store = Counts(), IsAway()
        service = Service(around=platform, store=store, gated=gated)
        async with service.client() as client:
            for _ in range(10 * 150):
                assert await _ready(client, after=0.1) == (200, IN_ORDER)
        assert platform.asked == 3
        assert store.asked <= 151

    run_virtual(main())


def test_a_hundred_probes_at_once_are_one() -> None:
    async def main() -> None:
        platform, store = Counts(), IsAway()
        platform.seconds = 0.5
        service = Service(around=platform, store=store)
        async with service.client() as client:
            leaves = asyncio.create_task(client.get("/readyz"))
            await asyncio.sleep(0.1)
            leaves.cancel()
            told = await asyncio.gather(*(_ready(client) for _ in range(100)))
            assert told == [(200, IN_ORDER)] * 100
        assert (platform.asked, store.asked) == (1, 1)

    run_virtual(main())


def test_a_platform_that_answers_relaunches_is_not_asked() -> None:
    async def main() -> None:
        service = Service(schedule=20.0)
        async with service.client() as client:
            service.platform.add_running("ann", 1001)
            handle = service.relauncher.start("ann", 1002)
            for _ in range(100):
                assert await _ready(client, after=1) == (200, IN_ORDER)
            assert (await handle).ok
        assert "count_active" not in [name for name, _ in service.platform.calls]

    run_virtual(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlatformUnreachable("no"), "platform_unreachable"),
        (AnswerLost("no"), "answer_lost"),
        (KeyRejected("no"), "key_rejected"),
        (RuntimeError("a bug of a port"), "platform_error"),
        (CallRefused("no"), "ok"),
        (RateLimited("later"), "ok"),
        (HeldBack("later"), "ok"),
    ],
)
def test_what_the_platform_answers_to_a_question_of_ours(error: Exception, code: str) -> None:
    async def main() -> None:
        platform = Counts()
        platform.error = error
        service = Service(around=platform)
        async with service.client() as client:
            status, told = await _ready(client)
            assert (status, told["platform"]) == (200 if code == "ok" else 503, code)
            assert told["store"] == "ok"

    run_virtual(main())


def test_a_failure_is_asked_again_soon_and_forgotten_at_once_when_a_call_is_answered() -> None:
    async def main() -> None:
        platform = Counts()
        platform.error = PlatformUnreachable("gone")
        service = Service(around=platform)
        async with service.client() as client:
            for _ in range(30):
                assert (await _ready(client, after=1))[1]["platform"] == "platform_unreachable"
            assert platform.asked == 30 / health.FAILED
            service.metrics.call("details", "ok", 0.1, answered=True)
            assert await _ready(client, after=1) == (200, IN_ORDER)
            assert platform.asked == 30 / health.FAILED

    run_virtual(main())


def test_while_the_circuit_is_open_nobody_calls_and_then_one_probe_is_the_trial() -> None:
    async def main() -> None:
        platform = Counts()
        platform.error = PlatformUnreachable("gone")
        service = Service(around=platform, gated=True)
        async with service.client() as client:
            for _ in range(5):
                with pytest.raises(PlatformUnreachable):
                    await service.parts.platform.count_active(timeout=60)
            assert (await _ready(client))[1]["platform"] == "platform_paused"
            assert (await _ready(client, after=FIRST_OPEN - 2))[1]["platform"] == "platform_paused"
            assert platform.asked == 5
            platform.error = None
            # Nobody but the probes would ever call: learners are sent elsewhere.
            assert await _ready(client, after=3) == (200, IN_ORDER)
            assert platform.asked == 6

    run_virtual(main())


def test_a_probe_does_not_wait_for_a_slow_platform() -> None:
    async def main() -> None:
        platform = Counts()
        platform.seconds = 3.0
        service = Service(around=platform)
        async with service.client() as client:
            before = service.clock.now()
            status, told = await _ready(client)
            assert (status, told["platform"]) == (503, health.NOT_KNOWN)
            assert service.clock.now() - before == pytest.approx(health.PATIENCE)
            assert await _ready(client, after=3) == (200, IN_ORDER)
            assert platform.asked == 1

    run_virtual(main())


def test_a_store_that_is_away_or_silent_is_told_and_its_return_too() -> None:
    async def main() -> None:
        store = IsAway()
        service = Service(around=Counts(), store=store)
        async with service.client() as client:
            store.away = True
            assert (await _ready(client))[1]["store"] == "store_unavailable"
            store.away, store.silent = False, True
            status, told = await _ready(client, after=2)
            assert (status, told["store"], told["platform"]) == (503, "store_unavailable", "ok")
            store.silent = False
            assert await _ready(client, after=2) == (200, IN_ORDER)

    run_virtual(main())


def test_a_service_that_is_being_stopped_is_not_ready_at_once() -> None:
    async def main() -> None:
        service = Service(around=Counts())
        async with service.client() as client:
            assert await _ready(client) == (200, IN_ORDER)
            service.parts.drain()
            assert await _ready(client) == (503, IN_ORDER | {"ready": False, "draining": True})

    run_virtual(main())
