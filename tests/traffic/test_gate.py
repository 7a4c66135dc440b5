"""The gate in virtual time: who goes first, who is sent away, what one teaches the fleet."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    ConfigurationError,
    KeyRejected,
    LeaseLost,
    NotSent,
    PlatformError,
    PlatformPaused,
    PlatformUnavailable,
    PlatformUnreachable,
    RateLimited,
    StoreUnavailable,
)
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Circuit, Gate, Limits, Shared, before_effect, priority
from orchestrator.traffic.gate import PATIENCE
from orchestrator.traffic.pace import FIRST_OPEN, POLLS_FIRST

T = TypeVar("T")


class CountingStore(MemoryRunStore):
    """Counts how often the shared text is changed or looked at; ``down``: it cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.down = False

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        self.changes += 1
        if self.down:
            raise StoreUnavailable("gone for a moment")
        await asyncio.sleep(0.001)
        return await super().change(name, step)


@dataclass
class Wire:
    """What was really sent: (seconds since the beginning, what), and what comes of it."""

    error: Callable[[str], PlatformError | None] = lambda what: None
    seconds: float = 0.05
    sent: list[tuple[float, str]] = field(default_factory=list)

    async def send(self, what: str, left: float) -> str:
        self.sent.append((round(asyncio.get_running_loop().time(), 3), what))
        error = self.error(what)
        await asyncio.sleep(self.seconds)
        if error is not None:
            raise error
        return what

    @property
    def names(self) -> list[str]:
        return [what for _, what in self.sent]


@dataclass
class Process:
    """One process of the fleet: a gate, before the wire that all share."""

    wire: Wire
    store: Shared
    limits: Limits = field(default_factory=Limits)
    jitter: Callable[[], float] = lambda: 0.0

    def __post_init__(self) -> None:
        self.gate = Gate(self.store, limits=self.limits, clock=VirtualClock(), jitter=self.jitter)

    async def call(self, what: str, *, timeout: float = 60.0, bulk: bool = False) -> str:
        """An effect if its name begins so; says "held back" (and why) instead of raising that."""
        priority.set(int(bulk))
        try:
            return await self.gate.through(
                what,
                lambda left: self.wire.send(what, left),
                timeout=timeout,
                effect=what.startswith(("launch", "cancel")),
            )
        except PlatformPaused:
            return "paused"
        except RateLimited as error:
            return "limited" if error.status is None else "429"
        except PlatformError as error:
            return error.code

    def start(self, what: str, **options: Any) -> asyncio.Task[str]:
        return asyncio.get_running_loop().create_task(self.call(what, **options))


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Let a test run in virtual time."""

    def run() -> None:
        run_virtual(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def turned_away(retry_after: float | None = 4.0) -> RateLimited:
    return RateLimited("slow down", status=429, retry_after=retry_after)


# --- free, and limited ----------------------------------------------------------------------


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
async def test_effects_go_first_then_the_button_then_who_came_first() -> None:
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
        "launch a", "cancel b", "launch bulk", "poll a", "poll b", "bulk a",
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
        except RateLimited as error:
            told.append(asyncio.get_running_loop().time() + (error.retry_after or 0.0))

    await asyncio.gather(*(call() for _ in range(300)))
    assert asyncio.get_running_loop().time() <= PATIENCE + 0.2
    assert len(told) > 200
    for second in range(3, 25):
        assert sum(second <= at < second + 1 for at in told) <= 11


@virtual
async def test_a_call_is_never_held_for_more_than_half_of_its_time() -> None:
    wire = Wire()
    process = Process(wire, MemoryRunStore(), Limits(calls_per_second=1.0, burst=1))
    given: list[float] = []

    async def send(left: float) -> None:
        given.append(left)

    await process.gate.through("details", send, timeout=60)
    with pytest.raises(RateLimited):
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


# --- 429 ------------------------------------------------------------------------------------


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


# --- the circuit ----------------------------------------------------------------------------


def fails(what: str) -> PlatformError:
    return PlatformUnavailable("HTTP 503", status=503)


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


async def out_of_order(*fleet: Process) -> None:
    """Let the circuit open, and everybody know."""
    fleet[0].wire.error = fails
    for _ in range(5):
        await fleet[0].call("details")
    for process in fleet:
        await process.gate.look()
        assert process.gate.snapshot().circuit is Circuit.OPEN
    fleet[0].wire.sent.clear()


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


# --- right before an effect -----------------------------------------------------------------


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
