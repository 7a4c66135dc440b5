"""What every schedule must do, whatever it knows: one suite for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import wait_random_exponential

from orchestrator.ports import Schedule
from orchestrator.waiting import (
    FixedSchedule,
    Knowledge,
    LearnedSchedule,
    SequenceSchedule,
    SquareRootSchedule,
    Subject,
    TenacitySchedule,
)

SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "fixed": lambda: FixedSchedule(15),
    "sequence": lambda: SequenceSchedule((1, 2, 4, 8)),
    "square root": SquareRootSchedule,
    "tenacity": lambda: TenacitySchedule(wait_random_exponential(max=60)),
    "learned": LearnedSchedule,
    "learned, with relatives": lambda: LearnedSchedule(relatives=LearnedSchedule()),
    "of a knowledge": lambda: Knowledge().schedule(Subject(lab_profile_id=7)),
}
OBSERVATIONS = st.tuples(st.floats(0, 2000), st.floats(0, 2000) | st.just(math.inf)).map(
    lambda pair: (min(pair), max(pair))
)


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
@settings(max_examples=60)
@given(
    st.lists(st.tuples(OBSERVATIONS, st.floats(0, 5000), st.integers(1, 1000)), max_size=20),
)
def test_it_can_be_asked_and_told_anything_in_any_order(
    make: Callable[[], Schedule], story: list[tuple[tuple[float, float], float, int]]
) -> None:
    schedule = make()
    for (low, high), elapsed, attempt in story:
        delay = schedule.next_delay(elapsed, attempt)
        assert 0 <= delay < math.inf
        schedule.observe(low, high)
        assert 0 <= schedule.next_delay(elapsed, attempt) < math.inf


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_it_looks_again_and_again_until_the_deadline(make: Callable[[], Schedule]) -> None:
    schedule, elapsed, looks = make(), 0.0, 0
    while elapsed < 900:
        looks += 1
        elapsed += max(schedule.next_delay(elapsed, looks), 0.05)
    assert 3 <= looks <= 2000
