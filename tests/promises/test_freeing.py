"""The promises of a relaunch that launches nothing, in random worlds and under every reading.

The sandbox's ledger, not the outcome, says what really happened.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from orchestrator import Policy, Relauncher, Run
from orchestrator.sandbox import Instance, Readings
from orchestrator.skillable import SkillableClient, SkillablePlatform
from tests.promises.test_random_worlds import worlds
from tests.world import EXAM, KEY, NEW_LAB, OLD_LAB, USER, World

#: Faults by which the platform says of itself what is not so.
_LIES = {"status_0", "wrong_types", "html", "truncated", "login_redirect"}


@given(
    worlds(),
    st.sampled_from([OLD_LAB, OLD_LAB, NEW_LAB, EXAM]),
    st.sampled_from([None, None, None, 0, 1, 7]),
)
def test_nothing_is_launched_and_nothing_else_ended(
    case: tuple[World, dict[str, Any]], lab: int, named: int | None
) -> None:
    world, policy = case
    inner, ledger = world.sandbox.world, world.sandbox.ledger
    before = {i.instance_id: i.state for i in inner.instances.values()}
    mine = [i for i in inner.of_user(USER) if i.consumer is world.sandbox.consumer]
    target = None if named is None else mine[named].instance_id if named < len(mine) else 7
    outcome = world.relaunch(
        lab, **policy, launch=False, displace_instance_id=target, deadline_seconds=600
    )
    inner.settle()
    event(f"{outcome.outcome} {outcome.reason}")

    # No launch, nor anything else that a launch would need.
    asked = {r.operation.lower() for r in ledger.requests}
    assert not asked & {"launch", "resume", "labaccessurl", "stats"}, asked
    assert ledger.launches() == []
    assert outcome.attempts == 0
    assert outcome.outcome in ("freed", "refused", "failed", "timed_out")

    # Nobody else's, nothing protected, and only what was there and was meant.
    first_look = min((r.at for r in ledger.requests if r.operation == "details"), default=0.0)
    gone = {*ledger.cancels(), *(e.instance_id for e in ledger.of("saving"))}
    for instance_id in gone:
        instance = inner.instances[instance_id]
        assert instance.user_id == USER
        assert instance.consumer is world.sandbox.consumer
        assert not instance.profile.is_exam
        assert before.get(instance_id) not in ("Scoring", "Tearing Down", "Saved")
        assert instance.started_at <= first_look, "it came later, so it is somebody's new lab"
        assert target in (None, instance_id)
        assert target is not None or instance.profile.profile_id == lab

    # What the outcome says is so.
    told = {*outcome.cancelled_instance_ids, *outcome.saved_instance_ids}
    assert gone <= told | {outcome.left.cancel_in_doubt}
    assert outcome.waited_seconds <= 600 + 3 * 2 + 1
    lies = any(f.name in _LIES for f in world.options["faults"])
    if outcome.outcome == "freed" and not lies and _details_can_be_believed(world, policy):
        meant = [i for i in mine if i.holds_slot and _was_meant(i, lab, target)]
        # One whose end had begun before is not listed by every platform.
        assert not [i for i in meant if target or before[i.instance_id] != "Tearing Down"]


@pytest.mark.parametrize("when", ["before its call", "after its call"])
@pytest.mark.parametrize("faults", [(), ("cancel:lose_after",)], ids=["calm", "lost"])
@pytest.mark.parametrize("gone", ["off", "error"])
def test_whichever_step_it_dies_at_another_goes_on(when: str, faults: Any, gone: Any) -> None:
    step, survived = 0, False
    while not survived:
        world = World(Readings(details_when_gone=gone), options={"teardown": "fixed:45"})
        for fault in faults:
            world.sandbox.faults.add(fault)
        old = world.give(NEW_LAB).instance_id
        with SkillableClient(KEY, **world.settings) as client:
            policy = Policy(launch=False)
            relauncher = Relauncher(SkillablePlatform(client), clock=world.clock, policy=policy)
            relaunch = relauncher.start(USER, NEW_LAB)
            events = relaunch.events()
            for _ in range(step):
                next(events, None)
            stored = relaunch.run.to_json()
            survived = relaunch.outcome is not None
            if not survived:
                if when == "after its call":
                    next(events)
                relaunch = relauncher.resume(Run.from_json(stored))
            for _ in relaunch.events():
                pass
        outcome = relaunch.outcome
        assert outcome is not None
        assert (outcome.outcome, outcome.cancelled_instance_ids) == ("freed", (old,)), step
        assert world.sandbox.ledger.cancels() == [old]
        assert world.sandbox.ledger.count("launch") == 0
        step += 1
    assert step > 8


def _details_can_be_believed(world: World, policy: dict[str, Any]) -> bool:
    """Where they run ahead, or only the list is asked, only a launch would show the truth."""
    by_details = policy.get("detect", "details") != "listing"
    return by_details and world.readings.details_lag >= 0


def _was_meant(instance: Instance, lab: int, target: int | None) -> bool:
    if target is not None:
        return instance.instance_id == target and not instance.profile.is_exam
    return instance.profile.profile_id == lab
