"""Every lost answer is looked up; nothing is launched twice, whatever breaks and when."""

from __future__ import annotations

import pytest

from tests.world import NEW_LAB, OLD_LAB, USER, World

EVERY_CALL = ["userrunningandsavedlabs", "launch", "details", "cancel"]
BREAKS = [
    "lose_before", "lose_after", "hang", "http_500", "http_502", "http_503=3", "http_504",
    "rate_limit=4", "rate_limit_date=4", "rate_limit_bare", "html", "login_redirect", "truncated",
    "huge", "wrong_types", "delay=2",
]  # fmt: skip


@pytest.mark.parametrize("drive", ["sync", "async"])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("operation", EVERY_CALL)
@pytest.mark.parametrize("fault", BREAKS)
def test_one_fault_anywhere_ends_with_one_lab(
    fault: str, operation: str, after: int, drive: str
) -> None:
    world = World(drive=drive, options={"teardown": "fixed:5"})
    world.give(OLD_LAB)
    world.sandbox.faults.add(f"{operation}:{fault}+{after}")
    outcome = world.relaunch()
    assert outcome.outcome == "launched", outcome
    assert world.sandbox.ledger.launches(USER) == [outcome.lab_instance_id]
    assert len(world.sandbox.ledger.cancels()) == 1
    assert world.sandbox.ledger.max_alive(USER) == 1


@pytest.mark.parametrize("late", [0.5, 3, 8, 13])
@pytest.mark.parametrize("second_possible", [1, 3])
def test_a_launch_that_takes_effect_late_is_found_not_repeated(
    late: float, second_possible: int
) -> None:
    world = World(options={"max_active_per_user": second_possible})
    world.sandbox.faults.add(f"launch:late_effect={late}")
    outcome = world.relaunch()
    assert outcome.outcome == "launched"
    assert world.sandbox.ledger.launches(USER) == [outcome.lab_instance_id]


def test_a_lost_cancel_is_looked_up_before_it_is_repeated() -> None:
    world = World(options={"teardown": "fixed:5"})
    world.give(OLD_LAB)
    world.sandbox.faults.add("cancel:lose_after")
    assert world.relaunch().outcome == "launched"
    assert world.sandbox.ledger.count("cancel") == 1


def test_a_cancel_that_never_arrived_is_made_again() -> None:
    world = World(options={"teardown": "fixed:5"})
    world.give(OLD_LAB)
    world.sandbox.faults.add("cancel:lose_before")
    assert world.relaunch().outcome == "launched"
    assert world.sandbox.ledger.count("cancel") == 2


def test_the_adopted_lab_comes_with_a_way_in() -> None:
    world = World()
    world.sandbox.faults.add("launch:lose_after, LabAccessUrl:http_500")
    outcome = world.relaunch()
    assert outcome.outcome == "launched"
    assert outcome.url is not None
    assert "/access/" in outcome.url


def test_a_platform_that_loses_every_launch_before_harm_is_given_up() -> None:
    world = World()
    old = world.give(OLD_LAB)
    world.sandbox.faults.add("launch:http_500*0")
    outcome = world.relaunch()
    assert (outcome.outcome, outcome.reason) == ("failed", "platform_unavailable")
    assert old.state == "Running"


def test_after_the_cancel_an_outage_is_outlasted() -> None:
    world = World(options={"teardown": "fixed:5"})
    world.give(OLD_LAB)
    world.sandbox.faults.add("details:http_503=5*30+1")
    outcome = world.relaunch()
    assert outcome.outcome == "launched"
    assert len(world.sandbox.ledger.launches(USER)) == 1


def test_a_launch_in_doubt_at_the_deadline_is_looked_up_once_more() -> None:
    world = World()
    world.sandbox.faults.add("launch:hang")
    outcome = world.relaunch(NEW_LAB, deadline_seconds=30)
    assert outcome.outcome == "launched"
    assert world.sandbox.ledger.launches(USER) == [outcome.lab_instance_id]


def test_a_launch_in_doubt_at_the_end_is_said_with_its_tag() -> None:
    world = World()
    world.sandbox.faults.add("launch:late_effect=100")
    outcome = world.relaunch(NEW_LAB, deadline_seconds=10)
    assert outcome.outcome == "timed_out"
    tag = f"relaunch={outcome.relaunch_id}"
    assert outcome.left.launch_in_doubt_tag == tag
    assert tag in outcome.message
