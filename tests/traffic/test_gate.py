"""The gate in virtual time: who goes first, who is held, who is sent away."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import (
    ConfigurationError,
    HeldBack,
    LeaseLost,
)
from orchestrator.traffic import Gate, Limits, before_effect
from orchestrator.traffic.gate import PATIENCE
from orchestrator.traffic.pace import FIRST_OPEN, POLLS_FIRST
from tests.traffic.processes import (
    CountingStore,
    Process,
    Wire,
    fails,
    out_of_order,
    virtual,
)


@virtual
async def test_with_nothing_to_heed_the_store_is_asked_once_a_second() -> None:
    store = CountingStore()
    process = Process(Wire(), store)
    for _ in range(400):
        await process.call("details")
    seconds = asyncio.get_running_loop().time()
    assert seconds > 19
    assert store.changes <= seconds + 1
    assert process.gate.snapshot().calls_per_second == pytest.approx(20, rel=0.3)


@virtual
async def test_a_store_that_is_slow_to_answer_sends_nobody_away() -> None:
    class SlowStore(CountingStore):
        async def change(self, *arguments: Any) -> Any:
            await asyncio.sleep(PATIENCE + 1.0)
            return await super().change(*arguments)

    process = Process(Wire(), SlowStore())
    answers = await asyncio.gather(*(process.call("details") for _ in range(300)))
    assert set(answers) == {"details"}
    assert process.wire.sent[-1][0] < 3 * PATIENCE


@virtual
async def test_no_more_than_the_limit_is_sent_by_all_processes_together() -> None:
    store, wire = MemoryRunStore(), Wire()
    limits = Limits(calls_per_second=5.0, burst=4)
    fleet = [Process(wire, store, limits) for _ in range(3)]
    answers = await asyncio.gather(*(p.call("details") for p in fleet for _ in range(20)))
    times = [at for at, _ in wire.sent]
    assert len(times) == answers.count("details") > 10
    assert answers.count("limited") == 60 - len(times)
    for n, first in enumerate(times):
        for m, last in enumerate(times[n:], start=1):
            assert m <= 4 + (last - first) * 5.0 + 0.1


@virtual
async def test_the_button_goes_first_then_effects_then_who_came_first() -> None:
    process = Process(Wire(), MemoryRunStore(), Limits(calls_per_second=4.0, burst=1))
    await process.call("first")
    waiting = [
        process.start("bulk a", bulk=True),
        process.start("poll a"),
        process.start("poll b"),
        process.start("launch bulk", bulk=True),
        process.start("launch a"),
        process.start("cancel b"),
    ]
    await asyncio.gather(*waiting)
    assert process.wire.names[1:] == [
        "launch a", "cancel b", "poll a", "poll b", "launch bulk", "bulk a",
    ]  # fmt: skip


@virtual
async def test_an_effect_of_another_process_finds_tokens_behind_polls() -> None:
    store, wire = MemoryRunStore(), Wire()
    limits = Limits(calls_per_second=2.0, burst=10)
    polling, other = Process(wire, store, limits), Process(wire, store, limits)
    polls = [polling.start(f"poll {n}") for n in range(100)]
    await asyncio.sleep(0.01)
    assert len(wire.sent) == 7
    began = asyncio.get_running_loop().time()
    assert await other.call("launch") == "launch"
    assert asyncio.get_running_loop().time() - began < 0.1
    await asyncio.gather(*polls)


@virtual
async def test_nobody_is_held_for_long_and_those_sent_away_come_back_one_by_one() -> None:
    process = Process(Wire(), MemoryRunStore(), Limits(calls_per_second=10.0, burst=10))
    told: list[float] = []

    async def call() -> None:
        try:
            await process.gate.through(
                "details", lambda left: process.wire.send("", left), timeout=60
            )
        except HeldBack as error:
            told.append(asyncio.get_running_loop().time() + (error.retry_after or 0.0))

    await asyncio.gather(*(call() for _ in range(300)))
    assert asyncio.get_running_loop().time() <= PATIENCE + 0.2
    assert len(told) > 200
    for second in range(3, 25):
        assert sum(second <= at < second + 1 for at in told) <= 11


@virtual
async def test_whoever_learns_by_asking_that_the_turn_is_far_away_is_sent_away() -> None:
    store, limits = MemoryRunStore(), Limits(calls_per_second=0.001, burst=1)
    wire = Wire()
    assert await Process(wire, store, limits).call("details") == "details"
    assert await Process(wire, store, limits).call("details") == "limited"
    assert asyncio.get_running_loop().time() <= PATIENCE


@virtual
async def test_a_call_is_never_held_for_more_than_half_of_its_time() -> None:
    wire = Wire()
    process = Process(wire, MemoryRunStore(), Limits(calls_per_second=1.0, burst=1))
    given: list[float] = []

    async def send(left: float) -> None:
        given.append(left)

    await process.gate.through("details", send, timeout=60)
    with pytest.raises(HeldBack):
        await process.gate.through("details", send, timeout=1.5)
    await process.gate.through("details", send, timeout=2.5)
    assert given == [60.0, pytest.approx(1.5, abs=0.01)]


@virtual
async def test_who_is_cancelled_while_it_waits_leaves_its_place_to_the_next() -> None:
    process = Process(Wire(), MemoryRunStore(), Limits(calls_per_second=1.0, burst=1))
    await process.call("first")
    gone, stays = process.start("gone"), process.start("stays")
    await asyncio.sleep(0.5)
    assert process.gate.snapshot().waiting == 2
    gone.cancel()
    assert await stays == "stays"
    assert process.wire.names == ["first", "stays"]
    assert process.wire.sent[1][0] == pytest.approx(1.0, abs=0.01)
    assert process.gate.snapshot().waiting == 0


@virtual
async def test_a_permit_that_came_at_the_moment_of_a_cancel_goes_to_the_next() -> None:
    class CancelsOne(MemoryRunStore):
        gone: asyncio.Task[str] | None = None

        async def change(self, name: str, step: Any) -> Any:
            verdict = await super().change(name, step)
            if self.gone is not None and verdict.admitted:
                # Runs after the permit was given, and before its caller does.
                asyncio.get_running_loop().call_soon(self.gone.cancel)
                self.gone = None
            return verdict

    store = CancelsOne()
    process = Process(Wire(), store, Limits(calls_per_second=1.0, burst=1))
    await process.call("first")
    gone, stays = process.start("gone"), process.start("stays")
    store.gone = gone
    assert await stays == "stays"
    assert gone.cancelled()
    ((_, first), (at, second)) = process.wire.sent
    assert (first, second) == ("first", "stays")
    assert at == pytest.approx(1.0, abs=0.01)


@virtual
async def test_one_task_fails_and_the_line_goes_on() -> None:
    """What a store raises that it shouldn't reaches those who wait, and nobody after them."""

    class Broken(MemoryRunStore):
        broken = True

        async def change(self, name: str, step: Any) -> Any:
            if self.broken and name:
                raise ZeroDivisionError
            return await super().change(name, step)

    store = Broken()
    process = Process(Wire(), store, Limits(calls_per_second=5.0))
    with pytest.raises(ZeroDivisionError):
        await process.call("details")
    store.broken = False
    assert await process.call("details") == "details"


