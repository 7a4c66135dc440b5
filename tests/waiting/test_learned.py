"""The learned schedule: its two methods, what it promises before it knows anything, its state."""

from __future__ import annotations

import json
import math
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import InvalidRequest
from orchestrator.waiting import LearnedSchedule
from tests.benchmarks.waiting.simulator import looks_of, wait

TIMES = st.floats(0.1, 900)


def taught(times: list[float], cost_per_look: float = 2.0) -> LearnedSchedule:
    """A schedule that has waited for teardowns of these lengths."""
    schedule = LearnedSchedule(cost_per_look)
    for time in times:
        wait(schedule, time)
    return schedule


@given(st.floats(0.1, 20), TIMES)
def test_before_it_knows_anything_its_cost_is_bounded(cost: float, time: float) -> None:
    idle, looks = wait(LearnedSchedule(cost), time)
    assert idle + cost * looks <= 3 * math.sqrt(cost * time) + 2 * cost + 1e-6


def test_it_needs_no_arguments_and_refuses_bad_ones_by_name() -> None:
    assert LearnedSchedule().next_delay(0.0, 1) == 2.0
    with pytest.raises(InvalidRequest, match="cost_per_look"):
        LearnedSchedule(0)
    with pytest.raises(InvalidRequest, match="deadline"):
        LearnedSchedule(deadline=math.inf)
    for low, high in ((5.0, 4.0), (-1.0, 4.0), (math.inf, math.inf), (math.nan, 4.0)):
        with pytest.raises(InvalidRequest, match="low"):
            LearnedSchedule().observe(low, high)


def test_it_looks_when_the_teardown_is_usually_over() -> None:
    schedule = taught([40.0, 42.0, 44.0, 41.0, 43.0] * 4)
    first, *others = schedule.looks()
    assert 38 < first < 47
    assert sum(look < 50 for look in others) <= 3


def test_a_cheaper_look_is_taken_more_often() -> None:
    times = [30.0, 50.0, 35.0, 70.0, 45.0] * 6
    frequent, rare = (sum(x < 100 for x in taught(times, c).looks()) for c in (0.5, 10.0))
    assert frequent >= 2 * rare


@settings(max_examples=40)
@given(st.lists(TIMES | st.just(math.inf), max_size=12), st.floats(0, 2000), st.integers(1, 50))
def test_the_next_look_is_always_ahead_and_never_too_far(
    times: list[float], elapsed: float, attempt: int
) -> None:
    schedule = taught(times)
    assert 0 < schedule.next_delay(elapsed, attempt) <= 900
    looks = looks_of(schedule)
    assert all(a < b for a, b in pairwise(looks))


@settings(max_examples=30)
@given(st.lists(TIMES | st.just(math.inf), max_size=30), st.floats(0, 900))
def test_same_observations_same_looks_and_the_state_is_small(
    times: list[float], extra: float
) -> None:
    schedule, again = taught(times), taught(times)
    assert schedule.looks() == again.looks()
    text = schedule.to_json()
    assert len(text) < 8_000
    restored = LearnedSchedule.from_json(text)
    restored.observe(extra, math.inf)
    assert restored.law.observations == len(times) + 1


def test_a_restored_schedule_goes_on_as_the_stored_one_would() -> None:
    schedule = taught([20.0, 22.0, 60.0, 21.0] * 20)
    restored = LearnedSchedule.from_json(schedule.to_json())
    for time in [20.0, 61.0, 22.0] * 5:
        wait(schedule, time)
        wait(restored, time)
    ours, theirs = schedule.typical(), restored.typical()
    assert ours is not None
    assert theirs is not None
    assert theirs.p50 == pytest.approx(ours.p50, rel=0.05)
    assert restored.looks()[0] == pytest.approx(schedule.looks()[0], rel=0.1)


def test_a_long_life_leaves_the_state_small() -> None:
    schedule = LearnedSchedule(0.5)
    for n in range(1200):
        wait(schedule, 5 + 400 * ((n * 0.618034) % 1))
    assert len(schedule.to_json()) < 8_000


