"""Old waits under another schedule, and schedules by name."""

from __future__ import annotations

import math

import pytest

from orchestrator import InvalidRequest
from orchestrator.waiting import (
    FixedSchedule,
    Knowledge,
    LearnedSchedule,
    SquareRootSchedule,
    Subject,
    TenacitySchedule,
    Waited,
)
from orchestrator.waiting.named import named_schedule
from orchestrator.waiting.replay import moments, replay


def test_a_replay_counts_looks_and_idle_seconds() -> None:
    done = replay([12.0, 29.0], FixedSchedule(10), cost_per_look=2.0, deadline=900.0)
    assert (done.waits, done.looks, done.idle, done.cost) == (2, 2.5, 4.5, 9.5)


def test_a_stuck_teardown_costs_its_looks_and_no_idle_seconds() -> None:
    done = replay([math.inf], FixedSchedule(300), cost_per_look=2.0, deadline=900.0)
    assert (done.looks, done.idle, done.cost) == (3, 0, 6)


def test_nothing_to_replay_costs_nothing() -> None:
    assert replay([], FixedSchedule(10), cost_per_look=2.0, deadline=900.0).cost == 0


def test_a_moment_is_where_the_law_expects_it_in_its_bracket() -> None:
    knowledge, lab = Knowledge(), Subject(lab_profile_id=7)
    for low, high in ((39.0, 41.0), (39.5, 40.5), (0.0, 60.0), (40.0, 40.0), (900.0, math.inf)):
        knowledge.record(lab, Waited(low=low, high=high, looks=1))
    found = moments(knowledge.history("7"), knowledge.learned("7").law)
    assert found[:2] == pytest.approx([40, 40], abs=0.7)
    assert 20 < found[2] < 50
    assert found[3:] == [40.0, math.inf]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("learned", LearnedSchedule),
        ("square_root", SquareRootSchedule),
        ("fixed:15", FixedSchedule),
        ("exponential:60.5", TenacitySchedule),
    ],
)
def test_each_name_names_a_schedule(name: str, kind: type) -> None:
    assert isinstance(named_schedule(name), kind)


@pytest.mark.parametrize("name", ["", "fixed", "fixed:0", "fixed:inf", "fixed:x", "learned:1", "?"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="schedule"):
        named_schedule(name)
