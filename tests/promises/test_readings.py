"""Both readings of each unknown of the platform end with one new lab, in both drivers.

And the things that are final end with the learner's lab untouched.
"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import LaunchParameters
from orchestrator.sandbox import Consumer, Readings
from tests.world import EXAM, NEW_LAB, OLD_LAB, USER, World

BOTH: list[dict[str, Any]] = [
    {},
    {"listing_drops": "at_cancel"},
    {"details_when_gone": "error"},
    {"details_lag": 6.0},
    {"details_lag": -6.0},
    {"details_lag": -6.0, "details_when_gone": "error", "listing_drops": "at_cancel"},
    {"teardown_state": "Dismantling"},
    {"refusal_status": 0},
    {"refusal_instance_id": "null"},
    {"refusal_instance_id": "zero", "refusal_status": 0},
    {"empty_lists": "null"},
    {"unseen_user": "error"},
    {"same_profile_running": "refuse"},
    {"same_profile_running": "second_instance"},
    {"same_profile_tearing_down": "wrong_state"},
    {"same_profile_tearing_down": "hand_back"},
    {"same_profile_tearing_down": "hand_back", "listing_drops": "at_cancel"},
    {"final_checks": "after_limit"},
    {"capacity_checks": "before_limit"},
    {"cancel_again": 0},
    {"cancel_gone": 1},
    {"user_limit": "active_labs_page", "page_result": 0},
    {"user_limit": "active_labs_page", "page_result": 1},
    {"user_limit": "active_labs_page", "page_result": 2},
    {"keeps_tags": False},
    {"extra_fields": True},
]


@pytest.mark.parametrize("drive", ["sync", "async"])
@pytest.mark.parametrize("lab", [OLD_LAB, NEW_LAB])
@pytest.mark.parametrize("detect", ["details", "listing", "launch"])
@pytest.mark.parametrize("readings", BOTH, ids=str)
def test_each_reading_ends_with_one_new_lab(
    readings: dict[str, Any], detect: str, lab: int, drive: str
) -> None:
    world = World(Readings(**readings), drive=drive, options={"teardown": "fixed:20"})
    old = world.give(OLD_LAB)
    outcome = world.relaunch(lab, detect=detect)
    assert outcome.outcome == "launched", outcome
    assert world.sandbox.ledger.launches(USER) == [outcome.lab_instance_id]
    assert world.sandbox.ledger.cancels() == [old.instance_id]
    assert world.sandbox.ledger.max_alive(USER) == 1
    # Soon: a schedule that knows nothing yet is late by 2 * sqrt(2 * 20) + 2 = 14.6 s at most, and
    # three looks in four pass over a launch while details run behind by 6 s.
    assert outcome.waited_seconds <= 20 + 14.6 + (25 if readings.get("details_lag") == 6.0 else 0)


@pytest.mark.parametrize("readings", BOTH, ids=str)
def test_each_reading_with_nothing_running_is_one_launch(readings: dict[str, Any]) -> None:
    world = World(Readings(**readings))
    outcome = world.relaunch()
    assert outcome.outcome == "launched"
    assert len(world.sandbox.ledger.launches(USER)) == 1
    assert outcome.api_calls <= 3


@pytest.mark.parametrize("result", [100, 110, 130, 140, 160])
@pytest.mark.parametrize("readings", BOTH, ids=str)
def test_a_hopeless_launch_harms_nothing(readings: dict[str, Any], result: int) -> None:
    world = World(Readings(**(readings | {"final_checks": "before_limit"})))
    world.give(OLD_LAB)
    world.sandbox.world.profiles[NEW_LAB].refuse_with = result
    outcome = world.relaunch()
    assert outcome.outcome == "failed"
    assert outcome.reason in (
        "launch_limit_reached", "security_review", "launch_invalid", "user_information_required"
    )  # fmt: skip
    assert f"Result {result}" in outcome.message
    assert world.sandbox.ledger.cancels() == []


def test_a_hopeless_launch_that_shows_only_after_the_limit_is_told_honestly() -> None:
    world = World(Readings(final_checks="after_limit"))
    old = world.give(OLD_LAB)
    world.sandbox.world.profiles[NEW_LAB].refuse_with = 100
    outcome = world.relaunch()
    assert (outcome.outcome, outcome.reason) == ("failed", "launch_limit_reached")
    assert outcome.cancelled_instance_ids == (old.instance_id,)
    assert f"Cancelled: lab instance {old.instance_id}." in outcome.message


@pytest.mark.parametrize("code", [3, 5, 7, 10, 20, 30, 40, 50, 60, 70, 80, 90, 120, 150])
@pytest.mark.parametrize("checks", ["before_limit", "after_limit"])
def test_capacity_elsewhere_is_waited_for(code: int, checks: Any) -> None:
    world = World(Readings(capacity_checks=checks))
    world.give(OLD_LAB)
    world.give(OLD_LAB, user="bob")
    profile = world.sandbox.world.profiles[NEW_LAB]
    profile.refuse_with, profile.refusals = code, 3
    outcome = world.relaunch()
    assert outcome.outcome == "launched"
    assert len(world.sandbox.ledger.launches(USER)) == 1


def test_the_consumers_limit_taken_up_by_the_own_lab_is_cleared() -> None:
    world = World(Readings(capacity_checks="before_limit"), options={"max_active": 1})
    old = world.give(OLD_LAB)
    outcome = world.relaunch()
    assert outcome.outcome == "launched"
    assert outcome.cancelled_instance_ids == (old.instance_id,)


def test_the_consumers_limit_taken_up_by_others_costs_nothing() -> None:
    world = World(Readings(capacity_checks="before_limit"), options={"max_active": 2})
    world.give(OLD_LAB)
    world.give(OLD_LAB, user="bob")
    outcome = world.relaunch(deadline_seconds=60)
    assert (outcome.outcome, outcome.reason) == ("timed_out", "consumer_active")
    assert world.sandbox.ledger.cancels() == []
    assert "No lab was ended." in outcome.message


@pytest.mark.parametrize("listed", [True, False])
def test_another_consumers_lab_is_never_cancelled(listed: bool) -> None:
    world = World(Readings(foreign_listed=listed))
    other = world.sandbox.world.add_consumer(Consumer(api_key="other"))
    world.give(OLD_LAB, consumer=other)
    outcome = world.relaunch(deadline_seconds=60)
    assert world.sandbox.ledger.cancels() == []
    if listed:
        assert (outcome.outcome, outcome.reason) == ("refused", "foreign_instance")
    else:
        assert (outcome.outcome, outcome.reason) == ("timed_out", "slot_not_free")


@pytest.mark.parametrize("how", ["401", "403", "status_0"])
def test_a_bad_key_is_final_at_once(how: Any) -> None:
    world = World(Readings(bad_key=how))
    world.give(OLD_LAB)
    outcome = world.relaunch(key="wrong-key")
    assert (outcome.outcome, outcome.reason, outcome.api_calls) == ("failed", "key_rejected", 1)
    assert "wrong-key" not in repr(outcome) + outcome.message


class TestSaved:
    """A saved lab is somebody's work."""

    def world(self) -> World:
        world = World()
        world.give(NEW_LAB, state="Saved")
        return world

    @pytest.mark.parametrize("probe", [True, False])
    @pytest.mark.parametrize("running", [True, False])
    def test_it_is_left_alone_by_default(self, probe: bool, running: bool) -> None:
        world = self.world()
        if running:
            world.give(OLD_LAB)
        outcome = world.relaunch(probe=probe)
        assert (outcome.outcome, outcome.reason) == ("refused", "saved_instance_exists")
        assert world.sandbox.ledger.cancels() == []

    @pytest.mark.parametrize("running", [True, False])
    def test_it_is_resumed_by_policy(self, running: bool) -> None:
        world = self.world()
        (saved,) = world.sandbox.world.of_user(USER)
        if running:
            world.give(OLD_LAB)
        outcome = world.relaunch(on_saved="resume")
        assert (outcome.outcome, outcome.reason) == ("reused", "resumed_saved")
        assert outcome.lab_instance_id == saved.instance_id
        assert outcome.url is not None
        assert saved.state == "Running"
        assert len(world.sandbox.ledger.cancels()) == int(running)

    @pytest.mark.parametrize("running", [True, False])
    def test_it_is_deleted_by_policy(self, running: bool) -> None:
        world = self.world()
        if running:
            world.give(OLD_LAB)
        outcome = world.relaunch(on_saved="delete")
        assert outcome.outcome == "launched"
        assert len(world.sandbox.ledger.launches(USER)) == 1
        assert len(world.sandbox.ledger.cancels()) == 1 + int(running)

    def test_a_lost_answer_to_the_resume_is_looked_up(self) -> None:
        world = self.world()
        world.sandbox.faults.add("resume:lose_after")
        outcome = world.relaunch(on_saved="resume")
        assert (outcome.outcome, outcome.reason) == ("reused", "resumed_saved")
        assert len(world.sandbox.ledger.of("resumed")) == 1


