"""The pace: how a 429 lowers the rate, how that recovers, when the circuit opens and closes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.traffic import pace as p
from orchestrator.traffic.pace import Circuit, Limits, Pace

AT = 1_700_000_000.0
FREE = Limits()
TEN = Limits(calls_per_second=10.0)


def busy(calls_per_second: float) -> Pace:
    """A consumer that has sent so much for a while."""
    return Pace(flow=calls_per_second, flow_at=AT)


def limited(
    pace: Pace,
    limits: Limits,
    at: float = AT,
    retry_after: float | None = 4.0,
    served: float = 0.0,
) -> Pace:
    """A 429 to a call that knew of all cuts so far."""
    return p.rate_limited(pace, limits, at, retry_after=retry_after, cuts=pace.cuts, served=served)


def opened(limits: Limits = FREE, at: float = AT, pace: Pace | None = None) -> Pace:
    """The circuit after as many outages as open it."""
    pace = pace or Pace()
    for _ in range(limits.outages):
        pace = p.failed(pace, limits, at)
    return pace


def test_without_a_limit_and_a_lesson_there_is_no_rate() -> None:
    assert p.rate(busy(1000), FREE, AT) is None
    assert p.is_calm(busy(1000), FREE, AT)
    assert p.rate(busy(1000), TEN, AT) == 10.0
    assert not p.is_calm(Pace(), TEN, AT)


@pytest.mark.parametrize(
    ("flow", "limits", "rate", "goal"),
    [
        (40.0, FREE, 20.0, 80.0),
        (8.0, FREE, 4.0, 16.0),
        (0.5, FREE, 1.0, 10.0),  # no less than LEAST_RATE; lifted at LEAST_GOAL at the earliest
        (4.0, TEN, 5.0, 10.0),  # what is in force counts, not what was sent
        (0.1, Limits(calls_per_second=0.4), 0.2, 0.4),
    ],
)
def test_a_429_that_nothing_explains_halves_the_rate(
    flow: float, limits: Limits, rate: float, goal: float
) -> None:
    pace = limited(busy(flow), limits)
    assert pace.paused_until == AT + 4.0
    assert p.rate(pace, limits, pace.paused_until) == pytest.approx(rate)
    assert pace.goal == pytest.approx(goal)
    assert not p.is_calm(pace, limits, AT + 3.9)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(None, p.PAUSE), (0.0, p.SHORTEST_PAUSE), (7.0, 7.0), (1e9, p.LONGEST_PAUSE)],
)
def test_the_pause_is_what_the_platform_says_within_reason(
    told: float | None, seconds: float
) -> None:
    assert limited(Pace(), FREE, retry_after=told).paused_until == AT + seconds


def test_one_episode_of_429s_lowers_the_rate_once_and_pauses_for_the_longest() -> None:
    pace = limited(busy(40), FREE)
    for told in (9.0, 2.0, 5.0):  # these were sent before the first answer came back
        pace = p.rate_limited(pace, FREE, AT + 0.1, retry_after=told, cuts=0)
    assert pace.cuts == 1
    assert pace.paused_until == AT + 9.1
    assert p.rate(pace, FREE, pace.paused_until) == pytest.approx(20.0)
    again = limited(pace, FREE, at=AT + 10)
    assert again.cuts == 2
    assert p.rate(again, FREE, again.paused_until) < 20.0  # type: ignore[operator]  # not None


def test_a_taught_limit_is_lifted_in_the_end() -> None:
    pace = limited(busy(40), FREE)
    after = pace.paused_until
    assert p.rate(pace, FREE, after + p.RECOVERY / 2) == pytest.approx(60.0)
    assert p.rate(pace, FREE, after + p.RECOVERY) is None
    assert p.is_calm(pace, FREE, after + p.RECOVERY)


@given(
    flow=st.floats(0, 500),
    configured=st.none() | st.floats(0.1, 200),
    times=st.lists(st.floats(0, 300), min_size=2, max_size=20),
)
def test_recovery_is_steady_and_never_exceeds_the_limit(
    flow: float, configured: float | None, times: list[float]
) -> None:
    limits = Limits(calls_per_second=configured)
    pace = limited(busy(flow), limits)
    rates = [p.rate(pace, limits, AT + t) for t in sorted(times)]
    known = [r for r in rates if r is not None]
    assert known == sorted(known)
    assert rates[: len(known)] == known, "once lifted, it stays lifted"
    assert all(0 < r <= (configured or 2 * max(flow, p.LEAST_GOAL)) for r in known)
    assert p.rate(pace, limits, AT + 4 + p.HOLD + 2 * p.RECOVERY) == configured


def test_a_limit_that_was_met_is_kept_just_below_of_for_a_while() -> None:
    pace = limited(busy(9), FREE, served=50.0)
    after = pace.paused_until
    assert p.rate(pace, FREE, after) == pytest.approx(47.5)
    assert p.rate(pace, FREE, after + p.HOLD) == pytest.approx(47.5)
    assert p.rate(pace, FREE, after + p.HOLD + p.RECOVERY / 2) == pytest.approx(1.5 * 47.5)
    assert p.rate(pace, FREE, after + p.HOLD + p.RECOVERY) is None
    assert p.rate(limited(busy(9), FREE, served=200.0), FREE, after) == pytest.approx(192.0)


def test_a_few_calls_that_were_served_show_no_limit() -> None:
    pace = limited(busy(8), FREE, served=p.LEAST_GOAL - 1)
    assert replace(pace, met=0.0) == limited(busy(8), FREE)


def test_what_others_were_served_raises_what_was_met() -> None:
    pace = limited(busy(40), FREE, served=6.0)
    assert p.rate(pace, FREE, pace.paused_until) == pytest.approx(20.0), "nothing explains it yet"
    pace = p.also_served(pace, cuts=pace.cuts, served=30.0)
    assert p.rate(pace, FREE, pace.paused_until) == pytest.approx(33.5)
    pace = p.also_served(pace, cuts=pace.cuts, served=14.0)
    assert p.rate(pace, FREE, pace.paused_until) == pytest.approx(47.5)
    assert p.also_served(pace, cuts=pace.cuts - 1, served=99.0) == pace, "of another 429"


def test_a_good_rate_that_meets_a_429_is_lowered_a_little_and_halved_if_it_does_so_soon() -> None:
    pace = replace(limited(Pace(), FREE, served=50.0), flow=47.0, flow_at=AT + 300)
    later = limited(pace, FREE, at=AT + 300)
    assert later.taught == later.goal == pytest.approx(0.95 * 47.5)
    soon = limited(replace(later, flow=45.0, flow_at=AT + 320), FREE, at=AT + 320)
    assert soon.taught == pytest.approx(0.95 * 47.5 / 2)
    assert soon.goal == pytest.approx(0.9 * 0.95 * 47.5)
    assert p.rate(soon, FREE, soon.paused_until + p.RECOVERY) == soon.goal


def test_a_limit_that_has_become_lower_is_measured_again() -> None:
    pace = replace(limited(Pace(), FREE, served=50.0), flow=47.0, flow_at=AT + 300)
    assert limited(pace, FREE, at=AT + 300, served=20.0).goal == pytest.approx(17.5)


def test_a_storm_of_429s_leaves_a_goal_that_is_worth_something() -> None:
    pace, at = limited(Pace(), FREE, served=100.0), AT
    for _ in range(8):
        at += 10
        pace = replace(pace, flow=p.rate(pace, FREE, at) or 0.0, flow_at=at)
        pace = limited(pace, FREE, at=at)
    assert p.rate(pace, FREE, pace.paused_until) <= 10.0  # type: ignore[operator]  # not None
    assert p.rate(pace, FREE, at + 2 * p.RECOVERY) >= 40.0  # type: ignore[operator]  # not None


def test_below_a_limit_that_was_met_bursts_are_as_small_as_the_room_there_is() -> None:
    pace = limited(Pace(), FREE, served=50.0)
    assert p.in_force(pace, FREE, AT + 5).burst == 5
    assert p.in_force(limited(Pace(), FREE, served=200.0), FREE, AT + 5).burst == 10
    assert p.in_force(pace, FREE, AT + 5 + p.HOLD) == FREE
    one = Limits(burst=1)
    assert p.in_force(pace, one, AT + 5) == one


def test_an_outage_does_not_make_a_fleet_forget_the_limit() -> None:
    pace = opened(pace=limited(busy(47), TEN, served=50.0))
    pace = p.begin_trial(pace, AT + 10)
    pace = p.answered(pace, TEN, AT + 10, trial=pace.trials)
    assert p.rate(pace, Limits(calls_per_second=100.0), AT + 200) == pytest.approx(9.5)


@given(retries=st.lists(st.floats(0, 50) | st.none(), min_size=1, max_size=40), gap=st.floats(0, 9))
def test_however_many_429s_the_rate_stays_within_bounds(
    retries: list[float | None], gap: float
) -> None:
    pace, at = busy(80), AT
    for told in retries:
        pace = limited(pace, TEN, at, told)
        at += gap
        assert p.LEAST_RATE <= (p.rate(pace, TEN, at) or 0) <= 10.0
        assert pace.paused_until <= at + max(50.0, p.PAUSE)


def test_flow_is_what_was_sent_of_late() -> None:
    pace = Pace()
    for second in range(60):
        pace = p.sent(pace, 20, AT + second)
    assert p.sent(pace, 0, AT + 60).flow == pytest.approx(20.0, rel=0.15)
    assert p.sent(pace, 0, AT + 120).flow < 0.001


def test_outages_in_a_row_open_the_circuit() -> None:
    pace = Pace()
    for _ in range(FREE.outages - 1):
        pace = p.failed(pace, FREE, AT)
        assert pace.circuit is Circuit.CLOSED
    assert p.answered(pace, FREE, AT).outages == 0, "an answer in between begins afresh"
    assert p.failed(pace, FREE, AT).circuit is Circuit.OPEN


def test_outages_far_apart_are_not_in_a_row() -> None:
    pace = Pace()
    for n in range(3 * FREE.outages):
        pace = p.failed(pace, FREE, AT + n * (p.IN_A_ROW + 1))
    assert pace.circuit is Circuit.CLOSED


def test_the_circuit_opens_for_longer_each_time_up_to_a_bound() -> None:
    pace, at, seconds = opened(), AT, []
    for _ in range(8):
        seconds.append(pace.turn_at - at)
        at = pace.turn_at
        pace = p.begin_trial(pace, at)
        pace = p.failed(pace, FREE, at, trial=pace.trials)
    assert seconds == [5, 10, 20, 40, 80, 120, 120, 120]


def test_the_platforms_own_word_may_open_it_for_longer() -> None:
    pace = replace(Pace(), outages=FREE.outages - 1, failed_at=AT)
    assert p.failed(pace, FREE, AT, retry_after=45.0).turn_at == AT + 45
    assert p.failed(pace, FREE, AT, retry_after=1.0).turn_at == AT + p.FIRST_OPEN


def test_only_the_trial_decides() -> None:
    pace = p.begin_trial(opened(), AT + 5)
    assert pace.circuit is Circuit.TRIAL
    assert p.answered(pace, FREE, AT + 6) == pace, "a late answer to an older call"
    assert p.failed(pace, FREE, AT + 6) == pace
    assert p.answered(pace, FREE, AT + 6, trial=pace.trials).circuit is Circuit.CLOSED
    assert p.failed(pace, FREE, AT + 6, trial=pace.trials).circuit is Circuit.OPEN
    assert p.give_up_trial(pace, AT + 6, trial=pace.trials - 1) == pace


def test_after_an_outage_the_rate_begins_low_and_rises() -> None:
    pace = p.begin_trial(opened(pace=busy(50)), AT + 5)
    pace = p.answered(pace, FREE, AT + 5, trial=pace.trials)
    assert p.rate(pace, FREE, AT + 5) == pytest.approx(5.0)
    assert p.rate(pace, FREE, AT + 35) == pytest.approx(30.0)
    assert p.rate(pace, FREE, AT + 5 + p.RECOVERY) is None


def test_a_limit_taught_before_the_outage_is_not_forgotten() -> None:
    pace = limited(busy(8), FREE)
    pace = p.begin_trial(opened(pace=pace), AT + 20)
    pace = p.answered(pace, FREE, AT + 20, trial=pace.trials)
    assert pace.goal == pytest.approx(16.0)


def test_a_trial_that_is_told_to_slow_down_closes_the_circuit() -> None:
    pace = p.begin_trial(opened(), AT + 5)
    pace = p.rate_limited(pace, FREE, AT + 6, retry_after=3.0, cuts=pace.cuts, trial=pace.trials)
    assert pace.circuit is Circuit.CLOSED
    assert pace.paused_until == AT + 9
    assert p.rate(pace, FREE, AT + 9) == pytest.approx(1.0)


def test_who_falls_over_again_at_once_has_not_recovered() -> None:
    pace = p.begin_trial(opened(), AT + 5)
    pace = p.answered(pace, FREE, AT + 5, trial=pace.trials)
    soon = opened(at=AT + 20, pace=pace)
    assert soon.turn_at == AT + 20 + 2 * p.FIRST_OPEN
    much_later = opened(at=AT + 5 + p.CALM + 1, pace=pace)
    assert much_later.turn_at == AT + 5 + p.CALM + 1 + p.FIRST_OPEN


def test_a_poll_is_the_trial_if_one_is_at_hand() -> None:
    pace = opened()
    assert p.opens_at(pace, AT, urgent=False) == AT + p.FIRST_OPEN
    assert p.opens_at(pace, AT, urgent=True) == AT + p.FIRST_OPEN + p.POLLS_FIRST
    told = replace(pace, paused_until=AT + 60)
    assert p.opens_at(told, AT, urgent=False) == AT + 60, "a pause is kept all the same"
    trying = p.begin_trial(pace, AT + 5)
    assert p.opens_at(trying, AT + 6, urgent=False) == AT + 6 + p.NEWS
    assert p.opens_at(trying, AT + 5 + p.TRIAL, urgent=False) == AT + 5 + p.TRIAL, "given up"


@pytest.mark.parametrize(
    "wrong",
    [
        {"calls_per_second": 0.0},
        {"calls_per_second": -1.0},
        {"calls_per_second": float("nan")},
        {"burst": 0},
        {"outages": 0},
        {"reserve": 1.0},
        {"reserve": -0.1},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limits(**wrong)  # type: ignore[arg-type]  # whole numbers among them


@pytest.mark.parametrize(("burst", "reserved"), [(1, 0), (2, 1), (10, 3), (11, 4)])
def test_the_reserve_is_whole_calls(burst: int, reserved: int) -> None:
    assert Limits(burst=burst).reserved == reserved
