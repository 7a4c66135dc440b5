"""What is selected: all criteria hold, what isn't known doesn't count; and with few questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import AnswerLost, CallRefused, InvalidRequest, KeyRejected, Phase, RateLimited
from orchestrator.batch.selection import REASONS, Criteria, Selection, describe, select
from orchestrator.errors import HeldBack
from orchestrator.labs import InstanceDetails, RosterEntry, RosterPage
from orchestrator.requests import Priority
from orchestrator.sandbox import Consumer, Readings, Sandbox, SandboxTransport
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Gate, Limits, PolitePlatform, priority

LAB, OTHER_LAB, EXAM = 1001, 1002, 1003
NOW = 1_700_000_000.0


class Roster:
    """A platform that knows these labs, and notes each question; ``page_size`` labs to a page."""

    def __init__(self, *entries: RosterEntry, page_size: int = 100) -> None:
        self.entries = entries
        self.page_size = page_size
        self.details = {e.instance_id: about(e) for e in entries}
        self.asked: list[tuple[str, Any]] = []
        self.priorities: set[int] = set()
        self.searches: Callable[[int, RosterPage], RosterPage] = lambda number, page: page

    async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
        self._note("roster", None)
        return self.entries

    async def search(self, *, page: int = 0, timeout: float, **filters: Any) -> RosterPage:
        self._note("search", filters | {"page": page})
        class_id = filters["class_id"]
        found = [d for d in self.details.values() if class_id in (None, d.class_id)]
        first = page * self.page_size
        return self.searches(
            page,
            RosterPage(
                instances=tuple(found[first : first + self.page_size]),
                total_pages=-(-len(found) // self.page_size),
            ),
        )

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        self._note("inspect", instance_id)
        return self.details[instance_id]

    def questions(self, name: str) -> list[Any]:
        return [subject for asked, subject in self.asked if asked == name]

    def tell(self, instance_id: int, **fields: Any) -> None:
        self.details[instance_id] = replace(self.details[instance_id], **fields)

    def _note(self, name: str, subject: Any) -> None:
        self.asked.append((name, subject))
        self.priorities.add(priority.get())


def about(entry: RosterEntry) -> InstanceDetails:
    return InstanceDetails(
        instance_id=entry.instance_id,
        phase=Phase.ALIVE,
        user_id=entry.user_id,
        class_id="c1",
        last_activity_at=NOW - 100,
    )


def lab(number: int, **fields: Any) -> RosterEntry:
    """A running lab; ``number`` is its id and part of its user's."""
    usual: dict[str, Any] = {
        "user_id": f"u{number}",
        "lab_profile_id": LAB,
        "started_at": NOW - 600,
    }
    return RosterEntry(instance_id=number, **(usual | fields))


def selected(roster: Any, **criteria: Any) -> Selection:
    async def ask() -> Selection:
        clock = VirtualClock(NOW)
        return await select(roster, Criteria(**criteria), at=NOW, clock=clock)

    return run_virtual(ask())


def ids(selection: Selection) -> list[int]:
    return [candidate.entry.instance_id for candidate in selection.candidates]


def skipped(selection: Selection) -> dict[int | None, str]:
    return {skip.instance_id: skip.reason for skip in selection.skipped}


# --- by the list alone ----------------------------------------------------------------------------


def test_all_is_every_running_lab_and_one_question() -> None:
    roster = Roster(
        lab(1),
        lab(2, saved=True),
        lab(3, user_id=None),
        lab(4, lab_profile_id=None),
        lab(5, is_exam=True),
        lab(6, started_at=None),
    )
    selection = selected(roster, everything=True)
    assert ids(selection) == [1, 5, 6]
    assert skipped(selection) == {2: "saved", 3: "no_user_told", 4: "no_lab_profile_told"}
    assert set(skipped(selection).values()) <= REASONS.keys()
    assert roster.asked == [("roster", None)]
    assert selection.api_calls == 1
    assert roster.priorities == {Priority.BULK}, "in nobody's way"


def test_criteria_are_anded_and_of_several_labs_or_patterns_one_must_hold() -> None:
    roster = Roster(
        lab(1, user_id="a1"),
        lab(2, user_id="b1", lab_profile_id=OTHER_LAB),
        lab(3, user_id="a2", lab_profile_id=EXAM),
        lab(4, user_id="c1"),
        lab(5, user_id="A3"),
        lab(6, user_id="a4", started_at=NOW - 10),
        lab(7, user_id="a5", started_at=None),
        lab(9, user_id="a6", started_at=0.0),
        lab(10, user_id="a7", started_at=-62_135_596_800.0),
        lab(8, user_id="c2", saved=True),
    )
    wanted = {"lab_profile_ids": (LAB, OTHER_LAB), "user_globs": ("a?", "b*")}
    assert ids(selected(roster, **wanted)) == [1, 2, 6, 7, 9, 10]
    selection = selected(roster, **wanted, older_than_seconds=600.0)
    assert ids(selection) == [1, 2]
    told = dict.fromkeys((7, 9, 10), "start_not_told")
    assert skipped(selection) == told, "what doesn't match is not even named"
    assert ids(selected(roster, everything=True, user_globs=("[!a]?",))) == [2, 4, 5]