class TestSaveInsteadOfCancel:
    """The second step in the same socket."""

    def test_the_learner_keeps_the_work(self) -> None:
        world = World()
        old = world.give(OLD_LAB)
        outcome = world.relaunch(displace="save")
        assert outcome.outcome == "launched"
        assert outcome.saved_instance_ids == (old.instance_id,)
        assert outcome.cancelled_instance_ids == ()
        assert old.state == "Saved"

    def test_saving_the_very_lab_is_refused_before_any_harm(self) -> None:
        world = World()
        old = world.give(NEW_LAB)
        outcome = world.relaunch(NEW_LAB, displace="save")
        assert (outcome.outcome, outcome.reason) == ("refused", "save_blocks_launch")
        assert old.state == "Running"


class TestLimitAboveOne:
    """A launch can succeed while the old lab runs."""

    def test_another_lab_stays(self) -> None:
        world = World(options={"max_active_per_user": 2})
        old = world.give(OLD_LAB)
        assert world.relaunch().outcome == "launched"
        assert old.state == "Running"

    def test_the_same_lab_is_replaced_even_where_a_second_one_is_possible(self) -> None:
        world = World(
            Readings(same_profile_running="second_instance"), options={"max_active_per_user": 2}
        )
        old = world.give(NEW_LAB)
        outcome = world.relaunch(NEW_LAB)
        assert outcome.outcome == "launched"
        assert outcome.cancelled_instance_ids == (old.instance_id,)

    def test_overlap_saves_the_whole_wait(self) -> None:
        world = World(options={"max_active_per_user": 5, "teardown": "fixed:300"})
        old = world.give(OLD_LAB)
        low = LaunchParameters(max_active_labs=1)
        outcome = world.relaunch(overlap=True, parameters=low)
        assert outcome.outcome == "launched"
        assert outcome.cancelled_instance_ids == (old.instance_id,)
        assert outcome.waited_seconds < 1

    def test_two_of_the_same_lab_both_go_where_one_would_be_handed_back(self) -> None:
        world = World(options={"max_active_per_user": 2})
        world.give(NEW_LAB)
        world.give(NEW_LAB)
        outcome = world.relaunch(NEW_LAB)
        assert outcome.outcome == "launched"
        assert len(outcome.cancelled_instance_ids) == 2


