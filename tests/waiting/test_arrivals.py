"""Whether webhooks can be relied on."""

from __future__ import annotations

import math

import pytest

from orchestrator.waiting.arrivals import Arrivals


def after(*came: bool) -> Arrivals:
    """The belief after webhooks that came, or stayed away, in this order."""
    arrivals = Arrivals()
    for one in came:
        if one:
            arrivals.arrived(0.0, 5.0)
        else:
            arrivals.stayed_away()
    return arrivals


def test_none_is_expected_before_the_first_has_come() -> None:
    assert after().expected == 0
    assert after(*[False] * 10).expected == 0


def test_the_more_have_come_the_surer_the_next_one_but_never_certain() -> None:
    beliefs = [after(*[True] * n).expected for n in (1, 3, 10, 100)]
    assert beliefs == sorted(beliefs)
    assert 0.5 < beliefs[0] < 0.8
    assert 0.95 < beliefs[-1] <= 0.99


def test_one_that_is_lost_now_and_then_changes_little() -> None:
    nine_in_ten = after(*([True] * 9 + [False]) * 10, True)
    assert nine_in_ten.expected == pytest.approx(0.9, abs=0.04)


def test_a_few_misses_in_a_row_mean_that_they_are_dead() -> None:
    beliefs = [after(*[True] * 50, *[False] * n).expected for n in range(5)]
    assert beliefs == sorted(beliefs, reverse=True)
    assert beliefs[1] < 0.5
    assert beliefs[3] < 0.05


def test_one_arrival_revives_them() -> None:
    assert after(*[True] * 50, *[False] * 20, True).expected > 0.7


def test_one_that_comes_late_after_all_is_no_miss() -> None:
    late = after(*[True] * 10, False)
    late.came_after_all(3.0, 8.0)
    assert late.expected > after(*[True] * 10, False).expected
    assert late.delay > 0


def test_the_delay_is_learned_from_what_bounds_it() -> None:
    arrivals = Arrivals()
    for _ in range(100):
        arrivals.arrived(4.0, 6.0)
    assert 3.9 < arrivals.delay <= 4.0
    for _ in range(100):
        arrivals.arrived(0.0, 1.0)
    assert arrivals.delay < 1.1
    before = arrivals.delay
    arrivals.arrived(0.0, math.inf)
    assert arrivals.delay == before
