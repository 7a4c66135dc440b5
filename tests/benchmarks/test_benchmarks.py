"""The benchmark measures what it says: small, against what can be known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.waiting import FixedSchedule
from tests.benchmarks.waiting import measure
from tests.benchmarks.waiting.families import ATOMS, DEADLINE, families
from tests.benchmarks.waiting.optimum import costs, optimal_looks
from tests.benchmarks.waiting.peers import PEERS, draws
from tests.benchmarks.waiting.simulator import looks_of, wait, wait_with_webhook

NAMES = [law.name for law in families(1)]


def test_a_family_is_the_same_law_in_both_its_forms() -> None:
    for law in families(2):
        times, drawn = law.times(), law.draw(np.random.default_rng(3), 4000)
        assert len(times) == ATOMS
        drawn.sort()
        for share in (0.25, 0.5, 0.75):
            low, high = (times[int((share + by) * len(times))] for by in (-0.05, 0.05))
            assert low <= drawn[int(share * len(drawn))] <= high, law.name


def test_the_optimum_for_a_timer_is_one_look() -> None:
    times = np.full(100, 60.0)
    assert optimal_looks(times, 2.0).tolist() == [60.0]
    assert costs(np.array([60.0, DEADLINE]), times, 2.0) == (2.0, 0.0, 1.0)


def test_a_stuck_teardown_costs_every_look() -> None:
    cost, idle, looks = costs(np.array([10.0, 20.0, DEADLINE]), np.array([math.inf]), 2.0)
    assert (cost, idle, looks) == (6.0, 0.0, 3.0)


def test_a_wait_and_the_list_of_its_looks_agree() -> None:
    schedule = FixedSchedule(7)
    for time in (0.5, 7.0, 30.0, 899.0):
        idle, looks = wait(schedule, time)
        cost, _, _ = costs(looks_of(schedule), np.array([time]), 2.0)
        assert cost == pytest.approx(idle + 2 * looks)


def test_a_webhook_ends_a_wait_unless_a_look_was_first() -> None:
    assert wait_with_webhook(FixedSchedule(10), 12.0, delay=1.0, arrives=True) == (1.0, 1)
    assert wait_with_webhook(FixedSchedule(10), 19.5, delay=1.0, arrives=True) == (0.5, 2)
    assert wait_with_webhook(FixedSchedule(10), 12.0, delay=1.0, arrives=False) == (8.0, 2)


@pytest.mark.parametrize("name", ["container", "uniform", "with_stuck", "fixed_timer"])
def test_nobody_beats_the_optimum(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "OBSERVED", (0, 5, 30))
    job = (1, NAMES.index(name), 2.0)
    _, _, ratios, _ = measure.learning(job)
    _, _, found = measure.peers(job)
    everybody = [*ratios, *(ratio for ratio, _, _ in found.values())]
    assert len(everybody) == 3 + 1 + len(PEERS)
    assert min(everybody) > 0.9999
    assert ratios[2] < ratios[0]


def test_random_peers_are_drawn_often_and_others_once() -> None:
    assert len(draws("fixed 10 s")) == 1
    assert len(draws("JupyterHub")) > 10
    assert draws("fixed 10 s")[0][:3].tolist() == [10, 20, 30]
    assert draws("tenacity exponential")[0][:4].tolist() == [1, 3, 7, 15]