@pytest.mark.parametrize(
    "criteria",
    [
        {},
        {"lab_profile_ids": (), "user_globs": ()},
        {"class_id": " "},
        {"user_globs": ("a*", "")},
        {"older_than_seconds": -1.0},
        {"idle_for_seconds": float("nan")},
        {"idle_for_seconds": float("inf")},
        {"everything": True, "class_id": ""},
    ],
)
def test_criteria_that_say_nothing_are_refused(criteria: Any) -> None:
    with pytest.raises(InvalidRequest):
        Criteria(**criteria)


def test_criteria_in_plain_words_are_the_same_for_the_same_ones() -> None:
    assert describe(Criteria(everything=True)) == "every running lab"
    full = Criteria(
        lab_profile_ids=(40, 1, 40),
        class_id="c 1",
        user_globs=("b*", "a*"),
        older_than_seconds=7200.0,
        idle_for_seconds=90.5,
    )
    assert describe(full) == (
        "running labs of lab profile 1 or 40, of class 'c 1', of users like 'a*' or 'b*', "
        "begun 2 h ago or earlier, unused for 90.5 s or longer"
    )
    assert describe(replace(full, lab_profile_ids=(1, 40), user_globs=("a*", "b*"))) == describe(
        full
    )
    assert describe(replace(full, older_than_seconds=7201.0)) != describe(full)


# --- of a class -----------------------------------------------------------------------------------


def test_a_class_is_searched_page_by_page_and_intersected_with_the_list() -> None:
    roster = Roster(*(lab(n) for n in range(1, 8)), page_size=2)
    roster.entries = roster.entries[:6]
    for other in (2, 5):
        roster.tell(other, class_id="c2")
    roster.tell(3, phase=Phase.ENDING)
    roster.tell(4, phase=Phase.SCORING)
    selection = selected(roster, class_id="c1")
    assert ids(selection) == [1, 4, 6]
    assert skipped(selection) == {3: "ending_already"}
    assert selection.candidates[1].details == roster.details[4]
    pages = roster.questions("search")
    assert [page["page"] for page in pages] == [0, 1, 2]
    assert pages[0]["since"] == NOW - 660, "what ended before is of no interest"
    assert pages[0]["lab_profile_id"] == LAB, "there is no other"


def test_a_search_ends_when_all_are_found() -> None:
    roster = Roster(*(lab(n) for n in range(1, 8)), page_size=2)
    roster.entries = roster.entries[:2]
    assert ids(selected(roster, class_id="c1")) == [1, 2]
    assert len(roster.questions("search")) == 1


def test_a_search_that_filters_nothing_selects_nobody_else() -> None:
    """A parameter that a platform doesn't know is ignored, and everybody's labs come back."""
    roster = Roster(*(lab(n) for n in range(1, 5)))
    everything = RosterPage(instances=tuple(roster.details.values()), total_pages=1)
    roster.tell(1, class_id="c2")
    roster.tell(2, class_id="")
    everything = RosterPage(instances=tuple(roster.details.values()), total_pages=1)
    roster.searches = lambda number, page: everything
    assert ids(selected(roster, class_id="c1")) == [3, 4]
    assert roster.questions("inspect") == []


def test_a_class_that_the_search_does_not_tell_is_asked_for() -> None:
    roster = Roster(lab(1), lab(2), lab(3), lab(4))
    silent = tuple(replace(d, class_id=None) for d in roster.details.values())
    roster.searches = lambda number, page: RosterPage(instances=silent, total_pages=1)
    roster.tell(2, class_id="c2")
    roster.tell(3, class_id=None)
    roster.tell(4, readable=False)
    selection = selected(roster, class_id="c1")
    assert ids(selection) == [1]
    assert skipped(selection) == {3: "class_not_told", 4: "class_not_told"}
    assert roster.questions("inspect") == [1, 2, 3, 4]