class TestExams:
    """Never an exam without leave."""

    @pytest.mark.parametrize("probe", [True, False])
    @pytest.mark.parametrize("lab", [EXAM, NEW_LAB])
    @pytest.mark.parametrize("state", ["Running", "Scoring"])
    def test_it_is_left_alone(self, lab: int, probe: bool, state: str) -> None:
        world = World()
        world.give(EXAM, state=state)
        outcome = world.relaunch(lab, probe=probe)
        assert outcome.outcome == "refused"
        assert (outcome.reason or "").startswith("protected_")
        assert world.sandbox.ledger.cancels() == []

    def test_a_lab_submitted_for_grading_is_left_alone(self) -> None:
        world = World()
        world.give(OLD_LAB).completion_status = "Submitted For Grading"
        outcome = world.relaunch()
        assert (outcome.outcome, outcome.reason) == ("refused", "protected_submitted")

    def test_it_is_ended_with_leave(self) -> None:
        world = World()
        exam = world.give(EXAM)
        assert world.relaunch(allow_exam=True).cancelled_instance_ids == (exam.instance_id,)


@pytest.mark.parametrize("lag", [0.0, -60.0], ids=["", "reads_off"])
@pytest.mark.parametrize("state", ["Tearing Down", "Dismantling"])
def test_a_dying_instance_that_no_list_shows_is_not_taken_for_the_new_lab(
    state: str, lag: float
) -> None:
    world = World(
        Readings(
            listing_drops="at_cancel",
            same_profile_tearing_down="hand_back",
            teardown_state=state,
            details_lag=lag,
        )
    )
    dying = world.give(NEW_LAB, started_ago=30)
    world.sandbox.world.tear_down(dying)
    outcome = world.relaunch(NEW_LAB)
    assert outcome.outcome == "launched"
    assert outcome.lab_instance_id != dying.instance_id
    assert world.sandbox.ledger.max_alive(USER) == 1


class TestWhatIsNotDescribed:
    """A lab that the platform will not describe is never ended."""

    def test_it_is_asked_about_again(self) -> None:
        world = World()
        old = world.give(OLD_LAB)
        world.sandbox.faults.add("details:status_0*2")
        outcome = world.relaunch()
        assert outcome.outcome == "launched"
        assert outcome.cancelled_instance_ids == (old.instance_id,)

    def test_it_stays(self) -> None:
        world = World()
        world.give(OLD_LAB)
        world.sandbox.faults.add("details:status_0*0")
        outcome = world.relaunch(deadline_seconds=120)
        assert (outcome.outcome, outcome.reason) == ("timed_out", "instance_not_described")
        assert world.sandbox.ledger.cancels() == []
        assert outcome.api_calls < 60

    def test_one_that_a_stale_list_still_shows_is_waited_for(self) -> None:
        world = World(Readings(details_when_gone="error"))
        stale = world.give(OLD_LAB)
        world.sandbox.world.tear_down(stale)
        world.clock.advance(19)
        assert world.relaunch().outcome == "launched"
        assert world.sandbox.ledger.count("cancel") == 0
