"""The benchmark of batches measures what it says: each contestant in small, and the page."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tests.benchmarks.batches import waiting
from tests.benchmarks.batches.measuring import CONTESTANTS, Found, Task, measure
from tests.benchmarks.batches.report import Weights, page
from tests.benchmarks.batches.school import (
    EXAM,
    NEW,
    OLD,
    USED_UP,
    Account,
    account,
    learners,
)
from tests.benchmarks.batches.server import served

SMALL = Task(
    contestant="taught",
    learners=60,
    at_a_time=60,
    rate=30,
    teardown="lognormal:20,0.4",
    sleep=20.0,
)


def test_a_class_has_exams_and_hopeless_launches_in_it() -> None:
    kinds = {(x.has, x.wants) for x in learners(100)}
    assert kinds == {(OLD, NEW), (EXAM, NEW), (OLD, USED_UP)}


@pytest.mark.parametrize("contestant", CONTESTANTS)
def test_each_contestant_is_measured_in_virtual_time(contestant: str) -> None:
    number = 30 if contestant == "loop" else SMALL.learners
    found = measure(dataclasses.replace(SMALL, contestant=contestant, learners=number))
    told = found.account
    assert sum(found.ended.values()) == number
    assert told.launched + told.without == number - (2 if contestant == "loop" else 3)
    ours = contestant in ("taught", "configured", "loop")
    assert (told.exams, told.for_nothing) == ((0, 0) if ours else (2, 1))
    if ours:
        assert told.without == told.later == 0
    if contestant == "sleep":
        assert told.without > 10, "half of the teardowns take longer than it sleeps"
    if contestant == "tenacity":
        assert told.turned_away > 0
    assert 0 < told.used <= 1.01
    assert found.cpu > 0
    assert found.memory > 10_000_000


@pytest.mark.parametrize(("contestant", "number"), [("taught", 3), ("sleep", 8), ("loop", 1)])
def test_they_are_measured_over_http(contestant: str, number: int) -> None:
    task = dataclasses.replace(
        SMALL, contestant=contestant, learners=number, teardown="fixed:0.1", sleep=0.3
    )
    with served(task.learners, task.rate, task.teardown) as base_url:
        told = measure(dataclasses.replace(task, base_url=base_url)).account
    assert told.launched == min(number, 7)
    assert told.exams == (number > 7)


def test_learners_who_wait_are_weighed() -> None:
    assert asyncio.run(waiting.weigh(40, 30, rest=0.1)) < 30_000_000


def test_an_account_is_read_off_the_ledger() -> None:
    def effect(what: str, user: int, lab: int) -> dict[str, object]:
        return {"what": what, "user_id": f"learner-{user}", "lab_profile_id": lab}

    def request(at: float, user: int | None, status: int | None = 200) -> dict[str, object]:
        user_id = None if user is None else f"learner-{user}"
        return {"at": at, "user_id": user_id, "status": status}

    told = account(
        30,
        rate=2,
        effects=[
            effect("given", 1, OLD),
            effect("cancelled", 1, OLD),
            effect("launched", 1, NEW),
            effect("launched", 1, NEW),
            effect("cancelled", 7, EXAM),
            effect("cancelled", 23, OLD),
        ],
        requests=[
            request(100, 1),
            request(101, None, None),
            request(101, 2, 429),
            request(102, 3, 429),
            request(105, 4, 429),
            request(110, 2),
            request(111, None),
        ],
    )
    assert told == Account(
        learners=30,
        launched=1,
        without=27,
        for_nothing=1,
        exams=1,
        doubled=1,
        calls=7,
        turned_away=3,
        later=1,
        used=2 / 20,
        seconds=11,
    )


def test_the_page_tells_ratios_to_ours_and_which_goals_are_met() -> None:
    good = Account(
        learners=100, launched=96, without=0, for_nothing=0, exams=0, doubled=0, calls=1000,
        turned_away=4, later=0, used=0.96, seconds=50.0,
    )  # fmt: skip
    bad = dataclasses.replace(good, exams=2, calls=3000, seconds=25.0, later=9, used=0.5)
    loop = dataclasses.replace(good, learners=10, seconds=100.0)

    def found(told: Account) -> Found:
        return Found(account=told, cpu=1.0, memory=50_000_000, ended={})

    measured = {
        "taught": (SMALL, found(good)),
        "configured": (SMALL, found(bad)),
        "loop": (dataclasses.replace(SMALL, learners=6), found(loop)),
    }
    text = page(
        {"Here": measured}, Weights(learners=9, waiting=9_000, unbegun=11_000), "Somewhere."
    )
    assert "| ours, the limit configured | 25 (0.50 x) | 3,000 (3.00 x) |" in text
    assert "(10 learners, scaled) | 1,000 (20.00 x) | 10,000 (10.00 x) |" in text
    rows = [line for line in text.partition("## Goals")[2].splitlines() if line]
    verdicts = [line.split("|")[-2].strip() for line in rows]
    assert verdicts[2:] == ["met", "met", "not met", "not met", "met", "not met"]