@pytest.mark.parametrize("total_pages", [None, 0, 99])
def test_pages_that_lead_nowhere_are_left_for_single_questions(total_pages: int | None) -> None:
    roster = Roster(*(lab(n) for n in range(1, 6)), page_size=2)
    same = RosterPage(instances=(roster.details[1],), total_pages=total_pages)
    roster.searches = lambda number, page: same
    assert ids(selected(roster, class_id="c1")) == [1, 2, 3, 4, 5]
    assert len(roster.questions("search")) == 2
    assert roster.questions("inspect") == [2, 3, 4, 5]


@pytest.mark.parametrize("total_pages", [None, 0])
def test_pages_go_on_until_one_is_empty_if_nobody_says_how_many(total_pages: int | None) -> None:
    roster = Roster(*(lab(n) for n in range(1, 6)), page_size=2)
    roster.tell(5, class_id="c2")
    roster.searches = lambda number, page: replace(page, total_pages=total_pages)
    assert ids(selected(roster, class_id="c1")) == [1, 2, 3, 4]
    assert [page["page"] for page in roster.questions("search")] == [0, 1, 2]
    assert roster.questions("inspect") == []


def test_where_no_search_is_to_be_had_each_lab_is_asked_about() -> None:
    roster = Roster(lab(1), lab(2))
    roster.tell(2, class_id="")

    def refuse(number: int, page: RosterPage) -> RosterPage:
        raise CallRefused("no such command", operation="search", error="no such command")

    roster.searches = refuse
    assert ids(selected(roster, class_id="c1")) == [1]
    assert roster.questions("inspect") == [1, 2]


# --- unused for a while ---------------------------------------------------------------------------


def test_idle_labs_are_those_told_to_be_unused() -> None:
    roster = Roster(*(lab(n) for n in range(1, 7)))
    roster.tell(1, last_activity_at=NOW - 1800)
    roster.tell(2, last_activity_at=None)
    roster.tell(3, last_activity_at=0.0)
    roster.tell(4, last_activity_at=NOW - 1799)
    roster.tell(5, last_activity_at=NOW + 60)
    roster.tell(6, last_activity_at=-62_135_596_800.0)
    selection = selected(roster, everything=True, idle_for_seconds=1800.0)
    assert ids(selection) == [1]
    assert skipped(selection) == dict.fromkeys((2, 3, 6), "activity_not_told")
    assert roster.questions("inspect") == [2, 3, 6], "perhaps details tell more"


def test_a_search_that_never_tells_the_last_activity_is_followed_by_single_questions() -> None:
    roster = Roster(*(lab(n) for n in range(1, 8)))
    silent = tuple(replace(d, last_activity_at=None) for d in roster.details.values())
    roster.searches = lambda number, page: RosterPage(instances=silent, total_pages=1)
    roster.tell(1, last_activity_at=None)
    roster.tell(7, last_activity_at=NOW)
    selection = selected(roster, class_id="c1", idle_for_seconds=60.0)
    assert ids(selection) == [2, 3, 4, 5, 6]
    assert skipped(selection) == {1: "activity_not_told"}
    assert sorted(roster.questions("inspect")) == [1, 2, 3, 4, 5, 6, 7], "each once"


def test_where_nobody_was_ever_active_a_few_questions_show_it() -> None:
    roster = Roster(*(lab(n) for n in range(1, 8)))
    for n in range(1, 8):
        roster.tell(n, last_activity_at=None)
    assert ids(selected(roster, everything=True, idle_for_seconds=60.0)) == []
    assert roster.questions("inspect") == [1, 2, 3]


def test_the_search_for_the_class_tells_the_last_activity_too() -> None:
    roster = Roster(lab(1), lab(2))
    roster.tell(2, last_activity_at=NOW - 5000)
    assert ids(selected(roster, class_id="c1", idle_for_seconds=3000.0)) == [2]
    assert len(roster.asked) == 2


@pytest.mark.parametrize(
    ("labs", "of_history", "searches", "inspects"),
    [(1, 0, 0, 1), (2, 0, 1, 0), (3, 50, 1, 3), (30, 50, 6, 0)],
)
def test_whichever_takes_fewer_calls_is_asked(
    labs: int, of_history: int, searches: int, inspects: int
) -> None:
    """A search counts all labs since the oldest began, those long gone included."""
    history = [lab(1000 + n) for n in range(of_history)]
    running = [lab(n) for n in range(1, labs + 1)]
    roster = Roster(*history, *running, page_size=10 if labs < 30 else 15)
    roster.entries = tuple(running)
    assert ids(selected(roster, everything=True, idle_for_seconds=50.0)) == list(range(1, labs + 1))
    assert len(roster.questions("search")) == searches
    assert len(roster.questions("inspect")) == inspects


# --- failures -------------------------------------------------------------------------------------


