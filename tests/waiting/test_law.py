"""The law that is learned from brackets: always a law, and the right one where it can be known."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.waiting.law import Law

BRACKETS = st.lists(
    st.tuples(st.floats(0, 1000), st.floats(0, 1000) | st.just(math.inf)).map(
        lambda pair: (min(pair), max(pair))
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(BRACKETS, st.floats(20, 3000))
def test_it_is_always_a_law(brackets: list[tuple[float, float]], deadline: float) -> None:
    law = Law(deadline)
    for low, high in brackets:
        law.observe(low, high)
        law.renew()
        assert law.cdf[0] == 0
        assert all(a <= b + 1e-12 for a, b in pairwise(law.cdf))
        assert law.cdf[-1] <= 1 + 1e-9
        assert all(a < b for a, b in pairwise(law.times))
        assert (law.times[0], law.times[-1]) == (0, deadline)
    quantiles = [law.quantile(q / 10) for q in range(11)]
    assert quantiles == sorted(quantiles)
    assert len(json.dumps(law.to_plain(), separators=(",", ":"))) < 8_000


def test_brackets_that_overlap_say_where_the_end_was() -> None:
    law = Law(900.0)
    # Each alone says little; all were the same teardown time of 50 s.
    for low, high in ((0, 60), (45, 90), (20, 55), (48, 70), (30, 52)) * 10:
        law.observe(float(low), float(high))
        law.renew()
    assert 45 < law.quantile(0.5) < 55
    assert law.quantile(0.9) - law.quantile(0.1) < 12


def test_a_timer_makes_the_grid_fine_where_it_is() -> None:
    law = Law(900.0)
    for _ in range(30):
        law.observe(59.9, 60.0)
        law.renew()
    near = [b - a for a, b in pairwise(law.times) if a < 60 < b + 0.1 and b > 59.8]
    assert max(near) <= 0.25
    assert len(law.times) < 250


def test_a_time_that_never_occurred_stays_possible() -> None:
    law = Law(900.0)
    for _ in range(100):
        law.observe(40.0, 41.0)
        law.renew()
    assert 0 < 1 - law.cdf[-1] < 0.01
    assert 0 < law.cdf[1] < 0.01


def test_where_in_a_bracket_the_end_is_to_be_expected() -> None:
    law = Law(900.0)
    for _ in range(50):
        law.observe(40.0, 42.0)
        law.renew()
    assert law.mean_between(0.0, 100.0) == pytest.approx(41, abs=1)
    assert law.mean_between(40.5, 41.0) == pytest.approx(40.75, abs=0.2)
    assert 500 < law.mean_between(500.0, math.inf) < 900


def test_the_grid_and_the_units_survive_a_long_life() -> None:
    law = Law(900.0)
    for n in range(6000):
        law.observe(40.0 + n % 3, 44.0 + n % 3)
    law.renew()
    assert law.observations == 6000
    assert 40 < law.quantile(0.5) < 46
