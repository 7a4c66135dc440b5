"""Whole relaunches against the named fakes, in the sync and the async driver alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator import (
    AsyncRelauncher,
    InvalidRequest,
    LaunchAnswer,
    LaunchParameters,
    Outcome,
    Phase,
    Policy,
    Progress,
    Relauncher,
    RelaunchNotLaunched,
    Run,
)
from orchestrator import testing as t

WANTED, OTHER = 7, 8


@dataclass
class World:
    """A platform, a clock and one of the two drivers."""

    drive: str
    clock: Any = field(init=False)

    def __post_init__(self) -> None:
        self.clock = t.ManualClock() if self.drive == "sync" else t.AsyncManualClock()

    def relaunch(
        self, platform: t.InMemoryPlatform, *, policy: Policy | None = None, **options: Any
    ) -> Outcome:
        if self.drive == "sync":
            relauncher = Relauncher(platform, clock=self.clock, policy=policy)
            return relauncher.relaunch("ann", WANTED, **options)
        relaunch = AsyncRelauncher(t.Async(platform), clock=self.clock, policy=policy)
        return asyncio.run(relaunch.relaunch("ann", WANTED, **options))


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def platform_of(kind: type[t.InMemoryPlatform], world: World, **options: Any) -> Any:
    return kind(world.clock.now, **options)


@pytest.mark.parametrize("running", [WANTED, OTHER])
@pytest.mark.parametrize(
    ("kind", "cancelled", "launched", "outcome", "reason"),
    [
        (t.InMemoryPlatform, 1, 1, "launched", None),
        (t.NeverTearsDown, 1, 0, "timed_out", "teardown_not_finished"),
        (t.RefusesForGood, 0, 0, "failed", "launch_limit_reached"),
        (t.LosesLaunchAnswer, 1, 1, "launched", None),
        (t.LosesLaunchRequest, 1, 1, "launched", None),
        (t.LosesCancelAnswer, 1, 1, "launched", None),
        (t.HandsBackDyingInstance, 1, 1, "launched", None),
        (t.AnswersWithActiveLabsPage, 1, 1, "launched", None),
        (t.SlotIsTaken, 2, 1, "launched", None),
        (t.IsUnreachable, 0, 0, "failed", "platform_unreachable"),
        (t.RejectsKey, 0, 0, "failed", "key_rejected"),
        (t.RateLimits, 1, 1, "launched", None),
    ],
)
def test_each_way_to_fail(
    world: World,
    running: int,
    kind: type[t.InMemoryPlatform],
    cancelled: int,
    launched: int,
    outcome: str,
    reason: str | None,
) -> None:
    platform = platform_of(kind, world)
    old = platform.add_running("ann", running)
    result = world.relaunch(platform)
    assert (result.outcome, result.reason) == (outcome, reason)
    assert len(platform.cancels()) == cancelled
    assert len(platform.launches()) == launched
    assert result.cancelled_instance_ids == tuple(platform.cancels())
    if launched:
        assert result.lab_instance_id == platform.launches()[0] != old
        assert result.url is not None
    assert result.api_calls == len(platform.calls)
    assert result.waited_seconds <= 900


def test_with_nothing_running_it_is_one_launch_and_one_look(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    result = world.relaunch(platform)
    assert result.outcome == "launched"
    assert [name for name, _ in platform.calls] == ["survey", "launch", "inspect"]


def test_a_limit_above_one_costs_no_other_lab(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world, max_active_per_user=2)
    platform.add_running("ann", OTHER)
    result = world.relaunch(platform)
    assert result.outcome == "launched"
    assert platform.cancels() == []


def test_overlap_gives_the_new_lab_at_once_and_ends_the_old_one(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world, max_active_per_user=5)
    old = platform.add_running("ann", OTHER)
    asked = LaunchParameters(max_active_labs=1)
    result = world.relaunch(platform, policy=Policy(overlap=True), parameters=asked)
    assert result.outcome == "launched"
    assert platform.effects[0][0] == "launched"
    assert platform.cancels() == [old]
    assert result.waited_seconds < 1


def test_overlap_falls_back_where_the_cap_forbids_it(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    old = platform.add_running("ann", OTHER)
    result = world.relaunch(platform, policy=Policy(overlap=True))
    assert result.outcome == "launched"
    assert [what for what, _ in platform.effects] == ["cancelled", "launched"]
    assert platform.cancels() == [old]


def test_overlap_spares_an_exam_and_still_launches(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world, max_active_per_user=5)
    platform.add_running("ann", OTHER, is_exam=True)
    result = world.relaunch(platform, policy=Policy(overlap=True))
    assert result.outcome == "launched"
    assert platform.cancels() == []


@pytest.mark.parametrize("running", [WANTED, OTHER])
@pytest.mark.parametrize("allowed", [False, True])
def test_an_exam_needs_leave(world: World, running: int, allowed: bool) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    exam = platform.add_running("ann", running, is_exam=True)
    result = world.relaunch(platform, policy=Policy(allow_exam=allowed))
    if allowed:
        assert result.outcome == "launched"
        assert platform.cancels() == [exam]
    else:
        assert (result.outcome, result.reason) == ("refused", "protected_exam")
        assert platform.effects == []
        assert result.left.untouched == (exam,)
        assert str(exam) in result.message


def test_a_lab_being_scored_is_left_alone(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    scored = platform.add_running("ann", OTHER)
    platform.instances[scored].phase = Phase.SCORING
    result = world.relaunch(platform)
    assert (result.outcome, result.reason) == ("refused", "protected_scoring")
    assert platform.effects == []


def test_another_users_instance_is_never_cancelled(world: World) -> None:
    class ListsSomebodyElses(t.InMemoryPlatform):
        def survey(self, user_id: str, *, timeout: float) -> Any:
            return super().survey("bob", timeout=timeout)

        def launch(
            self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
        ) -> LaunchAnswer:
            return LaunchAnswer(result=2)

    platform = platform_of(ListsSomebodyElses, world)
    platform.add_running("bob", OTHER)
    result = world.relaunch(platform)
    assert (result.outcome, result.reason) == ("refused", "not_the_users")
    assert platform.effects == []


def test_another_consumers_instance_is_refused(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    platform.foreign.add(platform.add_running("ann", OTHER))
    result = world.relaunch(platform)
    assert (result.outcome, result.reason) == ("refused", "foreign_instance")
    assert result.cancelled_instance_ids == ()


@pytest.mark.parametrize(
    ("if_running", "outcome", "reason"),
    [("reuse", "reused", "already_running"), ("refuse", "refused", "already_running")],
)
def test_the_same_lab_running_already(
    world: World, if_running: Any, outcome: str, reason: str
) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    running = platform.add_running("ann", WANTED)
    result = world.relaunch(platform, policy=Policy(if_running=if_running))
    assert (result.outcome, result.reason) == (outcome, reason)
    assert platform.effects == []
    assert result.lab_instance_id == (running if outcome == "reused" else None)
    assert (result.url is not None) == (outcome == "reused")


def test_only_a_named_lab_is_ended_where_that_is_wanted(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    running = platform.add_running("ann", OTHER)
    asked = world.relaunch(platform, policy=Policy(choose="named"))
    assert (asked.outcome, asked.reason) == ("refused", "none_named")
    assert platform.effects == []
    assert asked.left.untouched == (running,)
    named = world.relaunch(platform, policy=Policy(choose="named", displace_instance_id=running))
    assert (named.outcome, named.cancelled_instance_ids) == ("launched", (running,))


def test_where_nothing_has_to_end_none_need_be_named(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    result = world.relaunch(platform, policy=Policy(choose="named"))
    assert (result.outcome, result.cancelled_instance_ids) == ("launched", ())


def test_ask_names_the_candidates_and_takes_the_answer(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world, max_active_per_user=2)
    first, second = platform.add_running("ann", OTHER), platform.add_running("ann", 9)
    asked = world.relaunch(platform, policy=Policy(choose="ask"))
    assert (asked.outcome, asked.reason) == ("refused", "ambiguous_instances")
    assert str(first) in asked.message
    assert str(second) in asked.message
    answered = world.relaunch(platform, policy=Policy(choose="ask", displace_instance_id=second))
    assert answered.outcome == "launched"
    assert platform.cancels() == [second]


def test_the_same_profile_makes_room_before_an_older_lab(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world, max_active_per_user=2)
    oldest, same = platform.add_running("ann", OTHER), platform.add_running("ann", WANTED)
    platform.instances[oldest].started_at -= 1000
    assert world.relaunch(platform).outcome == "launched"
    assert platform.cancels() == [same]


def test_else_the_oldest_makes_room(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world, max_active_per_user=2)
    younger, oldest = platform.add_running("ann", OTHER), platform.add_running("ann", 9)
    platform.instances[oldest].started_at -= 1000
    assert world.relaunch(platform).outcome == "launched"
    assert platform.cancels() == [oldest]
    assert platform.instances[younger].phase is Phase.ALIVE


def test_a_lab_that_is_ending_already_is_waited_for_not_cancelled(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    dying = platform.add_running("ann", OTHER)
    platform.cancel(dying, note=None, timeout=1)
    platform.effects.clear()
    assert world.relaunch(platform).outcome == "launched"
    assert platform.cancels() == []


def test_the_page_of_active_labs_is_handed_out_if_wanted(world: World) -> None:
    platform = platform_of(t.AnswersWithActiveLabsPage, world)
    platform.add_running("ann", OTHER)
    result = world.relaunch(platform, policy=Policy(on_active_labs_page="choose"))
    assert (result.outcome, result.url) == ("choose", "https://labs.example/active-labs")
    assert platform.effects == []


def test_without_the_probe_the_first_launch_comes_after_the_cancel(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    platform.add_running("ann", OTHER)
    assert world.relaunch(platform, policy=Policy(probe=False)).outcome == "launched"
    names = [name for name, _ in platform.calls]
    assert names.index("cancel") < names.index("launch")


@pytest.mark.parametrize("detect", ["details", "listing", "launch"])
def test_each_way_to_detect_the_end_of_the_teardown(world: World, detect: Any) -> None:
    platform = platform_of(t.InMemoryPlatform, world, teardown_seconds=45)
    platform.add_running("ann", OTHER)
    result = world.relaunch(platform, policy=Policy(detect=detect))
    assert result.outcome == "launched"
    assert 45 <= result.waited_seconds <= 60


def test_the_own_lab_that_fills_the_consumers_limit_is_ended(world: World) -> None:
    class ConsumerIsFull(t.InMemoryPlatform):
        def launch(
            self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
        ) -> LaunchAnswer:
            if self.count_active(timeout=1) >= 1:
                return LaunchAnswer(result=5)
            return super().launch(user_id, lab_profile_id, parameters, timeout=timeout)

    platform = platform_of(ConsumerIsFull, world)
    own = platform.add_running("ann", OTHER)
    assert world.relaunch(platform).outcome == "launched"
    assert platform.cancels() == [own]


def test_a_limit_that_others_fill_costs_the_learner_nothing(world: World) -> None:
    class OthersFillIt(t.InMemoryPlatform):
        def launch(
            self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
        ) -> LaunchAnswer:
            return LaunchAnswer(result=5)

    platform = platform_of(OthersFillIt, world)
    platform.add_running("ann", OTHER)
    platform.add_running("bob", OTHER)
    result = world.relaunch(platform, policy=Policy(deadline_seconds=120))
    assert (result.outcome, result.reason) == ("timed_out", "consumer_active")
    assert platform.effects == []


def test_a_retry_after_is_kept(world: World) -> None:
    platform = platform_of(t.RateLimits, world)
    world.relaunch(platform)
    assert world.clock.waits[:2] == [7.0, 7.0]


def test_the_callers_tag_is_kept_beside_ours(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    parameters = LaunchParameters(tag="course 12")
    result = world.relaunch(platform, parameters=parameters, relaunch_id="abc")
    assert result.lab_instance_id is not None
    assert platform.instances[result.lab_instance_id].tag == "course 12 relaunch=abc"


def test_somebody_elses_new_instance_of_the_same_lab_is_not_claimed(world: World) -> None:
    class SomebodyIsQuicker(t.SlotIsTaken):
        taken_by = WANTED

    platform = platform_of(SomebodyIsQuicker, world)
    old = platform.add_running("ann", WANTED)
    result = world.relaunch(platform)
    assert result.outcome == "launched"
    assert result.lab_instance_id == platform.launches()[-1]
    assert platform.cancels() == [old, platform.launches()[-1] - 1]


def test_another_relaunch_of_the_same_lab_is_shared(world: World) -> None:
    class AnotherRelaunchIsQuicker(t.InMemoryPlatform):
        def launch(
            self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
        ) -> LaunchAnswer:
            if self.cancels() and not self.launches():
                quick = replace(parameters, tag="relaunch=another")
                super().launch(user_id, lab_profile_id, quick, timeout=timeout)
            return super().launch(user_id, lab_profile_id, parameters, timeout=timeout)

    platform = platform_of(AnotherRelaunchIsQuicker, world)
    platform.add_running("ann", WANTED)
    result = world.relaunch(platform)
    assert (result.outcome, result.reason) == ("reused", "launched_by_another")
    assert len(platform.launches()) == 1
    assert len(platform.cancels()) == 1


def test_the_bound_on_recancels_holds(world: World) -> None:
    class AlwaysTaken(t.SlotIsTaken):
        taken = property(lambda self: False, lambda self, value: None)

    platform = platform_of(AlwaysTaken, world)
    platform.add_running("ann", WANTED)
    result = world.relaunch(platform, policy=Policy(max_recancels=2))
    assert (result.outcome, result.reason) == ("failed", "slot_taken")
    assert len(platform.cancels()) == 3


class TestTheEnd:
    """Every end says what is left."""

    def test_at_the_deadline(self, world: World) -> None:
        platform = platform_of(t.NeverTearsDown, world)
        old = platform.add_running("ann", OTHER)
        result = world.relaunch(platform, policy=Policy(deadline_seconds=100))
        assert result.outcome == "timed_out"
        assert result.left.tearing_down == (old,)
        assert result.waited_seconds == pytest.approx(100)
        assert f"Still being torn down: lab instance {old}." in result.message

    def test_no_lab_is_cancelled_when_too_little_time_is_left(self, world: World) -> None:
        platform = platform_of(t.RateLimits, world)
        platform.turned_away, platform.retry_after = 1, 95.0
        platform.add_running("ann", OTHER)
        result = world.relaunch(platform, policy=Policy(deadline_seconds=100))
        assert result.outcome == "timed_out"
        assert platform.effects == []

    def test_raise_for_outcome(self, world: World) -> None:
        platform = platform_of(t.RefusesForGood, world)
        with pytest.raises(RelaunchNotLaunched, match="Result 100") as caught:
            world.relaunch(platform).raise_for_outcome()
        assert caught.value.reason == "launch_limit_reached"


class TestHints:
    """A hint from outside ends the wait at once, and is checked."""

    def relaunch_with(self, world: World, plan: Callable[[Any, Any], None]) -> Any:
        platform = platform_of(t.InMemoryPlatform, world, teardown_seconds=61)
        platform.add_running("ann", OTHER)
        if world.drive == "sync":
            relauncher: Any = Relauncher(platform, clock=world.clock)
            plan(relauncher, platform)
            return relauncher.relaunch("ann", WANTED), platform
        relauncher = AsyncRelauncher(t.Async(platform), clock=world.clock)
        plan(relauncher, platform)
        return asyncio.run(relauncher.relaunch("ann", WANTED)), platform

    def test_a_true_hint_ends_the_wait(self, world: World) -> None:
        def plan(relauncher: Any, platform: Any) -> None:
            world.clock.after(61.5, lambda: relauncher.hint(5001))

        result, _ = self.relaunch_with(world, plan)
        assert result.outcome == "launched"
        assert result.waited_seconds == pytest.approx(61.5)

    @pytest.mark.parametrize("hints", [[5001] * 3, [999], [5001, 999, 5001]])
    def test_early_doubled_and_unknown_hints_do_no_harm(
        self, world: World, hints: list[int]
    ) -> None:
        def plan(relauncher: Any, platform: Any) -> None:
            for n, hint in enumerate(hints):
                world.clock.after(5 + n, lambda h=hint: relauncher.hint(h))

        result, platform = self.relaunch_with(world, plan)
        assert result.outcome == "launched"
        assert 61 <= result.waited_seconds < 75
        assert len(platform.launches()) == 1


class TestInterruption:
    """Aborting leaves no call half-recorded."""

    def test_abort_during_the_wait(self, world: World) -> None:
        platform = platform_of(t.NeverTearsDown, world)
        old = platform.add_running("ann", OTHER)
        seen: list[Progress] = []
        if world.drive == "sync":
            relaunch: Any = Relauncher(platform, clock=world.clock).start("ann", WANTED)
            world.clock.after(10, relaunch.abort)
            seen.extend(relaunch.events())
        else:

            async def main() -> Any:
                handle = AsyncRelauncher(t.Async(platform), clock=world.clock).start("ann", WANTED)
                world.clock.after(10, handle.abort)
                seen.extend([event async for event in handle.events()])
                return handle

            relaunch = asyncio.run(main())
        assert relaunch.outcome.outcome == "aborted"
        assert relaunch.outcome.left.tearing_down == (old,)
        assert seen[-1].phase == "aborted"
        assert seen[-1].elapsed_seconds == pytest.approx(10)

    def test_leaving_the_loop_aborts_without_another_call(self) -> None:
        clock = t.ManualClock()
        platform = t.InMemoryPlatform(clock.now)
        platform.add_running("ann", OTHER)
        relaunch = Relauncher(platform, clock=clock).start("ann", WANTED)
        events = relaunch.events()
        for event in events:
            if event.phase == "displacing":
                break
        events.close()  # type: ignore[attr-defined]
        assert relaunch.outcome is not None
        assert relaunch.outcome.outcome == "aborted"
        assert relaunch.outcome.left.cancel_in_doubt is None
        assert platform.effects == []

    @pytest.mark.parametrize("call", ["cancel", "launch"])
    def test_ctrl_c_in_the_middle_of_a_call_is_told(self, call: str) -> None:
        clock = t.ManualClock()
        platform = t.InMemoryPlatform(clock.now)
        old = platform.add_running("ann", OTHER)

        def interrupted(*args: Any, **options: Any) -> Any:
            raise KeyboardInterrupt

        setattr(platform, call, interrupted)
        relaunch = Relauncher(platform, clock=clock).start("ann", WANTED, relaunch_id="x")
        with pytest.raises(KeyboardInterrupt):
            relaunch.result()
        assert relaunch.outcome is not None
        left = relaunch.outcome.left
        assert relaunch.outcome.events[-1].calling == call
        assert left.cancel_in_doubt == (old if call == "cancel" else None)
        assert left.launch_in_doubt_tag == ("relaunch=x" if call == "launch" else None)

    def test_cancelling_the_task_in_the_middle_of_a_call_is_told(self) -> None:
        clock = t.AsyncManualClock()
        platform = t.InMemoryPlatform(clock.now)
        platform.add_running("ann", OTHER)

        class Hangs(t.Async):
            async def launch(self, *args: Any, **options: Any) -> LaunchAnswer:
                launching.set()
                await asyncio.Event().wait()
                raise AssertionError

        launching = asyncio.Event()

        async def main() -> Any:
            relaunch = AsyncRelauncher(Hangs(platform), clock=clock).start("ann", WANTED)
            task = asyncio.create_task(relaunch.result())
            await launching.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return relaunch

        relaunch = asyncio.run(main())
        assert relaunch.outcome.outcome == "aborted"
        assert relaunch.outcome.left.launch_in_doubt_tag is not None


def test_a_stored_run_goes_on_in_another_process(world: World) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    platform.add_running("ann", OTHER)
    first = Relauncher(platform, clock=t.ManualClock(world.clock.now())).start("ann", WANTED)
    stored = ""
    for event in first.events():
        if event.phase == "displacing":
            stored = first.run.to_json()
        if event.phase == "tearing_down":
            break
    second = Relauncher(platform, clock=t.ManualClock(world.clock.now()))
    platform.now = second._clock.now
    result = second.resume(Run.from_json(stored)).result()
    assert result.outcome == "launched"
    assert len(platform.cancels()) == 1, "the cancel in flight was looked up, not repeated"


@pytest.mark.parametrize(
    ("arguments", "options", "field"),
    [
        (("", WANTED), {}, "user_id"),
        (("  ", WANTED), {}, "user_id"),
        (("a\nb", WANTED), {}, "user_id"),
        (("ann", 0), {}, "lab_profile_id"),
        (("ann", 2**31), {}, "lab_profile_id"),
        (("ann", True), {}, "lab_profile_id"),
        (("ann", WANTED), {"relaunch_id": "a b"}, "relaunch_id"),
        (("ann", WANTED), {"note": "a\x00"}, "note"),
        (("ann", WANTED), {"parameters": LaunchParameters(tag="\n")}, "tag"),
        (
            ("ann", WANTED),
            {"parameters": LaunchParameters(region_id="x")},  # type: ignore[arg-type]
            "region_id",
        ),
    ],
)
def test_bad_input_is_refused_at_the_door_by_name(
    world: World, arguments: Any, options: Any, field: str
) -> None:
    platform = platform_of(t.InMemoryPlatform, world)
    relauncher = Relauncher(platform)
    with pytest.raises(InvalidRequest) as caught:
        relauncher.start(*arguments, **options)
    assert caught.value.field == field
    assert platform.calls == []


@pytest.mark.parametrize(
    "bad",
    [
        {"if_running": "maybe"},
        {"deadline_seconds": 0},
        {"deadline_seconds": float("inf")},
        {"max_recancels": -1},
        {"probe": "yes"},
    ],
)
def test_a_wrong_policy_is_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Policy(**bad)
    assert caught.value.field == next(iter(bad))
