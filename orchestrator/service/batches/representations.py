"""How batches, their learners and plans are shown; what a link enters is never among it.

The names are those of :mod:`orchestrator.batch.outcomes`, which ``relaunch batch show --json`` uses
as well. Times are Unix epoch seconds; ``at`` is the service's clock.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.durable.batches import Origin

#: An example.
STANDING: Any = {
    "batch_id": "networks-monday",
    "state": "running",
    "reason": None,
    "total": 500,
    "launch": True,
    "selection": None,
    "origin": "service",
    "created_at": 1790000000.0,
    "started_at": 1790000000.0,
    "ended_at": None,
    "at": 1790000120.0,
    "waiting": 250,
    "in_flight": 50,
    "ok": 198,
    "not_ok": 2,
    "ended": {"launched": 198, "refused": 2},
    "phases": {"tearing_down": 45, "launching": 5},
    "elapsed_seconds": 120.0,
    "per_minute": 100.0,
    "eta_seconds": 180.0,
    "api_calls": 1200,
    "obstacle": None,
}
_LEARNER: Any = {
    "number": 1,
    "user_id": "ada",
    "lab_profile_id": 1001,
    "outcome": "launched",
    "reason": None,
    "message": "Lab instance 5002 was launched.",
    "lab_instance_id": 5002,
    "cancelled_instance_ids": [5001],
    "saved_instance_ids": [],
    "relaunch_id": "5f0c6a5e0c7b4d0a9a0e6f1f2d3c4b5a",
    "attempt": 1,
    "begun_at": 1790000001.0,
    "ended_at": 1790000062.5,
    "waited_seconds": 61.5,
    "api_calls": 6,
}


class InTheWay(BaseModel):
    """What keeps new learners from being begun."""

    code: str
    message: str


class Batch(BaseModel):
    """How a batch stands."""

    model_config = ConfigDict(json_schema_extra={"examples": [STANDING]})

    batch_id: str
    state: str = Field(description="running, stopped, ended or aborted.")
    reason: str | None = Field(description="Why it stopped: a stable code.")
    total: int = Field(description="How many learners it has.")
    launch: bool = Field(description="False: labs are only ended.")
    selection: str | None = Field(description="By what the learners were selected, in words.")
    origin: Origin = Field(description="Who began it; the service carries out its own alone.")
    created_at: float
    started_at: float = Field(description="When it was last begun or resumed.")
    ended_at: float | None
    at: float = Field(description="The service's clock.")
    waiting: int = Field(description="Learners who were not begun yet.")
    in_flight: int
    ok: int = Field(description="Those who have what was asked for.")
    not_ok: int = Field(description="Those whose relaunch ended otherwise.")
    ended: dict[str, int] = Field(description="Those that ended, by outcome.")
    phases: dict[str, int] = Field(
        description="Those in flight by phase; empty where another process carries the batch out."
    )
    elapsed_seconds: float
    per_minute: float | None = Field(description="How many end a minute of late, once known.")
    eta_seconds: float | None = Field(description="How long the rest takes at that pace.")
    api_calls: int
    obstacle: InTheWay | None = Field(
        description="Why none is begun for the moment; null where another process carries it out."
    )


class Batches(BaseModel):
    """Batches, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"batches": [STANDING]}]})

    batches: list[Batch]


class BatchLearner(BaseModel):
    """A learner of a batch; ``outcome`` is null until their relaunch has ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LEARNER]})

    number: int = Field(description="The place in the batch, from 1.")
    user_id: str
    lab_profile_id: int
    outcome: str | None
    reason: str | None
    message: str | None = Field(description="A plain sentence for people; may change.")
    lab_instance_id: int | None
    cancelled_instance_ids: list[int]
    saved_instance_ids: list[int]
    relaunch_id: str | None = Field(description="Null until it is begun; see `/relaunches/{id}`.")
    attempt: int = Field(description="How often it was begun.")
    begun_at: float | None
    ended_at: float | None
    waited_seconds: float | None
    api_calls: int | None


class BatchLearners(BaseModel):
    """A page of a batch's learners, in its order."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"learners": [_LEARNER], "next_after": 100}]}
    )

    learners: list[BatchLearner]
    next_after: int | None = Field(
        description="`after` of the next page; null if there is none at the moment."
    )


_PLAN: Any = {
    "batch_id": "networks-monday",
    "batch": None,
    "selection": None,
    "launch": True,
    "displace": "cancel",
    "rows": [
        {
            "user_id": "ada",
            "lab_profile_id": 1001,
            "lab_profile_name": "Networks, part 1",
            "displace_instance_id": None,
            "line": 1,
            "carried_out": True,
            "certainty": "surely",
            "would_end": [{"lab_instance_id": 5001, "lab_profile_id": 1001}],
            "would_launch": "yes",
            "protected": None,
            "note": None,
        }
    ],
    "skipped": [
        {
            "reason": "saved",
            "message": "saved, or being saved",
            "user_id": "bob",
            "lab_profile_id": 1001,
            "lab_instance_id": 5002,
        }
    ],
    "total": 1,
    "estimate": {
        "seconds_low": 40.0,
        "seconds_high": 90.0,
        "api_calls_low": 7,
        "api_calls_high": 12,
        "learned": True,
    },
    "notes": [],
    "api_calls": 1,
}


class PlannedEnd(BaseModel):
    """A lab instance that would be ended."""

    lab_instance_id: int
    lab_profile_id: int | None


class PlannedRow(BaseModel):
    """What is foreseen for a learner and a lab."""

    user_id: str
    lab_profile_id: int
    lab_profile_name: str | None
    displace_instance_id: int | None
    line: int | None = Field(description="The place in the list, from 1; null: it was selected.")
    carried_out: bool = Field(description="False: was selected, is protected, and left alone.")
    certainty: str = Field(description="How sure the end is: surely, if_needed, nothing, unknown.")
    would_end: list[PlannedEnd]
    would_launch: str = Field(description="yes, maybe or no.")
    protected: str | None = Field(description="Why nothing is ended: a stable code.")
    note: str | None = Field(description="What else is to be expected, for people.")


class PlannedSkip(BaseModel):
    """A lab, or a learner, that would be left out; ``reason`` is a stable code."""

    reason: str
    message: str
    user_id: str | None
    lab_profile_id: int | None
    lab_instance_id: int | None


class PlanEstimate(BaseModel):
    """Two bounds; wide where not all of the lab profiles were waited for before (`learned`)."""

    seconds_low: float
    seconds_high: float
    api_calls_low: int
    api_calls_high: int
    learned: bool


class Plan(BaseModel):
    """What a batch would do; nothing was changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PLAN]})

    batch_id: str | None = Field(description="Its id; null if it is made when it begins.")
    batch: Batch | None = Field(description="The batch, if it is there: the plan is what is left.")
    selection: str | None
    launch: bool
    displace: str
    rows: list[PlannedRow]
    skipped: list[PlannedSkip]
    total: int = Field(description="How many learners it would have.")
    estimate: PlanEstimate
    notes: list[str] = Field(description="What is to be known about the whole, for people.")
    api_calls: int = Field(description="Calls of the platform that the plan took.")
