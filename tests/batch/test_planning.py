"""Plans: what is foreseen happens, nothing is changed to find it out, and the estimate holds."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from orchestrator import AsyncRelauncher, CallRefused, LaunchParameters, Phase, Policy, Schedules
from orchestrator.batch.carrying_out import BatchRun
from orchestrator.batch.estimate import Effort, estimate
from orchestrator.batch.listing import ListedRow
from orchestrator.batch.outcomes import ItemOutcome
from orchestrator.batch.planning import BARE, BARE_BUT_CLASS, LATER, UNLISTED, Plan, plan
from orchestrator.batch.requests import Row, batch_of
from orchestrator.batch.resetting import begin
from orchestrator.batch.selection import Criteria, select
from orchestrator.durable.batches import Pace
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.labs import RosterEntry
from orchestrator.sandbox import Sandbox, SandboxTransport
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Gate, Limits, PolitePlatform
from orchestrator.waiting import Knowledge, Subject, Waited
from tests.batch.classroom import KEY, Distant
from tests.batch.test_selection import EXAM, LAB, NOW, OTHER_LAB, Roster, lab


def listed(user: str, wanted: int | None = LAB, line: int = 2, **fields: Any) -> ListedRow:
    return ListedRow(line=line, user_id=user, lab_profile_id=wanted, **fields)


def planned(roster: Roster, *rows: ListedRow, **policy: Any) -> Plan:
    async def ask() -> Plan:
        return await plan(rows, roster, policy=Policy(**policy), clock=VirtualClock(NOW))

    return run_virtual(ask())


def planned_selection(roster: Roster, policy: Policy | None = None, **criteria: Any) -> Plan:
    async def ask() -> Plan:
        clock = VirtualClock(NOW)
        selection = await select(roster, Criteria(**criteria), at=NOW, clock=clock)
        return await plan(selection, roster, policy=policy or Policy(), clock=clock)

    return run_virtual(ask())


def foreseen(made: Plan) -> list[tuple[str, list[int], str | None]]:
    """For each row: how sure, what would end, and why not."""
    return [
        (row.certainty, [entry.instance_id for entry in row.would_end], row.protected)
        for row in made.rows
    ]


# --- lists ----------------------------------------------------------------------------------------


def test_a_list_is_planned_by_one_question() -> None:
    roster = Roster(
        lab(1, user_id="ann"),
        lab(2, user_id="bob", lab_profile_id=OTHER_LAB, started_at=NOW - 50),
        lab(3, user_id="bob", lab_profile_id=OTHER_LAB, started_at=NOW - 90),
        lab(4, user_id="cy", lab_profile_id=EXAM, is_exam=True),
        lab(5, user_id="dee", lab_profile_id=OTHER_LAB, saved=True),
        lab(6, user_id="dee", saved=True),
        lab(7, user_id="eve", lab_profile_id=EXAM, is_exam=True),
        lab(8, user_id="eve", lab_profile_id=OTHER_LAB, started_at=NOW - 1),
        lab(9, user_id="fay"),
        lab(10, user_id="fay"),
    )
    users = ["ann", "bob", "cy", "dee", "eve", "fay", "gil"]
    made = planned(roster, *(listed(user) for user in users))
    assert foreseen(made) == [
        ("surely", [1], None),
        ("if_needed", [3], None),
        ("nothing", [], "protected_exam"),
        ("nothing", [], None),
        ("if_needed", [8], None),
        ("surely", [9, 10], None),
        ("nothing", [], None),
    ]
    assert [row.note for row in made.rows] == [
        None, None, "if one more lab is allowed",
        "a saved copy may keep it from being launched", None, "all 2 instances of it", None,
    ]  # fmt: skip
    assert [row.launches for row in made.rows] == [
        "yes", "yes", "maybe", "maybe", "yes", "yes", "yes",
    ]  # fmt: skip
    assert [row.user_id for row in made.to_carry_out] == users, "a listed one has an outcome"
    assert roster.asked == [("roster", None)]
    assert (made.api_calls, made.notes, made.description) == (1, (LATER,), None)


@pytest.mark.parametrize(
    ("policy", "named", "expected", "note"),
    [
        ({"allow_exam": True}, None, ("if_needed", [4], None), None),
        ({"probe": False}, None, ("surely", [3], None), None),
        ({"choose": "ask"}, None, ("nothing", [], None), "2 labs could make room"),
        ({"choose": "named"}, None, ("nothing", [], None), "none is named"),
        ({"choose": "named"}, 2, ("if_needed", [2], None), None),
        ({}, 2, ("if_needed", [2], None), None),
        ({}, 4, ("nothing", [], "protected_exam"), "if one more lab is allowed"),
        ({"probe": False}, 4, ("nothing", [], "protected_exam"), None),
        ({"probe": False, "choose": "ask"}, None, ("nothing", [], None), "2 labs could make"),
        ({}, 99, ("nothing", [], None), "99 is not running"),
    ],
)
def test_another_lab_makes_room_as_the_policy_has_it(
    policy: Any, named: int | None, expected: Any, note: str | None
) -> None:
    roster = Roster(
        lab(2, user_id="bob", lab_profile_id=OTHER_LAB, started_at=NOW - 50),
        lab(3, user_id="bob", lab_profile_id=OTHER_LAB, started_at=NOW - 90),
        lab(4, user_id="bob", lab_profile_id=EXAM, started_at=NOW - 99, is_exam=True),
    )
    made = planned(roster, listed("bob", displace_instance_id=named), **policy)
    assert foreseen(made) == [expected]
    assert (note or "") in (made.rows[0].note or "")
    assert (note is None) == (made.rows[0].note is None)
    if made.rows[0].would_end:
        assert made.rows[0].launches == "yes"
    else:
        hopeless = policy.get("probe") is False or named == 99
        assert made.rows[0].launches == ("no" if hopeless else "maybe")


@pytest.mark.parametrize(
    ("policy", "named", "note"),
    [
        ({"if_running": "reuse"}, None, "handed over"),
        ({"if_running": "refuse"}, None, "would be refused"),
        ({"displace": "save"}, None, "a saved copy would keep it"),
        ({}, 2, "runs already beside the one named"),
    ],
)
def test_the_same_lab_runs_and_nothing_is_ended(policy: Any, named: int | None, note: str) -> None:
    roster = Roster(lab(1, user_id="ann"), lab(2, user_id="ann", lab_profile_id=OTHER_LAB))
    made = planned(roster, listed("ann", displace_instance_id=named), **policy)
    assert foreseen(made) == [("nothing", [], None)]
    assert note in (made.rows[0].note or "")
    assert made.rows[0].launches == "no"


def test_where_nothing_is_launched_every_lab_in_question_is_an_item() -> None:
    roster = Roster(
        lab(1, user_id="ann"),
        lab(2, user_id="ann", lab_profile_id=OTHER_LAB),
        lab(3, user_id="ann", lab_profile_id=EXAM, is_exam=True),
        lab(4, user_id="ann", lab_profile_id=None),
        lab(5, user_id="bob"),
        lab(6, user_id="bob"),
        lab(7, user_id="cy", saved=True),
    )
    rows = (
        listed("ann", None),
        listed("bob", LAB),
        listed("bob", None, displace_instance_id=6),
        listed("bob", None, displace_instance_id=1),
        listed("cy", None),
        listed("cy", None, displace_instance_id=7),
        listed("dee", LAB),
    )
    made = planned(roster, *rows, launch=False)
    assert [(p.row.user_id, p.row.lab_profile_id) for p in made.rows] == [
        ("ann", LAB), ("ann", OTHER_LAB), ("ann", EXAM), ("bob", LAB), ("bob", LAB), ("dee", LAB),
    ]  # fmt: skip
    assert [p.row.displace_instance_id for p in made.rows] == [1, 2, 3, None, 6, None]
    assert foreseen(made) == [
        ("surely", [1], None),
        ("surely", [2], None),
        ("nothing", [], "protected_exam"),
        ("surely", [5, 6], None),
        ("surely", [6], None),
        ("nothing", [], None),
    ]
    assert [(s.user_id, s.reason) for s in made.skipped] == [
        ("ann", "no_lab_profile_told"),
        ("bob", "not_the_users"),
        ("cy", "nothing_running"),
        ("cy", "not_running"),
    ]
    assert len(made.to_carry_out) == 6


def test_a_platform_that_lists_no_consumer_still_serves_a_list_of_labs() -> None:
    class Refusing(Roster):
        async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
            raise CallRefused("no", operation="runningandsavedlabs", error="no")

    made = planned(Refusing(), listed("ann"))
    assert foreseen(made) == [("unknown", [], None)]
    assert made.notes == (UNLISTED,)
    assert made.estimate.api_calls_low < made.estimate.api_calls_high
    with pytest.raises(CallRefused):
        planned(Refusing(), listed("ann", None), launch=False)


# --- selections -----------------------------------------------------------------------------------


def test_a_selection_names_each_lab_and_leaves_protected_ones_alone() -> None:
    roster = Roster(*(lab(n) for n in range(1, 5)), lab(5, lab_profile_id=EXAM, is_exam=True))
    made = planned_selection(roster, Policy(launch=False), everything=True)
    assert [row.displace_instance_id for row in made.to_carry_out] == [1, 2, 3, 4]
    assert [row.certainty for row in made.rows] == ["surely"] * 4 + ["nothing"]
    assert made.rows[4].protected == "protected_exam"
    assert made.description == "every running lab"
    assert made.notes == (LATER,)
    allowed = Policy(launch=False, allow_exam=True)
    assert len(planned_selection(roster, allowed, everything=True).to_carry_out) == 5


def test_what_a_search_tells_protects_too() -> None:
    roster = Roster(*(lab(n) for n in range(1, 5)))
    roster.tell(2, phase=Phase.SCORING)
    roster.tell(3, submitted_for_grading=True)
    roster.tell(4, is_exam=True)
    made = planned_selection(roster, Policy(launch=False), class_id="c1")
    assert made.notes == (), "it is known already"
    assert [p.protected for p in made.rows] == [
        None, "protected_scoring", "protected_submitted", "protected_exam",
    ]  # fmt: skip
    assert [row.displace_instance_id for row in made.to_carry_out] == [1]


def test_a_selection_to_launch_is_once_for_each_lab_and_in_the_same_class() -> None:
    roster = Roster(
        lab(1, user_id="ann", started_at=NOW - 100),
        lab(2, user_id="ann", started_at=NOW - 900),
        lab(3, user_id="ann", lab_profile_id=OTHER_LAB),
        lab(4, user_id="bob"),
    )
    made = planned_selection(roster, class_id="c1")
    assert [row.displace_instance_id for row in made.to_carry_out] == [2, 3, 4]
    assert [p.row.parameters for p in made.rows] == [LaunchParameters(class_id="c1")] * 3
    assert foreseen(made)[0] == ("surely", [2, 1], None)
    assert [(s.instance_id, s.reason) for s in made.skipped] == [(1, "with_another")]
    assert BARE_BUT_CLASS in made.notes
    plain = planned_selection(roster, older_than_seconds=500.0)
    assert BARE in plain.notes
    assert foreseen(plain)[0] == ("surely", [2, 1], None), "the young one goes with it"


# --- estimates ------------------------------------------------------------------------------------


def knowing(**of_lab: list[float]) -> Knowledge:
    knowledge = Knowledge()
    for name, times in of_lab.items():
        subject = Subject(lab_profile_id=int(name.removeprefix("lab")))
        for seconds in times:
            knowledge.record(subject, Waited(low=seconds - 2, high=seconds, looks=3))
    return knowledge


def bounds(count: int, knowledge: Knowledge, pace: Pace | None = None, **options: Any) -> Any:
    effort = Effort(ends=(LAB,), looked_at=1)
    return estimate(
        [effort] * count,
        launch=True,
        step=options.pop("step", "cancel"),
        pace=pace or Pace(),
        deadline_seconds=options.pop("deadline_seconds", 900.0),
        knowledge=knowledge,
        **options,
    )


def test_nothing_to_do_takes_no_time() -> None:
    nothing = bounds(0, Knowledge())
    assert (nothing.seconds_high, nothing.api_calls_high) == (0.0, 0)


def test_an_estimate_says_whether_it_was_learned() -> None:
    ours = bounds(10, knowing(lab1001=[40.0] * 10))
    others = bounds(10, knowing(lab1002=[40.0] * 10))
    saved = bounds(10, knowing(lab1001=[40.0] * 10), step="save")
    nothing = bounds(10, Knowledge())
    assert (ours.learned, others.learned, saved.learned, nothing.learned) == (True, *[False] * 3)
    assert ours.seconds_high < 130
    assert others.seconds_high == pytest.approx(ours.seconds_high, rel=0.2)
    assert nothing.seconds_low < 15
    assert nothing.seconds_high > 600
    assert saved == nothing


def test_what_is_slowest_decides() -> None:
    knowledge = knowing(lab1001=[40.0] * 10)
    free = bounds(600, knowledge)
    assert 85 < free.seconds_low < 130, "three rounds of 200"
    slow = bounds(600, knowledge, Pace(per_minute=60.0))
    assert slow.seconds_low == pytest.approx(599)
    limited = bounds(600, knowledge, calls_per_second=2.0)
    assert limited.seconds_low == pytest.approx(limited.api_calls_low / 2.0, rel=0.02)
    assert limited.seconds_high >= limited.api_calls_high / 2.0
    one = bounds(600, knowledge, Pace(concurrency=1))
    assert one.seconds_low > 600 * 25
    assert free.api_calls_low == slow.api_calls_low == limited.api_calls_low


def test_no_item_takes_longer_than_its_deadline() -> None:
    knowledge = knowing(lab1001=[800.0] * 10)
    assert bounds(10, knowledge, deadline_seconds=100.0).seconds_high < 250


class Class:
    """Learners on the sandbox, with labs of two profiles, an exam and free slots among them."""

    def __init__(self, learners: int, teardown: str, **sandbox: Any) -> None:
        self.clock = VirtualClock()
        self.sandbox = Sandbox(now=self.clock.now, teardown=teardown, seed=learners, **sandbox)
        self.users = [f"u{n}" for n in range(learners)]
        for number, user in enumerate(self.users):
            profile = {0: None, 1: EXAM}.get(number % 12, LAB if number % 3 else OTHER_LAB)
            if profile is not None:
                self.sandbox.world.give(user, profile)

    async def plan_and_do(
        self, knowledge: Knowledge, policy: Policy, pace: Pace, rate: float | None
    ) -> tuple[Plan, list[ItemOutcome], float]:
        """The plan, what came of it, and how long that took."""
        store = MemoryRunStore()
        transport = Distant(self.sandbox)
        async with AsyncSkillableClient(KEY, transport=transport, now=self.clock.now) as client:
            gate = Gate(store, limits=Limits(calls_per_second=rate), clock=self.clock)
            platform = PolitePlatform(AsyncSkillablePlatform(client), gate)
            rows = [listed(user, line=n) for n, user in enumerate(self.users, 2)]
            made = await plan(
                rows,
                platform,
                policy=policy,
                pace=pace,
                knowledge=knowledge,
                calls_per_second=rate,
                clock=self.clock,
            )
            changed = {effect.what for effect in self.sandbox.ledger.effects} - {"given"}
            assert not changed, "a plan changes nothing"
            relauncher = AsyncRelauncher(
                platform, store=store, clock=self.clock, schedules=Schedules(knowledge=knowledge)
            )
            batch, items = batch_of(
                made.to_carry_out,
                policy=policy,
                consumer=store.consumer,
                at=self.clock.now(),
                pace=pace,
            )
            await store.open()
            await begin(store, batch, items)
            began = self.clock.now()
            outcomes = [o async for o in BatchRun(relauncher, batch).outcomes()]
            return made, outcomes, self.clock.now() - began


@cache
def learned(teardown: str, *, launch: bool) -> str:
    """What is known after a first class, as it is kept."""
    knowledge = Knowledge()
    carried_out(40, teardown, knowledge, Policy(launch=launch))
    return knowledge.to_json()


def carried_out(
    learners: int,
    teardown: str,
    knowledge: Knowledge,
    policy: Policy,
    pace: Pace | None = None,
    rate: float | None = None,
) -> tuple[Plan, list[ItemOutcome], float]:
    """A class in virtual time: the plan, what came of it, and how long that took."""

    async def do() -> tuple[Plan, list[ItemOutcome], float]:
        return await Class(learners, teardown).plan_and_do(knowledge, policy, pace or Pace(), rate)

    return run_virtual(do())


#: The real time and calls are within the bounds, widened by this factor.
FACTOR = 1.1


@pytest.mark.parametrize("launch", [True, False], ids=["launching", "freeing"])
@pytest.mark.parametrize("teardown", ["fixed:40", "lognormal:60,0.3"])
@pytest.mark.parametrize(
    ("learners", "pace", "rate"),
    [
        (12, Pace(), None),
        (60, Pace(concurrency=10), None),
        (36, Pace(per_minute=20.0), None),
        (60, Pace(), 2.0),
    ],
    ids=["few", "by turns", "so many a minute", "limited"],
)
def test_an_estimate_holds(
    learners: int, pace: Pace, rate: float | None, teardown: str, launch: bool
) -> None:
    knowledge = Knowledge.from_json(learned(teardown, launch=launch))
    policy = Policy(launch=launch)
    made, outcomes, seconds = carried_out(learners, teardown, knowledge, policy, pace, rate)
    told = made.estimate
    assert told.learned
    assert told.seconds_low / FACTOR <= seconds <= told.seconds_high * FACTOR
    calls = sum(outcome.result.api_calls for outcome in outcomes)
    assert told.api_calls_low / FACTOR <= calls <= told.api_calls_high * FACTOR
    assert told.api_calls_high < 4 * told.api_calls_low, "it says something"
    assert told.seconds_high < 5 * told.seconds_low


@pytest.mark.parametrize("launch", [True, False])
def test_what_is_foreseen_is_what_happens(launch: bool) -> None:
    made, outcomes, _ = carried_out(36, "fixed:20", Knowledge(), Policy(launch=launch))
    ended = {o.item.user_id: set(o.result.cancelled_instance_ids) for o in outcomes}
    assert len(ended) == 36
    for row in made.rows:
        assert ended[row.row.user_id] == {entry.instance_id for entry in row.would_end}
    refused = {o.item.user_id for o in outcomes if o.result.reason == "protected_exam"}
    assert refused == {row.row.user_id for row in made.rows if row.protected}
    assert all(row.certainty != "if_needed" or launch for row in made.rows)


def test_whatever_the_policy_the_roster_is_asked_for_and_nothing_else() -> None:

    async def test() -> None:
        clock = VirtualClock()
        sandbox = Sandbox(now=clock.now)
        sandbox.world.give("ann", LAB)
        transport = SandboxTransport(sandbox)
        async with AsyncSkillableClient(KEY, transport=transport, now=clock.now) as client:
            platform = AsyncSkillablePlatform(client)
            for policy in (
                Policy(),
                Policy(probe=False),
                Policy(launch=False),
                Policy(overlap=True),
            ):
                await plan([listed("ann")], platform, policy=policy, clock=clock)
                selection = await select(
                    platform, Criteria(everything=True), at=clock.now(), clock=clock
                )
                await plan(selection, platform, policy=policy, clock=clock)
        assert {r.operation for r in sandbox.ledger.requests} == {"runningandsavedlabs"}
        assert len(sandbox.ledger.requests) == 8

    run_virtual(test())


def test_rows_of_a_plan_make_a_batch() -> None:
    made = planned(Roster(lab(1, user_id="ann")), listed("ann", line=7))
    assert made.to_carry_out == (Row(user_id="ann", lab_profile_id=LAB),)
    assert made.rows[0].line == 7
