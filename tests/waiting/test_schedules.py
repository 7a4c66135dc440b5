"""The schedules that need no knowledge."""

from __future__ import annotations

import math

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import InvalidRequest
from orchestrator.waiting import (
    FixedSchedule,
    SequenceSchedule,
    SquareRootSchedule,
    TenacitySchedule,
)


def looks(schedule: SquareRootSchedule, until: float) -> list[float]:
    """The times of the looks of a wait, up to the first at or after ``until``."""
    times = [0.0]
    while times[-1] < until:
        times.append(times[-1] + schedule.next_delay(times[-1], len(times)))
    return times[1:]


def test_the_square_root_schedule_looks_at_squares() -> None:
    assert looks(SquareRootSchedule(2.0), 50) == pytest.approx([2, 8, 18, 32, 50])


@given(st.floats(0.1, 20), st.floats(0.1, 900))
def test_its_cost_has_the_promised_bound(cost: float, slot_free_at: float) -> None:
    schedule = SquareRootSchedule(cost, longest=math.inf)
    times = looks(schedule, slot_free_at)
    idle = times[-1] - slot_free_at
    assert idle <= 2 * math.sqrt(cost * slot_free_at) + cost + 1e-6
    assert len(times) <= math.sqrt(slot_free_at / cost) + 1 + 1e-6


@given(st.floats(0, 2000), st.integers(1, 100))
def test_its_gaps_are_bounded(elapsed: float, attempt: int) -> None:
    assert 0.25 <= SquareRootSchedule(0.5, longest=30).next_delay(elapsed, attempt) <= 30


def test_fixed_and_sequence() -> None:
    assert [FixedSchedule(15).next_delay(n * 15, n + 1) for n in range(3)] == [15] * 3
    assert [SequenceSchedule((1, 2)).next_delay(0, n) for n in (1, 2, 3)] == [1, 2, 2]


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (tenacity.wait_fixed(3), [3, 3, 3]),
        (tenacity.wait_exponential(multiplier=1, max=3), [1, 2, 3]),
        (tenacity.wait_incrementing(start=1, increment=4), [1, 5, 9]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)), [1, 9, 9]),
    ],
)
def test_any_tenacity_strategy(wait: tenacity.wait.wait_base, expected: list[float]) -> None:
    schedule = TenacitySchedule(wait)
    assert [schedule.next_delay(10.0, n) for n in (1, 2, 3)] == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: FixedSchedule(0),
        lambda: FixedSchedule(math.nan),
        lambda: SequenceSchedule(()),
        lambda: SequenceSchedule((1, 0)),
        lambda: SquareRootSchedule(0),
        lambda: SquareRootSchedule(1, 0),
    ],
)
def test_nonsense_is_refused(make: object) -> None:
    with pytest.raises(InvalidRequest):
        make()  # type: ignore[operator]
