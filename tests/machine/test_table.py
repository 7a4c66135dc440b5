"""The table itself: complete, legal, pure, and drawn in the README as it is."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from orchestrator.errors import IllegalTransition
from orchestrator.labs import InstanceDetails, Labs, LaunchParameters, RunningInstance
from orchestrator.machine import vocabulary as v
from orchestrator.machine.decisions import ending
from orchestrator.machine.diagram import mermaid
from orchestrator.machine.run import Policy, Run
from orchestrator.machine.table import AFTER_DEADLINE, TABLE, command_of, step, take_over
from orchestrator.machine.vocabulary import TERMINAL, Event, State

NOW = 1_700_000_000.0
EVENTS: list[type[Event]] = [
    kind
    for kind in vars(v).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]


def a_run(state: State = State.NEW, **fields: typing.Any) -> Run:
    """A run in ``state`` with everything a command may need."""
    values: dict[str, typing.Any] = {
        "relaunch_id": "r1",
        "user_id": "ann",
        "lab_profile_id": 7,
        "created_at": NOW,
        "deadline_at": NOW + 900,
        "state": state,
        "target": 11,
        "new_instance_id": 12,
        "resume_state": State.LAUNCHING if state is State.BACKING_OFF else None,
        "running": (RunningInstance(instance_id=11, lab_profile_id=7),),
        "known": (11,),
    }
    return Run(**(values | fields))


def an_event(kind: type[Event], at: float = NOW + 1) -> Event:
    """An event of ``kind`` with plausible contents."""
    contents: dict[str, typing.Any] = {
        "labs": Labs(running=(RunningInstance(instance_id=11, lab_profile_id=7),)),
        "details": (InstanceDetails(instance_id=11),),
        "num_active": 1,
        "instance_id": 13,
        "url": "https://labs.example/13",
        "expires_at": None,
        "estimated_ready_seconds": None,
        "result": 5,
        "error": None,
        "code": "answer_lost",
        "retry_after": None,
        "in_flight": False,
    }
    wanted = {f.name for f in dataclasses.fields(kind)} - {"at"}
    return kind(at=at, **{name: contents[name] for name in wanted})


def test_every_state_has_rows_and_terminal_ones_are_empty() -> None:
    assert set(TABLE) == set(State)
    assert {state for state, rows in TABLE.items() if not rows} == TERMINAL


def test_every_event_happens_somewhere() -> None:
    assert {event for rows in TABLE.values() for event in rows} == set(EVENTS)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("kind", EVENTS, ids=lambda e: e.__name__)
def test_every_pair_is_legal_and_declared_or_raises_and_changes_nothing(
    state: State, kind: type[Event]
) -> None:
    run = a_run(state)
    before = run.to_json()
    row = TABLE[state].get(kind)
    if row is None:
        with pytest.raises(IllegalTransition, match=kind.__name__):
            step(run, an_event(kind))
    else:
        after, command = step(run, an_event(kind))
        assert after.state in row.to
        assert (command is None) == after.state.is_terminal
    assert run.to_json() == before


@pytest.mark.parametrize("state", [s for s in State if s not in TERMINAL])
@pytest.mark.parametrize("kind", EVENTS, ids=lambda e: e.__name__)
def test_after_the_deadline_only_settling_goes_on(state: State, kind: type[Event]) -> None:
    row = TABLE[state].get(kind)
    if row is None:
        return
    after, command = step(a_run(state), an_event(kind, at=NOW + 900))
    assert after.state in {*row.to, *AFTER_DEADLINE}
    assert not isinstance(command, v.Wait | v.Launch | v.Displace | v.Resume)


def test_every_declared_target_is_reached_by_some_decision() -> None:
    """No arrow of the diagram is fiction: each state but the first is somebody's target."""
    targets = {t for rows in TABLE.values() for row in rows.values() for t in row.to}
    assert targets | {State.NEW, State.TIMED_OUT} == set(State)


def test_a_decision_that_leaves_the_table_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(TABLE[State.NEW][v.Started], to=(State.PROBING,))
    monkeypatch.setitem(typing.cast(dict[State, object], TABLE), State.NEW, {v.Started: row})
    with pytest.raises(IllegalTransition, match="led to surveying"):
        step(a_run(), v.Started(at=NOW))


@pytest.mark.parametrize("state", [s for s in State if s not in TERMINAL])
def test_a_stored_run_can_be_taken_over_in_any_state(state: State) -> None:
    stored = Run.from_json(a_run(state).to_json())
    after, command = take_over(stored, NOW + 5)
    assert command is not None
    in_flight = {State.PROBING, State.LAUNCHING, State.DISPLACING}
    if state in in_flight:
        assert not isinstance(command, v.Launch | v.Displace), "look first, whatever was in flight"
    assert after.state not in TERMINAL


@pytest.mark.parametrize("state", list(TERMINAL))
def test_an_ended_run_stays_ended(state: State) -> None:
    assert take_over(a_run(state), NOW)[1] is None


@pytest.mark.parametrize("state", list(State))
def test_a_run_survives_its_stored_form(state: State) -> None:
    run = a_run(
        state,
        policy=Policy(overlap=True, deadline_seconds=60),
        parameters=LaunchParameters(variables={"a": "ä"}, role_ids=(1, 2)),
        note="x\u2028y",
    )
    assert Run.from_json(run.to_json()) == run
    assert command_of(Run.from_json(run.to_json())) == command_of(run)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ('"schema":1', "schema"),
        ('"user_id":"ann"', "Run.user_id"),
        ('"state":"new"', "Run.state"),
        ('"known":[11]', r"Run.known\[0\]"),
    ],
)
def test_a_damaged_stored_form_is_refused_by_name(change: str, problem: str) -> None:
    name = change.partition(":")[0]
    damaged = a_run().to_json().replace(change, name + (":[[]]" if "known" in name else ":{}"))
    with pytest.raises(ValueError, match=problem):
        Run.from_json(damaged)


def test_an_instance_known_before_is_never_accepted_as_new() -> None:
    accepted = v.LaunchAccepted(
        at=NOW, instance_id=11, url="u", expires_at=None, estimated_ready_seconds=None
    )
    with pytest.raises(ValueError, match="never the new lab"):
        step(a_run(State.LAUNCHING), accepted)


def test_a_lab_that_is_there_is_never_reported_as_a_failure() -> None:
    for state in (State.FAILED, State.REFUSED, State.TIMED_OUT):
        ended = ending.end(a_run(releasing=True), state, "whatever")
        assert (ended.state, ended.reason) == (State.LAUNCHED, "old_instance_left")


def test_the_readme_shows_this_table() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```mermaid\n(.*?)\n```", readme, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == mermaid()
