"""What one process meets, a 429 or an outage, teaches the whole fleet; in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    KeyRejected,
    NotSent,
    PlatformError,
    PlatformPaused,
    PlatformUnavailable,
    PlatformUnreachable,
)
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Circuit, Limits
from orchestrator.traffic.pace import FIRST_OPEN, POLLS_FIRST
from tests.traffic.processes import (
    Process,
    Wire,
    fails,
    out_of_order,
    turned_away,
    virtual,
)


@virtual
async def test_a_429_in_one_process_slows_another() -> None:
    store, wire = MemoryRunStore(), Wire()
    one, other = Process(wire, store), Process(wire, store)
    await one.call("details")
    await other.call("details")
    wire.error = lambda what: turned_away(10.0)
    assert await one.call("details") == "429"
    wire.error = lambda what: None
    await asyncio.sleep(1.0)  # as long as it may take another process to notice
    before = len(wire.sent)
    assert await other.call("details") == "limited"
    assert await one.call("launch") == "limited"
    assert len(wire.sent) == before, "neither was sent"
    snapshot = other.gate.snapshot()
    assert snapshot.paused_until is not None
    assert snapshot.limit == pytest.approx(1.0)
    await asyncio.sleep(10.0)
    assert await other.call("details") == "details"
    await asyncio.sleep(70.0)
    assert (await other.gate.look()).limit is None, "the lesson is forgotten in the end"


@virtual
async def test_after_a_pause_calls_begin_one_by_one() -> None:
    wire = Wire()
    process = Process(wire, MemoryRunStore(), Limits(calls_per_second=10.0, burst=10))
    wire.error = lambda what: turned_away(5.0)
    await process.call("details")
    wire.error = lambda what: None
    resumed = asyncio.get_running_loop().time() + 5.0

    async def keep_trying(n: int) -> None:
        answer = ""
        while answer != f"poll {n}":
            answer = await process.call(f"poll {n}")
            await asyncio.sleep(0.5)

    await asyncio.gather(*(keep_trying(n) for n in range(40)))
    times = [at - resumed for at, _ in wire.sent[1:]]
    assert min(times) >= 0
    assert sum(at < 1.0 for at in times) <= 6, "not the burst of 10"
    assert sum(at < 5.0 for at in times) <= 5 * 5 + 3


@virtual
async def test_the_429s_of_one_burst_are_one_lesson() -> None:
    wire = Wire(error=lambda what: turned_away(3.0))
    process = Process(wire, MemoryRunStore())
    await process.gate.look()
    answers = await asyncio.gather(*(process.call("details") for _ in range(50)))
    assert answers == ["429"] * 50
    snapshot = process.gate.snapshot()
    assert snapshot.limit == pytest.approx(5.0, rel=0.1), "half of the 10 a second that were sent"


@virtual
async def test_a_look_that_comes_back_late_does_not_undo_what_was_learned_since() -> None:
    class SlowToAnswer(MemoryRunStore):
        seconds = 0.0

        async def change(self, name: str, step: Any) -> Any:
            verdict = await super().change(name, step)
            await asyncio.sleep(self.seconds)
            return verdict

    store = SlowToAnswer()
    process = Process(Wire(error=lambda what: turned_away(30.0)), store)
    await process.gate.look()
    store.seconds = 0.5
    looking = asyncio.ensure_future(process.gate.look())
    await asyncio.sleep(0)
    store.seconds = 0.0
    assert await process.call("details") == "429"
    await looking
    assert process.gate.snapshot().paused_until is not None
    assert await process.call("details") == "limited"


@virtual
async def test_outages_anywhere_open_the_circuit_everywhere() -> None:
    store, wire = MemoryRunStore(), Wire(error=fails)
    fleet = [Process(wire, store) for _ in range(5)]
    answers = [await p.call("details") for p in fleet]
    assert answers == ["platform_unavailable"] * 5
    await asyncio.sleep(1.0)
    assert [await p.call("launch") for p in fleet] == ["paused"] * 5
    assert len(wire.sent) == 5, "the network was not touched"
    assert fleet[0].gate.snapshot().circuit is Circuit.OPEN


@pytest.mark.parametrize(
    ("error", "opens"),
    [
        (PlatformUnreachable("refused"), True),
        (PlatformUnavailable("HTTP 500"), True),
        (AnswerLost("time-out"), True),
        (CallRefused("no"), False),
        (KeyRejected("no"), False),
        (NotSent("something else"), False),
    ],
)
def test_what_counts_as_an_outage(error: PlatformError, opens: bool) -> None:
    async def test() -> None:
        process = Process(Wire(error=lambda what: error), MemoryRunStore())
        for _ in range(8):
            await process.call("details")
        assert (process.gate.snapshot().circuit is Circuit.OPEN) is opens

    run_virtual(test())


@virtual
async def test_ones_own_impatience_is_no_outage() -> None:
    wire = Wire(error=lambda what: AnswerLost("time-out"))
    process = Process(wire, MemoryRunStore())
    for _ in range(8):
        await process.call("details", timeout=2.0)
    assert process.gate.snapshot().circuit is Circuit.CLOSED


@virtual
async def test_answers_in_between_keep_the_circuit_closed() -> None:
    wire = Wire(error=lambda what: fails(what) if what == "bad" else None)
    process = Process(wire, MemoryRunStore())
    for _ in range(10):
        for what in ("bad", "bad", "bad", "good"):
            await process.call(what)
    assert process.gate.snapshot().circuit is Circuit.CLOSED
    assert process.gate.snapshot().limit is None


@virtual
async def test_one_trial_in_the_whole_fleet_and_the_others_wait() -> None:
    store, wire = MemoryRunStore(), Wire()
    fleet = [Process(wire, store) for _ in range(4)]
    await out_of_order(*fleet)
    await asyncio.sleep(FIRST_OPEN)
    wire.seconds = 2.5  # long enough for all to try meanwhile
    answers = await asyncio.gather(*(p.call(f"poll {n}") for p in fleet for n in range(50)))
    assert len(wire.sent) == 1
    assert answers.count("platform_unavailable") == 1
    assert answers.count("paused") == 199
    assert fleet[0].gate.snapshot().circuit is Circuit.OPEN, "it failed: open for longer"
    trial_at = fleet[0].gate.snapshot().trial_at
    assert trial_at is not None
    assert trial_at - VirtualClock().now() == pytest.approx(2 * FIRST_OPEN, abs=0.6)


@virtual
async def test_a_poll_is_the_trial_rather_than_a_launch() -> None:
    process = Process(Wire(), MemoryRunStore())
    await out_of_order(process)
    process.wire.error = lambda what: None
    await asyncio.sleep(FIRST_OPEN)
    launch = process.start("launch")
    await asyncio.sleep(0.5)
    assert process.wire.sent == [], "it waits for a poll to come"
    assert await process.call("poll") == "poll"
    assert await launch == "launch"
    assert process.wire.names == ["poll", "launch"]


@virtual
async def test_a_launch_is_the_trial_if_there_is_nothing_else() -> None:
    process = Process(Wire(), MemoryRunStore())
    await out_of_order(process)
    process.wire.error = lambda what: None
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(FIRST_OPEN)
    assert await process.call("launch") == "launch"
    assert asyncio.get_running_loop().time() - began < FIRST_OPEN + POLLS_FIRST + 0.2
    assert process.gate.snapshot().circuit is Circuit.CLOSED


@virtual
async def test_a_trial_that_is_cancelled_is_left_to_the_next() -> None:
    process = Process(Wire(), MemoryRunStore())
    await out_of_order(process)
    process.wire.error = lambda what: None
    await asyncio.sleep(FIRST_OPEN)
    trial = process.start("poll")
    await asyncio.sleep(0.02)
    assert process.wire.names == ["poll"]
    trial.cancel()
    await asyncio.sleep(0)
    assert await process.call("next") == "next"
    assert process.gate.snapshot().circuit is Circuit.CLOSED


@virtual
async def test_recovery_is_a_ramp() -> None:
    store, wire = MemoryRunStore(), Wire()
    dice = random.Random(3)
    fleet = [Process(wire, store, jitter=dice.random) for _ in range(3)]
    await out_of_order(*fleet)
    done: list[float] = []

    async def run(process: Process, n: int) -> None:
        while True:
            try:
                await process.gate.through(
                    "details", lambda left: wire.send(f"poll {n}", left), timeout=600
                )
            except NotSent as error:
                await asyncio.sleep(error.retry_after or 0.0)
            except PlatformUnavailable:
                await asyncio.sleep(1.0)
            else:
                done.append(asyncio.get_running_loop().time())
                return

    runs = [asyncio.ensure_future(run(p, n)) for p in fleet for n in range(200)]
    await asyncio.sleep(60)
    during = len(wire.sent)
    assert 2 <= during <= 4, "a minute of outage costs a few trials, however many wait"
    wire.error = lambda what: None
    await asyncio.gather(*runs)
    first = min(done)
    assert sum(at < first + 1 for at in done) <= 20
    assert sum(at < first + 10 for at in done) <= 60
    assert max(done) - first < 200
    assert len(wire.sent) - during <= 602, "nobody was sent for nothing"


@virtual
async def test_retry_after_is_spread() -> None:
    process = Process(Wire(), MemoryRunStore(), jitter=random.Random(1).random)
    await out_of_order(process)
    told = []
    for _ in range(1000):
        with pytest.raises(PlatformPaused) as caught:
            await process.gate.through(
                "details", lambda left: process.wire.send("", left), timeout=9
            )
        told.append(caught.value.retry_after)
        assert caught.value.retry_after is not None
        assert FIRST_OPEN - 0.5 <= caught.value.retry_after <= 75
    per_second = [sum(s <= (t or 0) < s + 1 for t in told) for s in range(75)]
    assert max(per_second) <= 60
    assert "nothing was done" in str(caught.value)
    assert process.wire.sent == []


@virtual
async def test_processes_do_not_come_back_at_the_same_moment() -> None:
    store, wire, dice = MemoryRunStore(), Wire(), random.Random(2)
    fleet = [Process(wire, store, jitter=dice.random) for _ in range(20)]
    await out_of_order(*fleet)
    told = set()
    for process in fleet:
        with pytest.raises(PlatformPaused) as caught:
            await process.gate.through("details", lambda left: wire.send("", left), timeout=9)
        told.add(round(caught.value.retry_after or 0.0, 2))
    assert len(told) > 15
    assert max(told) - min(told) > 1.0