@pytest.mark.parametrize(
    "damage",
    [
        "[]",
        "{}",
        '{"schema":99}',
        '{"schema":1}',
        lambda state: state["law"].update(cdf=[1, 0]),
        lambda state: state["law"].update(renown=[]),
        lambda state: state["law"].update(brackets=[[5, 4, 1, 1]]),
        lambda state: state.update(cost_per_look=-1),
    ],
)
def test_a_damaged_state_is_refused(damage: object) -> None:
    text = damage
    if callable(damage):
        state = json.loads(taught([30.0]).to_json())
        damage(state)
        text = json.dumps(state)
    assert isinstance(text, str)
    with pytest.raises(ValueError, match=r".+"):
        LearnedSchedule.from_json(text)


def test_stuck_teardowns_neither_poison_the_estimate_nor_get_polled_at_full_rate() -> None:
    times = [40.0, 42.0, 44.0, 41.0, 43.0] * 10
    clean, poisoned = taught(times), taught([*times, math.inf, *times, math.inf])
    usual, spoilt = clean.typical(), poisoned.typical()
    assert usual is not None
    assert spoilt is not None
    assert spoilt.p50 == pytest.approx(usual.p50, rel=0.05)
    assert poisoned.looks()[0] == pytest.approx(clean.looks()[0], rel=0.1)
    beyond = [look for look in poisoned.looks() if look > 100]
    assert len(beyond) < 15
    gaps = [b - a for a, b in pairwise(beyond)]
    assert max(gaps) <= 120.0 + 1e-6


def test_it_follows_when_teardowns_become_slower() -> None:
    schedule = taught([20.0, 21.0, 22.0] * 30 + [60.0, 62.0, 64.0] * 15)
    typical = schedule.typical()
    assert typical is not None
    assert typical.p50 > 55
    assert any(64 <= look < 70 for look in schedule.looks())


def test_two_peaks_in_one_gap_are_told_apart() -> None:
    schedule = LearnedSchedule(10.0)
    for n in range(200):
        # Ten seconds for three in ten, two hundred for the others, by no pattern in time.
        wait(schedule, 10.0 if (n * 0.618034) % 1 < 0.3 else 200.0)
    looks = schedule.looks()
    assert any(10 <= look < 20 for look in looks)
    assert any(200 <= look < 215 for look in looks)


def test_relatives_stand_in_for_what_is_not_known() -> None:
    family = LearnedSchedule()
    for _ in range(20):
        wait(LearnedSchedule(relatives=family), 50.0)
    newcomer, stranger = LearnedSchedule(relatives=family), LearnedSchedule()
    idle, looks = wait(newcomer, 52.0)
    idle_of_stranger, looks_of_stranger = wait(stranger, 52.0)
    assert idle + 2 * looks < 0.7 * (idle_of_stranger + 2 * looks_of_stranger)
    typical = family.typical()
    assert typical is not None
    assert typical.observations == 21


def test_what_the_lab_itself_shows_outweighs_its_relatives() -> None:
    family = LearnedSchedule()
    for _ in range(50):
        wait(LearnedSchedule(relatives=family), 50.0)
    own = LearnedSchedule(relatives=family)
    for _ in range(10):
        wait(own, 200.0)
    typical = own.typical()
    assert typical is not None
    assert typical.p50 == pytest.approx(200, rel=0.1)


def test_where_webhooks_arrive_polls_thin_out_and_come_back_when_they_stay_away() -> None:
    times = [60.0, 70.0, 80.0, 65.0, 75.0]
    schedule = taught(times * 4)
    polls = sum(look < 100 for look in schedule.looks())
    for time in times * 2:
        schedule.observe(time, time)
    assert sum(look < 100 for look in schedule.looks()) < polls
    assert schedule.looks()[0] > 75
    for time in times:
        wait(schedule, time)
    assert sum(look < 100 for look in schedule.looks()) >= polls
    assert schedule.arrivals.expected < 0.1


def test_it_can_be_shared_by_threads() -> None:
    schedule = LearnedSchedule()
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for n in range(60):
                wait(schedule, 5 + (seed * 37 + n * 13) % 90)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert schedule.law.observations == 240
