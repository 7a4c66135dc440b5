"""A relaunch that launches nothing ends labs and waits for their end, in both drivers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import CallRefused, Labs, Phase, Policy, Relauncher, SavedInstance, Schedules
from orchestrator import testing as t
from orchestrator.labs import InstanceDetails
from orchestrator.machine.decisions.waiting import UNREADABLE_TRIES
from orchestrator.waiting import FixedSchedule, Subject
from tests.library.test_relauncher import OTHER, WANTED, World, platform_of, world

__all__ = ["world"]

FREE = Policy(launch=False)


def free(world: World, platform: t.InMemoryPlatform, **policy: Any) -> Any:
    """Free the learner's slot, and see that nothing was launched for it."""
    outcome = world.relaunch(platform, policy=replace(FREE, **policy))
    assert not {"launch", "resume", "access_url"} & {name for name, _ in platform.calls}
    assert outcome.attempts == 0
    assert outcome.lab_instance_id is None
    return outcome


class Tells(t.InMemoryPlatform):
    """Describes what is gone as gone; ``saving`` is listed as being saved, ``unlisted`` not."""

    def __init__(self, now: Any, **options: Any) -> None:
        super().__init__(now, **options)
        self.unlisted: set[int] = set()
        self.saving: dict[int, float] = {}
        #: From when on everything is refused to be listed.
        self.lists_until = float("inf")

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        if self.now() >= self.lists_until:
            self.calls.append(("survey", user_id))
            raise CallRefused("no", operation="survey", error="unknown user")
        labs = super().survey(user_id, timeout=timeout)
        hidden = (*self.unlisted, *self.saving)
        saved = tuple(
            SavedInstance(instance_id=i, lab_profile_id=WANTED, save_in_progress=self.now() < until)
            for i, until in self.saving.items()
        )
        running = tuple(i for i in labs.running if i.instance_id not in hidden)
        return Labs(running=running, saved=saved)

    def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        instance = self.instances[instance_id]
        if instance_id in self.saving:
            self.calls.append(("inspect", instance_id))
            over = self.now() >= self.saving[instance_id]
            phase = Phase.GONE if over else Phase.SAVING
            return InstanceDetails(instance_id=instance_id, phase=phase, user_id="ann")
        if self._gone(instance):
            self.calls.append(("inspect", instance_id))
            return InstanceDetails(instance_id=instance_id, phase=Phase.GONE, user_id="ann")
        return super().inspect(instance_id, timeout=timeout)


@pytest.mark.parametrize("kind", [t.InMemoryPlatform, Tells])
def test_the_lab_is_ended_and_its_end_waited_for(
    world: World, kind: type[t.InMemoryPlatform]
) -> None:
    platform = platform_of(kind, world)
    old, other = platform.add_running("ann", WANTED), platform.add_running("ann", OTHER)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason, outcome.ok) == ("freed", None, True)
    assert outcome.raise_for_outcome() is outcome
    assert platform.cancels() == [old] == [*outcome.cancelled_instance_ids]
    assert 30 <= outcome.waited_seconds < 45
    assert outcome.left.untouched == (other,)
    assert outcome.left.tearing_down == ()
    assert outcome.message == (
        f"Freed for user ann, lab {WANTED}: the lab is torn down, as far as the platform tells; "
        f"nothing was launched. Cancelled: lab instance {old}. "
        f"Left untouched: lab instance {other}."
    )