@virtual
async def test_without_its_store_a_process_goes_on_with_what_it_knew() -> None:
    store = CountingStore()
    process = Process(Wire(), store, Limits(calls_per_second=2.0, burst=2))
    await process.call("details")
    store.down = True
    answers = await asyncio.gather(*(process.call("launch") for _ in range(12)))
    assert 6 <= answers.count("launch") <= 8
    assert set(answers) == {"launch", "limited"}


@virtual
async def test_the_lease_is_checked_right_before_an_effect_and_after_the_wait() -> None:
    process = Process(Wire(), MemoryRunStore(), Limits(calls_per_second=1.0, burst=1))
    checked: list[float] = []

    async def check() -> None:
        checked.append(asyncio.get_running_loop().time())

    before_effect.set(check)
    await process.call("poll")
    assert checked == []
    await process.call("launch")
    assert checked == [pytest.approx(1.0, abs=0.01)]


@virtual
async def test_whoever_lost_the_lease_sends_nothing_and_blocks_nobody() -> None:
    process = Process(Wire(), MemoryRunStore())

    async def lost() -> None:
        raise LeaseLost("another process drives it")

    async def launch() -> None:
        before_effect.set(lost)
        await process.call("launch")

    with pytest.raises(LeaseLost):
        await asyncio.create_task(launch())
    assert process.wire.sent == []
    await out_of_order(process)
    process.wire.error = lambda what: None
    await asyncio.sleep(FIRST_OPEN + POLLS_FIRST)
    with pytest.raises(LeaseLost):
        await asyncio.create_task(launch())
    assert process.wire.sent == []
    assert await process.call("poll") == "poll", "the trial was given back"


@virtual
async def test_an_answer_is_handed_on_even_if_the_store_is_gone() -> None:
    store = CountingStore()
    process = Process(Wire(error=fails), store)
    await process.call("details")
    process.wire.error = lambda what: None
    store.down = True
    assert await process.call("launch") == "launch"


def test_a_missing_library_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install"):
        Gate()


def test_a_gate_outlives_its_event_loop() -> None:
    gate = Gate(limits=Limits(calls_per_second=100.0, burst=2))

    async def some() -> list[int]:
        async def send(left: float) -> int:
            return 1

        return await asyncio.gather(*(gate.through("details", send, timeout=60) for _ in range(4)))

    assert asyncio.run(some()) == [1] * 4
    assert asyncio.run(some()) == [1] * 4
