"""The optimal inspection schedule, against trying every possible one."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.waiting.inspection import best_looks, interpolated, square_root_looks, thinned

COSTS = st.floats(0.1, 20)


def cost(
    looks: tuple[float, ...], times: list[float], cdf: list[float], c: float, p: float
) -> float:
    """The expected cost by its definition, cell by cell, with T in the middle of its cell."""
    total = len(looks) * c * (1 - cdf[-1])
    for (start, end), (below, above) in zip(pairwise(times), pairwise(cdf), strict=True):
        t = (start + end) / 2
        before = sum(look < t for look in looks)
        idle = looks[before] - t
        total += (above - below) * ((1 - p) * (idle + c * (before + 1)) + p * c * before)
    return total


@st.composite
def laws(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    steps = draw(st.lists(st.floats(0.5, 40), min_size=2, max_size=7))
    masses = draw(st.lists(st.floats(0, 1), min_size=len(steps) + 1, max_size=len(steps) + 1))
    total = sum(masses) or 1.0
    times, cdf = [0.0], [0.0]
    for step, mass in zip(steps, masses, strict=False):
        times.append(times[-1] + step)
        cdf.append(min(1.0, cdf[-1] + mass / total))
    return times, cdf


@settings(max_examples=200)
@given(laws(), COSTS, st.sampled_from([0.0, 0.3, 0.9]))
def test_no_other_looks_cost_less(
    law: tuple[list[float], list[float]], c: float, announced: float
) -> None:
    times, cdf = law
    looks, to_pay = best_looks(times, cdf, c, announced)
    ours = tuple(looks)
    inner = times[1:-1]
    every = [
        (*chosen, times[-1]) for n in range(len(inner) + 1) for chosen in combinations(inner, n)
    ]
    least = min(cost(looks, times, cdf, c, announced) for looks in every)
    assert ours in every
    assert cost(ours, times, cdf, c, announced) == pytest.approx(least, abs=1e-9)
    assert to_pay == pytest.approx(least, abs=1e-9)


def test_the_likelier_a_webhook_the_fewer_looks() -> None:
    times = [float(t) for t in range(101)]
    cdf = [t / 100 for t in times]
    without, rarely, mostly = (len(best_looks(times, cdf, 2.0, p)[0]) for p in (0.0, 0.5, 0.95))
    assert without > rarely > mostly


@given(COSTS, st.floats(1, 900))
def test_the_square_root_looks_end_with_the_last_moment(c: float, until: float) -> None:
    *looks, last = square_root_looks(c, until)
    assert last == until
    assert looks == pytest.approx([c * k * k for k in range(1, len(looks) + 1)])
    assert all(look < until for look in looks)


@given(laws())
def test_thinning_keeps_the_ends_and_the_values(law: tuple[list[float], list[float]]) -> None:
    times, cdf = law
    few, theirs = thinned(times, cdf)
    assert (few[0], few[-1]) == (times[0], times[-1])
    assert theirs == [cdf[times.index(t)] for t in few]


def test_interpolation_is_straight_and_stays_within_the_ends() -> None:
    assert interpolated([0, 10, 20], [0.0, 0.5, 0.6], [-5, 0, 5, 15, 20, 99]) == pytest.approx(
        [0.0, 0.0, 0.25, 0.55, 0.6, 0.6]
    )
    assert math.isclose(interpolated([0, 10], [0.0, 1.0], [2.5])[0], 0.25)
