"""The table itself: complete, legal, pure, and drawn in the README as it is."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import IllegalTransition
from orchestrator.labs import (
    InstanceDetails,
    Labs,
    LaunchParameters,
    Phase,
    RunningInstance,
    SavedInstance,
)
from orchestrator.machine import vocabulary as v
from orchestrator.machine.decisions import ending
from orchestrator.machine.decisions.new_lab import ACCESS_ATTEMPTS
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
        "reason": "aborted",
        "ahead": 2,
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


FLAGS = st.fixed_dictionaries(
    {
        "releasing": st.booleans(),
        "reusing": st.booleans(),
        "target_gone": st.booleans(),
        "launch_in_doubt": st.booleans(),
        "displace_in_doubt": st.booleans(),
        "listing_trusted": st.booleans(),
        "new_url": st.sampled_from([None, "https://labs.example/12"]),
        "resume_instance_id": st.sampled_from([None, None, 21]),
        "resume_state": st.sampled_from([State.LAUNCHING, State.VERIFYING, State.ENTERING]),
        "cancelled": st.sampled_from([(), (11,), (14,)]),
        "takers": st.sampled_from([(), (13,), (11, 13)]),
        "saved": st.sampled_from(
            [(), (SavedInstance(instance_id=21, lab_profile_id=7, is_exam=True),)]
        ),
        "running": st.lists(
            st.builds(
                RunningInstance,
                instance_id=st.integers(11, 14),
                lab_profile_id=st.sampled_from([7, 8, None]),
                is_exam=st.booleans(),
            ),
            max_size=3,
        ).map(tuple),
        **{
            counter: st.integers(0, 5)
            for counter in (
                "failures", "settle_looks", "displace_attempts", "displacements", "launch_errors",
                "launch_losses", "access_attempts", "looks", "listing_refusals",
            )
        },
        "policy": st.builds(
            Policy,
            launch=st.just(True),
            if_running=st.sampled_from(["replace", "reuse", "refuse"]),
            choose=st.sampled_from(["oldest", "ask"]),
            displace=st.sampled_from(["cancel", "save"]),
            on_saved=st.sampled_from(["refuse", "resume", "delete"]),
            detect=st.sampled_from(["details", "listing", "launch"]),
            on_active_labs_page=st.sampled_from(["continue", "choose"]),
            overlap=st.booleans(),
            probe=st.booleans(),
            allow_exam=st.booleans(),
        ),
    }
)  # fmt: skip
DETAILS = st.builds(
    InstanceDetails,
    instance_id=st.integers(11, 14),
    readable=st.booleans(),
    foreign=st.booleans(),
    phase=st.sampled_from(list(Phase)),
    user_id=st.sampled_from([None, "ann", "bob"]),
    lab_profile_id=st.sampled_from([7, 8, None]),
    tag=st.sampled_from([None, "", "relaunch=r1", "x relaunch=r2", "theirs"]),
    is_exam=st.sampled_from([None, True, False]),
    submitted_for_grading=st.booleans(),
    started_at=st.sampled_from([None, 0.0, NOW - 9999, NOW]),
)


@settings(max_examples=1500)
@given(
    st.sampled_from([(s, e) for s, rows in TABLE.items() for e in rows]),
    FLAGS,
    st.lists(DETAILS, min_size=1, max_size=3),
    st.sampled_from([0, 2, 5, 6, 10, 40, 100, 120]),
    st.sampled_from([NOW + 1, NOW + 899, NOW + 900]),
)
def test_no_run_leaves_the_table(
    pair: tuple[State, type[Event]],
    flags: dict[str, typing.Any],
    details: list[InstanceDetails],
    result: int,
    at: float,
) -> None:
    """Whatever the run has been through, each legal pair leads where its row says."""
    state, kind = pair
    # The old lab of an overlap is sent after the new one only through these states.
    flags["releasing"] &= state in (
        State.INSPECTING, State.DISPLACING, State.CONFIRMING_DISPLACE, State.BACKING_OFF,
        State.ENTERING,
    )  # fmt: skip
    flags["reusing"] &= not flags["releasing"]
    run = a_run(state, **flags)
    event = an_event(kind, at)
    changes: dict[str, typing.Any] = {"details": tuple(details), "result": result}
    event = dataclasses.replace(
        event,
        **{k: x for k, x in changes.items() if k in {f.name for f in dataclasses.fields(kind)}},
    )
    if isinstance(event, v.LaunchAccepted):
        event = dataclasses.replace(event, instance_id=99)
    after, command = step(run, event)
    assert after.state in {*TABLE[state][kind].to, *(AFTER_DEADLINE if at >= NOW + 900 else ())}
    assert (command is None) == after.state.is_terminal
    assert Run.from_json(after.to_json()) == after


#: Where a run that launches nothing may be, and what it may then wait to go on with.
FREEING = (
    State.SURVEYING, State.INSPECTING, State.DISPLACING, State.CONFIRMING_DISPLACE,
    State.TEARING_DOWN, State.LOOKING, State.BACKING_OFF,
)  # fmt: skip
LISTS = (v.Surveyed, v.Declined)  # which is no look of such a run, but its next step
GOES_ON_WITH = [s for s in FREEING if s not in (State.TEARING_DOWN, State.BACKING_OFF)]


@settings(max_examples=1500)
@given(
    st.sampled_from(
        [(s, e) for s in FREEING for e in TABLE[s] if s != "looking" or e not in LISTS]
    ),
    FLAGS,
    st.lists(DETAILS, min_size=1, max_size=3),
    st.sampled_from(GOES_ON_WITH),
    st.sampled_from([None, 11, 14]),
    st.sampled_from([(), (11,), (11, 12, 13)]),
    st.sampled_from([NOW + 1, NOW + 899, NOW + 900]),
)
def test_a_run_that_launches_nothing_never_comes_near_a_launch(
    pair: tuple[State, type[Event]],
    flags: dict[str, typing.Any],
    details: list[InstanceDetails],
    resume_state: State,
    named: int | None,
    known: tuple[int, ...],
    at: float,
) -> None:
    state, kind = pair
    never: dict[str, typing.Any] = {
        "releasing": False, "reusing": False, "launch_in_doubt": False, "takers": (),
        "resume_instance_id": None, "new_url": None, "new_instance_id": None, "known": known,
        "resume_state": resume_state if state is State.BACKING_OFF else None,
    }  # fmt: skip
    policy = dataclasses.replace(flags["policy"], launch=False, displace_instance_id=named)
    run = a_run(state, **(flags | never | {"policy": policy}))
    event = an_event(kind, at)
    if isinstance(event, v.Inspected):
        event = dataclasses.replace(event, details=tuple(details))
    after, command = step(run, event)
    ends = {State.FREED, State.REFUSED, State.FAILED, State.TIMED_OUT, State.ABORTED}
    assert after.state in {*FREEING, *ends}
    assert not isinstance(command, v.Launch | v.Resume | v.FetchAccessUrl)
    assert after.resume_state in (None, *GOES_ON_WITH)
    if isinstance(command, v.Displace):
        assert command.instance_id in {d.instance_id for d in details} | {run.target}
    assert Run.from_json(after.to_json()) == after


@pytest.mark.parametrize("state", [State.PROBING, State.LAUNCHING])
def test_a_run_that_is_to_launch_nothing_cannot_be_led_to_a_launch(state: State) -> None:
    run = a_run(State.BACKING_OFF, resume_state=state, policy=Policy(launch=False))
    with pytest.raises(IllegalTransition, match="launch nothing"):
        step(run, v.Woke(at=NOW))


@pytest.mark.parametrize("state", FREEING)
def test_a_stored_run_that_launches_nothing_can_be_taken_over(state: State) -> None:
    resume_state = State.LOOKING if state is State.BACKING_OFF else None
    run = a_run(state, resume_state=resume_state, policy=Policy(launch=False))
    after, command = take_over(Run.from_json(run.to_json()), NOW + 5)
    assert after.state in FREEING
    assert command is not None
    if state is State.DISPLACING:
        assert isinstance(command, v.Wait), "look first, don't cancel again"
        assert after.displace_in_doubt


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


@pytest.mark.parametrize("state", [State.PROBING, State.DISPLACING])
def test_a_run_whose_processes_die_does_not_give_up_for_that(state: State) -> None:
    run, deaths = a_run(state, target_step="cancel", new_instance_id=None), 0
    labs = Labs(running=run.running)
    alive = InstanceDetails(instance_id=11, user_id="ann", lab_profile_id=8, phase=Phase.ALIVE)
    answers: dict[type[v.Command], Event] = {
        v.Wait: v.Woke(at=NOW + 2),
        v.Survey: v.Surveyed(at=NOW + 2, labs=labs),
        v.Inspect: v.Inspected(at=NOW + 2, details=(alive,)),
    }
    while deaths < 10:
        if run.effect_pending:
            deaths += 1
            run, command = take_over(run, NOW + 1)
        else:
            assert command is not None, run.reason
            run, command = step(run, answers[type(command)])
    assert run.state not in TERMINAL


def test_a_run_that_is_taken_up_after_its_deadline_was_late_not_unreachable() -> None:
    """Nobody drove it in time (its process was dead, say), and nothing was called."""
    ended, command = take_over(a_run(), NOW + 900)
    assert (ended.state, ended.reason, command) == (State.TIMED_OUT, "deadline", None)


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


def test_a_run_that_launches_nothing_is_not_one_for_a_program_that_would_launch() -> None:
    launching, freeing = (a_run(State.SURVEYING, policy=Policy(launch=x)) for x in (True, False))
    assert (launching.schema, freeing.schema) == (1, 2)
    for run in (launching, freeing):
        assert run.to_json().startswith(f'{{"schema":{run.schema},')
        assert Run.from_json(run.to_json()) == run
    with pytest.raises(ValueError, match="schema"):
        Run.from_json(freeing.to_json().replace('"schema":2', '"schema":3'))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ('"schema":1', "schema"),
        ('"user_id":"ann"', "Run.user_id"),
        ('"state":"surveying"', "Run.state"),
        ('"known":[11]', r"Run.known\[0\]"),
    ],
)
def test_a_damaged_stored_form_is_refused_by_name(change: str, problem: str) -> None:
    name = change.partition(":")[0]
    stored = a_run(State.SURVEYING).to_json()
    damaged = stored.replace(change, name + (":[[]]" if "known" in name else ":{}"))
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


@pytest.mark.parametrize(
    ("reusing", "state"), [(False, State.LAUNCHED), (True, State.FAILED)], ids=["ours", "reused"]
)
@pytest.mark.parametrize("how", ["declined", "deadline"])
def test_no_way_into_the_lab_is_told_alike_however_it_came(
    how: str, reusing: bool, state: State
) -> None:
    lab = {"reusing": reusing, "new_instance_id": 12, "new_url": None}
    if how == "declined":
        run = a_run(State.ENTERING, access_attempts=ACCESS_ATTEMPTS, **lab)
        ended, _ = step(run, v.Declined(at=NOW, error="no"))
    else:
        run = a_run(State.BACKING_OFF, resume_state=State.ENTERING, **lab)
        ended, _ = step(run, v.Hinted(at=NOW + 900, instance_id=12))
    assert (ended.state, ended.reason) == (state, "access_url_unavailable")


def test_the_readme_shows_this_table() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```mermaid\n(.*?)\n```", readme, re.DOTALL)
    assert shown is not None
    assert shown.group(1) == mermaid()
