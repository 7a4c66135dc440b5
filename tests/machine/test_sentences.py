"""Every way to end has a plain word: no code of ours is ever shown to a person in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import PlatformError
from orchestrator.labs import RunningInstance
from orchestrator.machine import results
from orchestrator.machine.decisions import ending
from orchestrator.machine.run import Policy, Run
from orchestrator.machine.vocabulary import TERMINAL, State
from orchestrator.sentences import final_sentence, progress_sentence

RUN = Run(
    relaunch_id="r1",
    user_id="ann",
    lab_profile_id=7,
    created_at=0.0,
    deadline_at=900.0,
    target=11,
    new_instance_id=12,
    running=(RunningInstance(instance_id=11, lab_profile_id=7),),
)


def ends_in_the_code() -> Iterator[tuple[State, str | None]]:
    """Each ``end(run, State.X, "reason")`` that stands in a decision."""
    for file in Path(ending.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "end":
                state, reason = node.args[1], node.args[2]
                if isinstance(state, ast.Attribute) and isinstance(reason, ast.Constant):
                    yield State[state.attr], None if reason.value is None else str(reason.value)


def no_answer_codes(kind: type[PlatformError] = PlatformError) -> Iterator[str]:
    yield kind.code
    for child in kind.__subclasses__():
        yield from no_answer_codes(child)


ENDS = sorted(set(ends_in_the_code()), key=str)
BLOCKED = sorted(
    {
        *(code for code in no_answer_codes() if code not in ("platform_error", "call_refused")),
        *(reason for sort, reason, _ in results.RESULTS.values() if sort == "capacity"),
        *("user_limit", "teardown_not_finished", "slot_not_free", "instance_not_described"),
        *("deadline", "crashed"),
    }
    - {"key_rejected"}
)


def test_the_ends_are_found() -> None:
    assert len(ENDS) > 15


@pytest.mark.parametrize(("state", "reason"), ENDS, ids=str)
def test_each_end_has_its_sentence(state: State, reason: str | None) -> None:
    sentence = final_sentence(replace(RUN, state=state, reason=reason, named=(11,)))
    assert "_" not in sentence
    assert "ann" in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("state", "reason"),
    [end for end in ENDS if end[0] in (State.FREED, State.REFUSED)] + [(State.FREED, None)],
    ids=str,
)
def test_each_end_of_a_run_that_launches_nothing_has_its_sentence(
    state: State, reason: str | None
) -> None:
    policy = Policy(launch=False)
    for left in ({}, {"cancelled": (11,)}, {"saved_by_us": (11, 13)}):
        run = replace(RUN, state=state, reason=reason, policy=policy, new_instance_id=None, **left)
        sentence = final_sentence(run)
        assert "_" not in sentence
        assert "in the way" not in sentence
        assert "ann" in sentence
        assert ("nothing was launched" in sentence) == (state is State.FREED)


@pytest.mark.parametrize("code", BLOCKED)
@pytest.mark.parametrize("state", [State.TIMED_OUT, State.FAILED, State.BACKING_OFF])
def test_each_thing_in_the_way_has_its_words(state: State, code: str) -> None:
    if state is State.FAILED and code not in set(no_answer_codes()):
        return
    run = replace(RUN, state=state, reason=code, blocked_by=code)
    assert "_" not in progress_sentence(run)


def test_the_readme_lists_every_reason() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("### Reasons") : readme.index("### Settings")]
    final = {reason for sort, reason, _ in results.RESULTS.values() if sort == "final"}
    codes = {reason for _, reason in ENDS if reason} | set(BLOCKED) | final - {"crashed"}
    assert {code for code in codes if f"`{code}`" not in section} <= {"crashed"}


@pytest.mark.parametrize("result", [*results.RESULTS, 777, None])
def test_each_result_code_has_its_meaning(result: int | None) -> None:
    reason = results.reason(result)
    run = replace(RUN, state=State.FAILED, reason=reason, result=result)
    assert "_" not in final_sentence(run)


@pytest.mark.parametrize("state", [s for s in State if s not in TERMINAL])
def test_each_step_has_its_sentence(state: State) -> None:
    sentence = progress_sentence(replace(RUN, state=state))
    assert sentence.endswith(".")
    assert "_" not in sentence