class Unwell(Roster):
    """The first questions of each kind fail, each with the next of these."""

    def __init__(self, *entries: RosterEntry, failures: list[Exception], **options: Any) -> None:
        super().__init__(*entries, **options)
        self.failures = failures

    def _note(self, name: str, subject: Any) -> None:
        super()._note(name, subject)
        if self.failures:
            raise self.failures.pop(0)


def test_questions_that_are_put_off_or_lost_are_asked_again() -> None:
    held = HeldBack("later", operation="x", retry_after=7.0)
    limited = RateLimited("slow down", operation="x", retry_after=30.0)
    roster = Unwell(lab(1), failures=[held, held, limited, AnswerLost("reset", operation="x")])
    selection = selected(roster, class_id="c1")
    assert ids(selection) == [1]
    assert len(roster.asked) == 6
    assert selection.api_calls == 4, "what was not sent is no call"


@pytest.mark.parametrize(
    ("failure", "times"),
    [
        (KeyRejected("no", operation="x"), 1),
        (CallRefused("no", operation="x"), 1),
        (AnswerLost("reset", operation="x"), 4),
        (HeldBack("later", operation="x", retry_after=70.0), 4),
    ],
)
def test_what_does_not_get_better_is_raised(failure: Exception, times: int) -> None:
    roster = Unwell(lab(1), failures=[failure] * 100)
    with pytest.raises(type(failure)):
        selected(roster, everything=True)
    assert len(roster.asked) == times


def test_a_failure_amid_single_questions_is_raised_as_it_is() -> None:
    roster = Roster(*(lab(n) for n in range(1, 20)))

    class Rejecting(Roster):
        async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
            await super().inspect(instance_id, timeout=timeout)
            raise KeyRejected("no", operation="details")

    rejecting = Rejecting(*roster.entries)
    rejecting.searches = lambda number, page: RosterPage(instances=page.instances[:1])
    with pytest.raises(KeyRejected):
        selected(rejecting, everything=True, idle_for_seconds=1.0)


# --- the platform itself --------------------------------------------------------------------------


@pytest.mark.parametrize("readings", [Readings(), Readings(empty_lists="null")])
def test_a_class_on_the_sandbox(readings: Readings) -> None:
    async def test() -> None:
        clock = VirtualClock()
        sandbox = Sandbox(now=clock.now, readings=readings, max_calls_per_second=5)
        other = sandbox.world.add_consumer(Consumer(api_key="other"))
        give = sandbox.world.give
        idle = [
            give(f"u{n}", LAB, class_id="c1", last_activity_ago=4000.0).instance_id
            for n in range(150)
        ]
        give("busy", LAB, class_id="c1", last_activity_ago=10.0)
        give("never", LAB, class_id="c1")
        give("saved", LAB, class_id="c1", state="Saved", last_activity_ago=4000.0)
        give("ending", LAB, class_id="c1", state="Tearing Down", last_activity_ago=4000.0)
        give("eve", LAB, class_id="c1", consumer=other, last_activity_ago=4000.0)
        give("elsewhere", LAB, class_id="c2", last_activity_ago=4000.0)
        give("nowhere", LAB, last_activity_ago=4000.0)
        transport = SandboxTransport(sandbox)
        async with AsyncSkillableClient(
            "sandbox-key", transport=transport, now=clock.now
        ) as client:
            gate = Gate(limits=Limits(calls_per_second=5.0), clock=clock)
            platform = PolitePlatform(AsyncSkillablePlatform(client), gate)
            criteria = Criteria(class_id="c1", idle_for_seconds=3600.0)
            selection = await select(platform, criteria, at=clock.now(), clock=clock)
        assert ids(selection) == idle
        told = {skip.user_id: skip.reason for skip in selection.skipped}
        assert told == {
            "saved": "saved",
            "never": "activity_not_told",
            "ending": "ending_already",
        }
        asked = {request.operation for request in sandbox.ledger.requests}
        assert asked == {"runningandsavedlabs", "labinstance/search", "details"}
        assert selection.api_calls == len(sandbox.ledger.requests) == 4
        assert {e.what for e in sandbox.ledger.effects} == {"given"}

    run_virtual(test())


def test_a_selection_that_is_left_leaves_nothing_behind() -> None:
    class Slow(Roster):
        async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
            await asyncio.sleep(3600)
            raise AssertionError("never")

    async def test() -> int:
        roster = Slow(*(lab(n) for n in range(1, 5)))
        roster.searches = lambda number, page: RosterPage(instances=())
        criteria = Criteria(everything=True, idle_for_seconds=1.0)
        selecting = select(roster, criteria, at=NOW, clock=VirtualClock(NOW))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(selecting, 5)
        return len(asyncio.all_tasks())

    assert run_virtual(test()) == 1
