"""Runs and steps to store: what a driver would record, without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.durable.store import Entry, Step, StoredRun
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import State
from orchestrator.progress import progress_of

#: When everything here begins.
T0 = 1_000.0


def a_run(number: int = 1, **given: Any) -> Run:
    """A run of a learner of its own."""
    values: dict[str, Any] = {
        "relaunch_id": f"run-{number}",
        "user_id": f"learner-{number}",
        "lab_profile_id": 7,
        "created_at": T0,
        "deadline_at": T0 + 900,
    }
    return Run(**{**values, **given})


def a_step(stored: StoredRun, state: State = State.TEARING_DOWN, **changed: Any) -> Step:
    """The next step of a claimed run."""
    run = replace(stored.run, state=state, **changed)
    at = T0 + stored.version + 1
    progress = progress_of(run, sequence=stored.version + 1, at=at, calling=None, next_look_at=None)
    return Step(
        run=run,
        entry=Entry(event="Listed", progress=progress),
        epoch=stored.epoch,
        due_at=at,
        api_calls=stored.api_calls + 1,
    )


def after(stored: StoredRun, step: Step) -> StoredRun:
    """The run as it is kept when ``step`` has been recorded."""
    return replace(
        stored,
        run=step.run,
        version=step.entry.progress.sequence,
        api_calls=step.api_calls,
        due_at=step.due_at,
    )