def test_without_such_a_lab_one_call_is_all(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    other = platform.add_running("ann", OTHER)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("freed", "nothing_running")
    assert (outcome.api_calls, outcome.left.untouched) == (1, (other,))


@pytest.mark.parametrize("choose", ["oldest", "ask"])
def test_all_of_the_profile_go_one_after_the_other(world: World, choose: Any) -> None:
    platform = platform_of(Tells, world)
    ids = [platform.add_running("ann", WANTED) for _ in range(3)]
    outcome = free(world, platform, choose=choose)
    assert (outcome.outcome, outcome.reason) == ("freed", None)
    assert platform.cancels() == ids
    assert 90 <= outcome.waited_seconds < 130
    assert "the labs are torn down" in outcome.message


def test_the_named_one_alone_goes_whatever_its_profile(world: World) -> None:
    platform = platform_of(Tells, world)
    platform.add_running("ann", WANTED)
    named = platform.add_running("ann", OTHER)
    outcome = free(world, platform, displace_instance_id=named)
    assert outcome.outcome == "freed"
    assert platform.cancels() == [named]


def test_where_only_a_named_one_may_end_none_does_unnamed(world: World) -> None:
    platform = platform_of(Tells, world)
    platform.add_running("ann", WANTED)
    outcome = free(world, platform, choose="named")
    assert (outcome.outcome, outcome.reason) == ("refused", "none_named")
    assert platform.cancels() == []


def test_the_protected_are_left_when_the_others_are_gone(world: World) -> None:
    platform = platform_of(Tells, world)
    exam = platform.add_running("ann", WANTED, is_exam=True)
    plain = platform.add_running("ann", WANTED)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("refused", "protected_exam")
    assert platform.cancels() == [plain]
    assert outcome.left.untouched == (exam,)
    assert "the lab instance to be ended is an exam" in outcome.message
    assert f"Cancelled: lab instance {plain}. Left untouched: lab instance {exam}." in (
        outcome.message
    )


def test_another_consumers_lab_is_told_of(world: World) -> None:
    platform = platform_of(Tells, world)
    foreign = platform.add_running("ann", WANTED)
    platform.foreign.add(foreign)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("refused", "foreign_instance")
    assert outcome.left.untouched == (foreign,)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("kind", [t.InMemoryPlatform, Tells])
def test_a_named_one_that_has_gone_is_the_goal_reached(
    world: World, kind: type[t.InMemoryPlatform], listed: bool
) -> None:
    platform = platform_of(kind, world)
    old = platform.add_running("ann", WANTED)
    platform.cancel(old, note=None, timeout=1)
    world.clock.advance(10.0 if listed else 60.0)
    outcome = free(world, platform, displace_instance_id=old)
    assert (outcome.outcome, outcome.reason) == ("freed", "gone_already")
    assert outcome.cancelled_instance_ids == ()
    assert [name for name, _ in platform.calls].count("cancel") == 1
    assert outcome.waited_seconds < 45


class ForgetsWhose(Tells):
    """Says of no instance whose it is."""

    def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        return replace(super().inspect(instance_id, timeout=timeout), user_id=None)


@pytest.mark.parametrize(
    ("kind", "user", "ended"),
    [(Tells, "ann", True), (Tells, "bob", False), (ForgetsWhose, "ann", False)],
)
def test_one_that_is_not_listed_goes_only_if_it_is_known_to_be_the_learners(
    world: World, kind: type[Tells], user: str, ended: bool
) -> None:
    platform = platform_of(kind, world)
    hidden = platform.add_running(user, WANTED)
    platform.unlisted.add(hidden)
    outcome = free(world, platform, displace_instance_id=hidden)
    assert platform.cancels() == ([hidden] if ended else [])
    assert outcome.outcome == ("freed" if ended else "refused")
    if not ended:
        assert outcome.reason == ("not_the_users" if user == "bob" else "instance_not_described")


class DescribesNothing(t.InMemoryPlatform):
    """Refuses to describe any instance."""

    def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        self.calls.append(("inspect", instance_id))
        raise CallRefused("no", operation="inspect", error="an error occurred")


def test_a_listed_lab_that_is_not_described_is_never_ended(world: World) -> None:
    platform = platform_of(DescribesNothing, world)
    old = platform.add_running("ann", WANTED)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("refused", "instance_not_described")
    assert platform.cancels() == []
    assert outcome.left.untouched == (old,)
    assert outcome.waited_seconds < 15


@pytest.mark.parametrize("times", [1, UNREADABLE_TRIES])
def test_a_refusal_to_describe_it_is_no_proof_that_it_is_gone(world: World, times: int) -> None:
    """Not even where the list no longer has it: some drop an instance when its end begins."""

    class Mumbles(Tells):
        left = times

        def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
            if self.effects and self.left:
                self.left -= 1
                self.calls.append(("inspect", instance_id))
                raise CallRefused("no", operation="inspect", error="try again")
            return super().inspect(instance_id, timeout=timeout)

        def cancel(self, instance_id: int, **options: Any) -> Any:
            self.unlisted.add(instance_id)
            return super().cancel(instance_id, **options)

    platform = platform_of(Mumbles, world)
    platform.add_running("ann", WANTED)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("freed", None)
    assert outcome.waited_seconds >= 30


@pytest.mark.parametrize("detect", ["details", "listing", "launch"])
def test_the_list_has_to_agree_however_it_looks(world: World, detect: Any) -> None:
    """Details that run ahead of the end are not believed while the list has the lab."""

    class RunsAhead(t.InMemoryPlatform):
        def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
            described = super().inspect(instance_id, timeout=timeout)
            early = described.phase is Phase.ENDING
            return replace(described, phase=Phase.GONE if early else described.phase)

    platform = platform_of(RunsAhead, world)
    platform.add_running("ann", WANTED)
    outcome = free(world, platform, detect=detect)
    assert (outcome.outcome, outcome.reason) == ("freed", None)
    assert outcome.waited_seconds >= 30
    assert ("inspect" in [name for name, _ in platform.calls][3:]) == (detect != "listing")


def test_a_lab_that_is_being_saved_is_waited_for_and_not_cancelled(world: World) -> None:
    platform = platform_of(Tells, world)
    saving = platform.add_running("ann", WANTED)
    platform.saving[saving] = world.clock.now() + 50
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("freed", "gone_already")
    assert platform.effects == []
    assert 50 <= outcome.waited_seconds < 75


def test_saving_keeps_the_copy(world: World) -> None:
    class Saves(Tells):
        def save(self, instance_id: int, *, note: str | None, timeout: float) -> Any:
            self.saving[instance_id] = self.now() + 20
            answer = self.cancel(instance_id, note=note, timeout=timeout)
            self.calls[-1] = ("save", instance_id)
            return answer

    platform = platform_of(Saves, world)
    old = platform.add_running("ann", WANTED)
    outcome = free(world, platform, displace="save")
    assert (outcome.outcome, outcome.reason) == ("freed", None)
    assert (outcome.saved_instance_ids, outcome.cancelled_instance_ids) == ((old,), ())
    assert "the lab is saved" in outcome.message
    assert "cancel" not in [name for name, _ in platform.calls]


def test_a_lab_that_somebody_launches_meanwhile_is_left_alone(world: World) -> None:
    platform = platform_of(Tells, world)
    old = platform.add_running("ann", WANTED)
    world.clock.after(20, lambda: platform.add_running("ann", WANTED))
    outcome = free(world, platform)
    theirs = max(platform.instances)
    assert (outcome.outcome, outcome.reason) == ("freed", "launched_by_another")
    assert platform.cancels() == [old]
    assert outcome.left.untouched == (theirs,)
    assert f"launched anew by somebody meanwhile (lab instance {theirs})" in outcome.message


@pytest.mark.parametrize("named", [True, False])
def test_without_a_list_nothing_is_ended_but_what_was_named(world: World, named: bool) -> None:
    platform = platform_of(Tells, world)
    platform.lists_until = 0.0
    old = platform.add_running("ann", WANTED)
    outcome = free(world, platform, displace_instance_id=old if named else None)
    assert platform.cancels() == ([old] if named else [])
    if named:
        assert (outcome.outcome, outcome.reason) == ("freed", None)
    else:
        assert (outcome.outcome, outcome.reason) == ("failed", "labs_not_listed")
        assert "unknown user" in outcome.message


@pytest.mark.parametrize("described", [True, False])
def test_a_list_that_is_refused_proves_nothing(world: World, described: bool) -> None:
    """The details alone will do if they say that it is gone, and not if they say nothing."""
    kind: type[Tells] = Tells
    if not described:

        class TellsNothing(Tells):
            def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
                if self.effects:
                    self.calls.append(("inspect", instance_id))
                    raise CallRefused("no", operation="inspect", error="no")
                return super().inspect(instance_id, timeout=timeout)

        kind = TellsNothing
    platform = platform_of(kind, world)
    platform.add_running("ann", WANTED)
    platform.lists_until = world.clock.now() + 10
    outcome = free(world, platform, deadline_seconds=300)
    expected = ("freed", None) if described else ("timed_out", "teardown_not_finished")
    assert (outcome.outcome, outcome.reason) == expected


@pytest.mark.parametrize(
    ("kind", "outcome", "reason"),
    [
        (t.NeverTearsDown, "timed_out", "teardown_not_finished"),
        (t.LosesCancelAnswer, "freed", None),
        (t.IsUnreachable, "failed", "platform_unreachable"),
        (t.RejectsKey, "failed", "key_rejected"),
    ],
)
def test_each_way_to_fail(
    world: World, kind: type[t.InMemoryPlatform], outcome: str, reason: str | None
) -> None:
    platform = platform_of(kind, world)
    old = platform.add_running("ann", WANTED)
    told = free(world, platform)
    assert (told.outcome, told.reason) == (outcome, reason)
    assert [n for n, _ in platform.calls].count("cancel") <= 1
    if outcome == "timed_out":
        assert told.left.tearing_down == (old,)
        assert told.waited_seconds == 900


def test_a_cancel_that_is_refused_ends_as_that(world: World) -> None:
    class Stays(t.InMemoryPlatform):
        def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> Any:
            self.calls.append(("cancel", instance_id))
            return t.InMemoryPlatform.cancel(self, -1, note=note, timeout=timeout)

    platform = platform_of(Stays, world)
    old = platform.add_running("ann", WANTED)
    outcome = free(world, platform)
    assert (outcome.outcome, outcome.reason) == ("failed", "cancel_refused")
    assert outcome.left.untouched == (old,)


def test_late_in_its_time_it_still_ends_the_lab(world: World) -> None:
    """Ending it is what was asked for: it is not lost for nothing, as it were before a launch."""

    class ListsLate(Tells):
        def survey(self, user_id: str, *, timeout: float) -> Labs:
            if not self.calls:
                world.clock.advance(97.0)
            return super().survey(user_id, timeout=timeout)

    platform = platform_of(ListsLate, world)
    old = platform.add_running("ann", WANTED)
    outcome = free(world, platform, deadline_seconds=100)
    assert (outcome.outcome, outcome.reason) == ("timed_out", "teardown_not_finished")
    assert platform.cancels() == [old]


def test_what_is_about_the_new_lab_counts_for_nothing(world: World) -> None:
    platform = platform_of(Tells, world)
    old = platform.add_running("ann", WANTED)
    outcome = free(
        world, platform, if_running="refuse", overlap=True, probe=True, on_saved="delete"
    )
    assert outcome.outcome == "freed"
    assert platform.cancels() == [old]


@pytest.mark.parametrize("kind", [t.InMemoryPlatform, Tells])
def test_a_hint_leads_to_a_look(kind: type[t.InMemoryPlatform]) -> None:
    clock = t.ManualClock()
    platform = kind(clock.now)
    old = platform.add_running("ann", WANTED)
    schedules = Schedules(teardown=FixedSchedule(400))
    relauncher = Relauncher(platform, clock=clock, policy=FREE, schedules=schedules)
    for seconds in (5, 31):
        clock.after(seconds, lambda: relauncher.hint(old))
    outcome = relauncher.relaunch("ann", WANTED)
    assert (outcome.outcome, outcome.reason) == ("freed", None)
    assert 31 <= outcome.waited_seconds < 40
    assert "launch" not in [name for name, _ in platform.calls]
    phases = [e.phase for e in outcome.events]
    assert phases.count("looking") >= 2


@pytest.mark.parametrize("kind", [t.InMemoryPlatform, Tells])
def test_what_it_waited_is_learned_from(kind: type[t.InMemoryPlatform]) -> None:
    clock = t.ManualClock()
    platform = kind(clock.now, teardown_seconds=40)
    schedules = Schedules()
    relauncher = Relauncher(platform, clock=clock, policy=FREE, schedules=schedules)
    for learner in range(5):
        platform.add_running(f"learner-{learner}", WANTED)
        assert relauncher.relaunch(f"learner-{learner}", WANTED).outcome == "freed"
    waited = schedules.knowledge.history(str(WANTED))
    assert len(waited) == 5
    assert all(w.low < 40 <= w.high < 60 for w in waited)
    typical = schedules.knowledge.typical(Subject(lab_profile_id=WANTED))
    assert typical is not None
    assert typical.observations == 5


def test_each_of_several_teardowns_is_learned_from_once() -> None:
    clock = t.ManualClock()
    platform = Tells(clock.now, teardown_seconds=40)
    schedules = Schedules()
    for _ in range(2):
        platform.add_running("ann", WANTED)
    platform.add_running("ann", WANTED, is_exam=True)
    relauncher = Relauncher(platform, clock=clock, policy=FREE, schedules=schedules)
    assert relauncher.relaunch("ann", WANTED).outcome == "refused"
    assert len(schedules.knowledge.history(str(WANTED))) == 2


def test_one_that_never_ends_is_learned_as_that() -> None:
    clock = t.ManualClock()
    platform = t.NeverTearsDown(clock.now)
    platform.add_running("ann", WANTED)
    schedules = Schedules()
    relauncher = Relauncher(platform, clock=clock, policy=FREE, schedules=schedules)
    assert relauncher.relaunch("ann", WANTED).outcome == "timed_out"
    (waited,) = schedules.knowledge.history(str(WANTED))
    assert waited.high == float("inf")


def test_somebody_elses_teardown_teaches_nothing() -> None:
    clock = t.ManualClock()
    platform = Tells(clock.now)
    platform.cancel(platform.add_running("ann", WANTED), note=None, timeout=1)
    schedules = Schedules()
    relauncher = Relauncher(platform, clock=clock, policy=FREE, schedules=schedules)
    assert relauncher.relaunch("ann", WANTED).reason == "gone_already"
    assert schedules.knowledge.rows() == ()
