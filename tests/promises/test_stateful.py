"""The promises, step by step: between any two steps of a relaunch the world may do anything.

Another actor launches or cancels, faults come up, time passes, hints arrive (true, false and
unknown), the caller aborts, the process dies and another one takes the stored run up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator import Policy, Progress, Relaunch, Relauncher, Run
from orchestrator.sandbox import Readings
from orchestrator.skillable import SkillableClient, SkillablePlatform
from tests.world import EXAM, KEY, NEW_LAB, OLD_LAB, USER, World

FAULTS = st.sampled_from(
    [
        "launch:lose_after", "launch:lose_before", "launch:late_effect=4", "launch:http_502",
        "launch:hang", "launch:rate_limit=3", "cancel:lose_after", "cancel:lose_before",
        "cancel:http_500", "details:http_503=2*2", "details:truncated", "details:status_0",
        "userrunningandsavedlabs:html", "userrunningandsavedlabs:lose_before", "*:http_504",
    ]
)  # fmt: skip


class Relaunching(RuleBasedStateMachine):
    """One relaunch in one world."""

    @initialize(
        listing=st.sampled_from(["at_cancel", "at_gone"]),
        same=st.sampled_from(["limit", "wrong_state", "hand_back"]),
        lag=st.sampled_from([0.0, 3.0, -3.0]),
        teardown=st.sampled_from(["fixed:1", "fixed:25", "lognormal:40,1"]),
        limit=st.sampled_from([1, 1, 2]),
        lab=st.sampled_from([OLD_LAB, NEW_LAB, EXAM, None]),
        if_running=st.sampled_from(["replace", "replace", "reuse"]),
        overlap=st.booleans(),
        launch=st.sampled_from([True, True, False]),
    )
    def begin(
        self,
        listing: Any,
        same: Any,
        lag: float,
        teardown: str,
        limit: int,
        lab: int | None,
        if_running: Any,
        overlap: bool,
        launch: bool,
    ) -> None:
        readings = Readings(listing_drops=listing, same_profile_tearing_down=same, details_lag=lag)
        options = {"teardown": teardown, "max_active_per_user": limit}
        self.world = World(readings, options=options)
        self.given = [self.world.give(lab)] if lab else []
        self.client = SkillableClient(KEY, **self.world.settings)
        self.relauncher = Relauncher(
            SkillablePlatform(self.client),
            clock=self.world.clock,
            policy=Policy(
                deadline_seconds=300, if_running=if_running, overlap=overlap, launch=launch
            ),
        )
        self.launches = launch
        self.others: list[int] = []
        # What is to be freed must be running, else there is nothing to do.
        self.take(self.relauncher.start(USER, NEW_LAB if launch else lab or NEW_LAB))

    def take(self, relaunch: Relaunch) -> None:
        self.relaunch = relaunch
        self.events: Iterator[Progress] = relaunch.events()

    def running(self) -> bool:
        return hasattr(self, "relaunch") and self.relaunch.outcome is None

    @precondition(running)
    @rule()
    def go_on(self) -> None:
        next(self.events)

    @precondition(running)
    @rule(fault=FAULTS)
    def break_something(self, fault: str) -> None:
        if len(self.world.sandbox.faults.faults) < 2:
            self.world.sandbox.faults.add(fault)

    @precondition(running)
    @rule(seconds=st.sampled_from([0.5, 5.0, 60.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @precondition(running)
    @rule(lab=st.sampled_from([OLD_LAB, NEW_LAB]))
    def somebody_launches(self, lab: int) -> None:
        inner = self.world.sandbox.world
        inner.settle()
        holding = [i for i in inner.of_user(USER) if i.holds_slot]
        if len(self.others) < 1 and len(holding) < self.world.sandbox.consumer.max_active_per_user:
            created = inner.create(
                USER, inner.profiles[lab], self.world.sandbox.consumer, inner.now(), "theirs"
            )
            self.others.append(created.instance_id)

    @precondition(running)
    @rule()
    def somebody_cancels_the_old_lab(self) -> None:
        self.world.sandbox.world.settle()
        for instance in self.given:
            if instance.state == "Running":
                self.world.sandbox.world.tear_down(instance, "ended")

    @precondition(running)
    @rule(instance_id=st.sampled_from([40_000_001, 40_000_002, 7]))
    def hint(self, instance_id: int) -> None:
        self.relauncher.hint(instance_id)

    @precondition(running)
    @rule()
    def die_and_be_taken_up(self) -> None:
        """What is stored is the run after its last step; the call it announced may have run."""
        stored = self.relaunch.run.to_json()
        self.take(self.relauncher.resume(Run.from_json(stored)))

    @precondition(running)
    @rule()
    def die_in_the_middle_of_a_call(self) -> None:
        """The call takes effect, and the process dies before it can say so."""
        stored = self.relaunch.run.to_json()
        next(self.events)
        self.take(self.relauncher.resume(Run.from_json(stored)))

    @precondition(running)
    @rule(sure=st.integers(0, 7))
    def abort(self, sure: int) -> None:
        if sure == 0:
            self.relaunch.abort()

    @precondition(lambda self: not self.running())
    @rule()
    def nothing_more_happens(self) -> None:
        assert next(self.events, None) is None

    def ours(self) -> list[int]:
        return self.world.sandbox.ledger.launches(tag_part=f"relaunch={self.relaunch.relaunch_id}")

    @invariant()
    def never_two_labs(self) -> None:
        if hasattr(self, "relaunch"):
            assert len(self.ours()) <= 1

    @invariant()
    def never_a_launch_where_none_is_wanted(self) -> None:
        if hasattr(self, "relaunch") and not self.launches:
            asked = {request.operation for request in self.world.sandbox.ledger.requests}
            assert not asked & {"launch", "resume", "labaccessurl"}
            theirs = set(self.others) & set(self.world.sandbox.ledger.cancels())
            assert theirs <= set(self.relaunch.run.known), "what came after the first look stays"

    @invariant()
    def never_a_protected_lab(self) -> None:
        if hasattr(self, "relaunch"):
            for instance_id in self.world.sandbox.ledger.cancels():
                instance = self.world.sandbox.world.instances[instance_id]
                assert not instance.profile.is_exam
                assert instance.user_id == USER

    def teardown(self) -> None:
        if not hasattr(self, "relaunch"):
            return
        for _ in self.events:
            pass
        outcome = self.relaunch.outcome
        assert outcome is not None
        assert len(self.ours()) <= 1
        if outcome.outcome == "launched" and outcome.reason is None:
            assert outcome.lab_instance_id in self.ours()
        elif outcome.lab_instance_id not in self.ours() and self.ours():
            new = self.world.sandbox.world.instances[self.ours()[0]]
            told = outcome.left.launch_in_doubt_tag is not None
            assert told or new.state in ("Tearing Down", "Off"), outcome
        self.client.close()


TestRelaunching = Relaunching.TestCase
TestRelaunching.settings = settings(stateful_step_count=25, deadline=None)
