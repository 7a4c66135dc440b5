"""A plan as it is shown: who, what would be ended, what is left alone and why, and how long."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Policy
from orchestrator.batch.estimate import Estimate
from orchestrator.batch.plain_plans import plain_plan
from orchestrator.batch.planning import Plan, PlannedRow
from orchestrator.batch.requests import Row
from orchestrator.batch.selection import Skipped
from orchestrator.cli.reset_plan import aligned, show_plan, summary
from orchestrator.durable.batches import Pace
from orchestrator.labs import RosterEntry


def row(number: int, user: str | None = None, **fields: Any) -> PlannedRow:
    usual: dict[str, Any] = {
        "row": Row(user_id=user or f"learner-{number}", lab_profile_id=1001),
        "line": number,
        "certainty": "surely",
        "would_end": (RosterEntry(instance_id=5000 + number, lab_profile_id=1001),),
        "launches": "yes",
    }
    return PlannedRow(**(usual | fields))


def plan_of(*rows: PlannedRow, **fields: Any) -> Plan:
    usual: dict[str, Any] = {
        "rows": rows,
        "skipped": (),
        "estimate": Estimate(
            seconds_low=130.0,
            seconds_high=600.0,
            api_calls_low=1200,
            api_calls_high=3400,
            learned=True,
        ),
        "policy": Policy(),
        "pace": Pace(),
        "description": None,
        "notes": (),
        "api_calls": 1,
        "lab_names": {1001: "Networking basics", 1002: "Cloud security"},
    }
    return Plan(**(usual | fields))


EXAM = row(
    3, certainty="nothing", would_end=(), launches="maybe", protected="protected_exam", note="who?"
)
OTHER = row(2, certainty="if_needed", would_end=(RosterEntry(instance_id=7, lab_profile_id=1002),))


def test_each_learner_has_a_line_of_aligned_columns() -> None:
    lines = list(aligned(plan_of(row(1), OTHER, EXAM)))
    assert lines[0].split() == [
        "learner", "lab", "would", "be", "ended", "left", "alone", "launched", "remark",
    ]  # fmt: skip
    starts = [lines[0].index(head) for head in ("lab", "would", "left", "launched", "remark")]
    assert all(line[start - 2 : start] == "  " for line in lines for start in starts[:4])
    assert "1001 Networking basics  5001" in lines[1]
    assert "if it must: 7 (1002 Cloud security)" in lines[2]
    assert "an exam" in lines[3]
    assert lines[3].endswith("maybe     who?")


def test_of_a_long_class_the_first_and_the_last_are_shown() -> None:
    made = plan_of(*(row(n) for n in range(1, 484)))
    lines = list(aligned(made))
    assert len(lines) == 1 + 20 + 1 + 3
    assert lines[21] == "... 460 more"
    assert lines[20].startswith("learner-20 ")
    assert lines[22].startswith("learner-481 ")
    assert len(list(aligned(made, whole=True))) == 484
    barely = plan_of(*(row(n) for n in range(1, 25)))
    assert not any("more" in line for line in aligned(barely)), "one line for one learner"


def test_the_summary_counts_and_names_what_is_left_alone_and_why() -> None:
    protected = [
        row(n, certainty="nothing", would_end=(), protected="protected_scoring", line=None)
        for n in range(10, 22)
    ]
    made = plan_of(
        row(1), OTHER, EXAM, *protected,
        skipped=(
            Skipped(reason="saved", user_id="ann", instance_id=1),
            Skipped(reason="nothing_running", user_id="bob"),
            Skipped(reason="saved", user_id="ann", instance_id=2),
            Skipped(reason="no_user_told", instance_id=3),
        ),
        description="every running lab",
        notes=("An honest word.",),
    )  # fmt: skip
    assert list(summary(made)) == [
        "Selected: every running lab.",
        "3 learners: 1 lab ended, 1 lab ended only if the platform allows no lab more; 2 labs "
        "launched, 1 more if it can be.",
        "Protected, an exam: learner-3.",
        "Protected, being scored: " + ", ".join(f"learner-{n}" for n in range(10, 20)) + " and 2 "
        "more.",
        "Skipped, saved, or being saved: ann.",
        "Skipped, no lab is running: bob.",
        "Skipped, the platform doesn't say whose it is: lab instance 3.",
        "Estimated: 2 min to 10 min, and 1,200 to 3,400 API calls; from what was learned of these "
        "labs' teardowns.",
        "An honest word.",
    ]


def test_where_nothing_is_launched_no_launch_is_spoken_of() -> None:
    made = plan_of(
        row(1, launches="no"), policy=Policy(launch=False, displace="save"),
        pace=Pace(wait_seconds=60.0),
        estimate=Estimate(
            seconds_low=125.0, seconds_high=126.0, api_calls_low=7, api_calls_high=7, learned=False
        ),
    )  # fmt: skip
    assert "launched" not in "\n".join(aligned(made))
    assert list(summary(made)) == [
        "1 learner: 1 lab saved.",
        "Estimated: about 2 min, and about 7 API calls; a wide guess, since little is known yet of "
        "some of these labs' teardowns.",
        "The 60 s of --batch-wait are shorter: the rest will be left.",
    ]


def test_what_cannot_be_foreseen_is_said_so() -> None:
    made = plan_of(row(1, certainty="unknown", would_end=()))
    assert "whatever must" in list(aligned(made))[1]
    assert next(summary(made)) == "1 learner: whatever runs ended where it must; 1 lab launched."


def test_a_plan_of_nothing_is_a_summary() -> None:
    made = plan_of()
    assert list(aligned(made)) == []
    assert list(summary(made)) == ["0 learners: no lab ended; 0 labs launched."]


@pytest.fixture(params=[True, False], ids=["terminal", "no terminal"])
def showing(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Shows a plan, and tells what came out on stderr."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: request.param)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")

    def show(plan: Plan, **options: Any) -> str:
        show_plan(plan, **options)
        out, err = capsys.readouterr()
        assert out == "", "what programs read has stdout to itself"
        return err

    return show


def test_terminal_or_not_the_same_is_told(showing: Callable[..., str]) -> None:
    told = showing(plan_of(row(1), OTHER, EXAM))
    for word in ("learner-1", "1001 Networking basics", "5001", "an exam", "Estimated: 2 min"):
        assert word in told
    assert "... 77 more" in showing(plan_of(*(row(n) for n in range(100))))
    assert "learner-50" in showing(plan_of(*(row(n) for n in range(100))), whole=True)


def test_a_user_id_is_text_to_a_terminal(showing: Callable[..., str]) -> None:
    told = showing(plan_of(row(1, "[red]a\x1b[31m"), row(2, "\u202egnp.exe")))
    assert "[red]a?[31m" in told
    assert not {"\x1b[31m", "\u202e"} & set(told)
    assert "\x1b[31m" not in told


def test_a_plan_for_programs_has_everybody() -> None:
    made = plan_of(
        *(row(n) for n in range(1, 101)), EXAM,
        skipped=(Skipped(reason="saved", user_id="ann", instance_id=1, lab_profile_id=1001),),
    )  # fmt: skip
    told = json.loads(json.dumps(plain_plan(made)))
    assert len(told["rows"]) == told["total"] == 101
    assert told["rows"][0] == {
        "user_id": "learner-1",
        "lab_profile_id": 1001,
        "lab_profile_name": "Networking basics",
        "displace_instance_id": None,
        "line": 1,
        "carried_out": True,
        "certainty": "surely",
        "would_end": [{"lab_instance_id": 5001, "lab_profile_id": 1001}],
        "would_launch": "yes",
        "protected": None,
        "note": None,
    }
    assert told["rows"][100]["protected"] == "protected_exam"
    assert told["skipped"] == [
        {
            "reason": "saved",
            "message": "saved, or being saved",
            "user_id": "ann",
            "lab_profile_id": 1001,
            "lab_instance_id": 1,
        }
    ]
    assert told["estimate"]["api_calls_high"] == 3400
