"""The token bucket: never more than allowed in any window, a reserve for what is urgent."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.traffic.budget import Bucket, emptied, take
from orchestrator.traffic.pace import Limits
from orchestrator.traffic.rank import Rank

AT = 1_700_000_000.0
URGENT, POLL = Rank.BUTTON_URGENT, Rank.BUTTON_POLL


def burst_of(n: int, **options: float) -> Limits:
    return Limits(burst=n, **options)  # type: ignore[arg-type]  # only "reserve"


@given(
    rate=st.floats(0.2, 50),
    burst=st.integers(1, 20),
    arrivals=st.lists(st.tuples(st.floats(0, 3), st.sampled_from(Rank)), min_size=1, max_size=120),
)
def test_no_window_has_more_calls_than_it_may(
    rate: float, burst: int, arrivals: list[tuple[float, Rank]]
) -> None:
    bucket, at, gone = Bucket(), AT, []
    for gap, rank in arrivals:
        at += gap
        taken = take(bucket, (rank,), rate=rate, limits=burst_of(burst), at=at)
        bucket = taken.bucket
        if taken.admitted:
            gone.append(at)
    for n, first in enumerate(gone):
        for m, last in enumerate(gone[n:], start=1):
            # Two milliseconds: the bucket counts in whole ones. A thousandth: so does its rate.
            assert m <= burst + (last - first + 0.002) * rate * 1.001 + 0.001


@given(rates=st.lists(st.floats(0.5, 50), min_size=2, max_size=60), burst=st.integers(1, 20))
def test_a_changing_rate_gives_no_more_than_its_highest(rates: list[float], burst: int) -> None:
    bucket, gone = Bucket(), 0
    for n, rate in enumerate(rates):
        taken = take(bucket, (URGENT,) * 40, rate=rate, limits=burst_of(burst), at=AT + n)
        bucket = taken.bucket
        gone += len(taken.admitted)
    # What fills between two questions fills at the one's rate or the other's.
    filled = sum(max(pair) for pair in itertools.pairwise(rates))
    assert gone <= burst + filled * 1.001 + 0.1


@given(rates=st.lists(st.floats(0.5, 5), min_size=2, max_size=30), burst=st.integers(2, 20))
def test_a_rising_rate_is_no_slower_than_its_lowest(rates: list[float], burst: int) -> None:
    """What is missing are tokens, not seconds: else a large burst would stand still."""
    rates.sort()
    bucket = emptied(rate=rates[0], limits=burst_of(burst), at=AT)
    gone = 0
    for n in range(300):  # often enough for the bucket never to be full
        rate = rates[min(n // 5, len(rates) - 1)]
        taken = take(bucket, (URGENT,) * 9, rate=rate, limits=burst_of(burst), at=AT + n / 5)
        bucket = taken.bucket
        gone += len(taken.admitted)
    assert gone >= 59 * rates[0] * 0.99 - 1


def test_polls_leave_the_reserve_alone() -> None:
    limits = burst_of(10)
    polls = take(Bucket(), (POLL,) * 20, rate=5.0, limits=limits, at=AT)
    assert len(polls.admitted) == 7
    assert polls.free_from[URGENT] == AT
    assert polls.free_from[POLL] == pytest.approx(AT + 0.2, abs=0.002)
    urgent = take(polls.bucket, (URGENT,) * 5, rate=5.0, limits=limits, at=AT)
    assert urgent.admitted == (0, 1, 2)
    assert urgent.free_from[URGENT] == pytest.approx(AT + 0.2, abs=0.002)
    assert urgent.free_from[POLL] == pytest.approx(AT + 0.8, abs=0.002), "polls let it fill first"


def test_the_urgent_find_tokens_behind_polls_that_must_wait() -> None:
    limits = burst_of(10)
    bucket = take(Bucket(), (POLL,) * 7, rate=1.0, limits=limits, at=AT).bucket
    assert take(bucket, (POLL, URGENT, POLL), rate=1.0, limits=limits, at=AT).admitted == (1,)


def test_a_bulk_run_leaves_tokens_for_the_button() -> None:
    limits = burst_of(10)
    bulk = take(Bucket(), [Rank.BULK_URGENT] * 20, rate=5.0, limits=limits, at=AT)
    assert len(bulk.admitted) == 6
    later = AT + 60.0
    polls = take(bulk.bucket, [Rank.BULK_POLL] * 20, rate=5.0, limits=limits, at=later)
    assert len(polls.admitted) == 5, "bulk polls leave one for bulk launches"
    button = take(bulk.bucket, [POLL] * 9, rate=5.0, limits=limits, at=AT)
    assert len(button.admitted) == 1
    assert button.free_from[POLL] < button.free_from[Rank.BULK_URGENT]


@pytest.mark.parametrize("burst", [3, 4, 5, 10])
def test_bulk_polls_lose_nothing_of_the_rate_though_they_ask_late(burst: int) -> None:
    bucket, gone = Bucket(), 0
    for n in range(1_000):  # each is asked for 3 ms after its token was there
        at = AT + n * 0.1 + 0.003
        taken = take(bucket, [Rank.BULK_POLL], rate=10.0, limits=burst_of(burst), at=at)
        bucket, gone = taken.bucket, gone + len(taken.admitted)
    assert gone >= 999


def test_a_bucket_of_one_has_no_reserve() -> None:
    taken = take(Bucket(), (POLL, POLL), rate=2.0, limits=burst_of(1), at=AT)
    assert taken.admitted == (0,)
    assert taken.free_from[POLL] == pytest.approx(AT + 0.5, abs=0.002)


def test_after_it_was_emptied_calls_begin_one_by_one() -> None:
    limits = burst_of(10)
    bucket = emptied(rate=2.0, limits=limits, at=AT + 30)
    first = take(bucket, (URGENT,) * 9, rate=2.0, limits=limits, at=AT + 30)
    assert first.admitted == ()
    second = take(first.bucket, (URGENT,) * 9, rate=2.0, limits=limits, at=AT + 30.51)
    assert second.admitted == (0,)


def test_a_clock_that_is_far_ahead_stops_nobody_for_long() -> None:
    limits = burst_of(10)
    ahead = take(Bucket(), (URGENT,), rate=2.0, limits=limits, at=AT + 3600).bucket
    behind = take(ahead, (URGENT,), rate=2.0, limits=limits, at=AT)
    assert behind.free_from[URGENT] <= AT + 0.6
