"""What a relauncher learns from one relaunch for the next, in both drivers."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from orchestrator import AsyncRelauncher, Outcome, Phase, Policy, Relauncher, Schedules
from orchestrator import testing as t
from orchestrator.waiting import FixedSchedule, Knowledge, Subject

OLD, NEW = 7, 8
SUBJECT = Subject(lab_profile_id=OLD)


class Class:
    """Many learners, one after the other, in one of the two drivers."""

    def __init__(self, drive: str, **schedules: Any) -> None:
        self.drive = drive
        clock: Any = t.ManualClock() if drive == "sync" else t.AsyncManualClock()
        self.clock = clock
        self.schedules = Schedules(**schedules)
        self.platform = t.InMemoryPlatform(self.clock.now, teardown_seconds=40)
        # The platform in memory refuses to save; here saving goes as cancelling does.
        both = {"clock": clock, "schedules": self.schedules}
        platform, asynchronous = self.platform, t.Async(self.platform)
        self.relauncher: Any = (
            Relauncher(platform, save=platform.cancel, **both)
            if drive == "sync"
            else AsyncRelauncher(asynchronous, save=asynchronous.cancel, **both)
        )
        self.learners = 0
        self.old_instance = 0

    def relaunch(
        self, old: int | None = OLD, *, hints: tuple[float, ...] = (), **policy: Any
    ) -> Outcome:
        """The next learner's relaunch; ``old`` is their lab, hinted at after so many seconds."""
        self.learners += 1
        user = f"learner-{self.learners}"
        if old is not None:
            self.old_instance = instance = self.platform.add_running(user, old)
            for seconds in hints:
                self.clock.after(seconds, lambda: self.relauncher.hint(instance))
        done = self.relauncher.relaunch(user, NEW, policy=Policy(**policy))
        outcome = done if self.drive == "sync" else asyncio.run(done)
        assert isinstance(outcome, Outcome)
        return outcome

    @property
    def knowledge(self) -> Knowledge:
        """What was learned."""
        return self.schedules.knowledge


@pytest.fixture(params=["sync", "async"])
def learners(request: pytest.FixtureRequest) -> Class:
    return Class(request.param)


def test_each_relaunch_makes_the_next_one_better(learners: Class) -> None:
    first, *_, last = [learners.relaunch() for _ in range(15)]
    assert first.waited_seconds > 45
    assert 40 <= last.waited_seconds < 42
    assert last.api_calls < first.api_calls
    typical = learners.knowledge.typical(SUBJECT)
    assert typical is not None
    assert typical.observations == 15
    assert typical.p50 == pytest.approx(40, abs=2)


def test_the_person_waiting_is_told_what_is_usual_once_it_is_known(learners: Class) -> None:
    outcomes = [learners.relaunch() for _ in range(10)]
    first, last = outcomes[0].events, outcomes[-1].events
    assert all(event.usual_seconds is None for event in first)
    (low, high) = next(e.usual_seconds for e in last if e.usual_seconds)
    assert 30 < low <= high < 50
    (waiting, *_) = [e for e in last if e.phase == "tearing_down"]
    assert "(usually" in waiting.message
    assert all(e.usual_seconds is None for e in last if e.phase == "launching")


def test_the_lab_that_makes_room_is_what_is_learned_about(learners: Class) -> None:
    for _ in range(5):
        learners.relaunch(OLD)
    learners.relaunch(NEW)
    assert [row.name for row in learners.knowledge.rows()] == [str(OLD), str(NEW)]


def test_saving_is_another_teardown_than_cancelling(learners: Class) -> None:
    learners.relaunch(displace="save")
    assert [row.name for row in learners.knowledge.rows()] == [f"{OLD} save"]


def test_a_teardown_that_had_begun_before_tells_nothing(learners: Class) -> None:
    learners.platform.teardown_seconds = 60
    ending = learners.platform.add_running("learner-1", OLD)
    learners.platform.cancel(ending, note=None, timeout=9)
    learners.clock.advance(30)
    assert learners.platform.inspect(ending, timeout=9).phase is Phase.ENDING
    assert learners.relaunch(None).outcome == "launched"
    assert learners.knowledge.rows() == ()


def test_a_launch_at_once_tells_nothing(learners: Class) -> None:
    learners.relaunch(None)
    assert learners.knowledge.rows() == ()


def test_a_teardown_that_never_ends_is_learned_as_that(learners: Class) -> None:
    learners.platform.teardown_seconds = math.inf
    assert learners.relaunch().outcome == "timed_out"
    (waited,) = learners.knowledge.history(str(OLD))
    assert waited.high == math.inf
    assert waited.low > 850


@pytest.mark.parametrize("drive", ["sync", "async"])
def test_a_chosen_schedule_is_kept_to_and_the_knowledge_grows_all_the_same(drive: str) -> None:
    learners = Class(drive, teardown=FixedSchedule(25))
    assert [learners.relaunch().waited_seconds for _ in range(4)] == [50.0] * 4
    typical = learners.knowledge.typical(SUBJECT)
    assert typical is not None
    assert typical.observations == 4


class TestWebhooks:
    """Announcements are learned from, whether they come before or after a look."""

    def test_where_they_have_been_arriving_polls_thin_out(self, learners: Class) -> None:
        first, *_, last = [learners.relaunch(hints=(41,)) for _ in range(12)]
        assert last.api_calls < first.api_calls
        assert 40 <= last.waited_seconds <= 41
        (row,) = learners.knowledge.rows()
        assert row.announced > 0.5
        assert learners.knowledge.schedule(SUBJECT).arrivals.expected > 0.8

    def test_polls_come_back_when_they_stay_away(self, learners: Class) -> None:
        for _ in range(12):
            learners.relaunch(hints=(41,))
        assert [learners.relaunch().waited_seconds for _ in range(8)][-1] < 45
        assert learners.knowledge.schedule(SUBJECT).arrivals.expected < 0.1

    def test_one_that_comes_after_the_look_counts_as_arrived(self, learners: Class) -> None:
        for _ in range(4):
            learners.relaunch()
            learners.clock.advance(1)
            learners.relauncher.hint(learners.old_instance)
        arrivals = learners.knowledge.schedule(SUBJECT).arrivals
        assert arrivals.expected > 0.6
        assert 0 < arrivals.delay < 15

    def test_forged_and_early_ones_teach_nothing(self, learners: Class) -> None:
        learners.clock.after(4, lambda: learners.relauncher.hint(999))
        assert learners.relaunch(hints=(3, 5, 5, 7)).waited_seconds >= 40
        assert learners.knowledge.schedule(SUBJECT).arrivals.expected == 0
