"""What goes over the wire: requests, and how relaunches, labs and problems are shown.

The names are those of the library's values and of ``relaunch run --json``. Times are Unix epoch
seconds by the service's clock; ``now`` tells what that clock says, so that a page can count on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.machine.run import (
    Choose,
    Detect,
    DisplaceBy,
    IfRunning,
    OnActiveLabsPage,
    OnSaved,
)
from orchestrator.requests import OnConflict

LARGEST_INT32 = 2**31 - 1
#: The largest that is one as a float as well, which OpenAPI makes of it.
LARGEST_INT64 = 2**63 - 1024
#: Longer texts are none of the platform's.
LONGEST = 1000
#: As the library checks them: no control characters, and in a learner's id not spaces alone.
PLAIN = r"^[^\x00-\x1F\x7F]*$"
USER_ID = r"^[^\x00-\x1F\x7F]*[^\x00-\x1F\x7F\s][^\x00-\x1F\x7F]*$"


class Asked(BaseModel):
    """Something that is asked for: nothing unknown is taken, and no value is bent to fit."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)


class LaunchParametersAsked(Asked):
    """What goes with the launch; see ``orchestrator.LaunchParameters``."""

    first_name: str | None = Field(None, max_length=LONGEST)
    last_name: str | None = Field(None, max_length=LONGEST)
    email: str | None = Field(None, max_length=LONGEST)
    class_id: str | None = Field(None, max_length=LONGEST)
    can_be_marked_complete: bool | None = None
    tag: str | None = Field(None, max_length=LONGEST, pattern=PLAIN)
    ip_address: str | None = Field(None, max_length=LONGEST)
    region_id: int | None = Field(None, ge=0, le=LARGEST_INT32)
    role_ids: list[Annotated[int, Field(ge=0, le=LARGEST_INT32)]] = Field(
        default_factory=list, max_length=100
    )
    variables: dict[str, str] = Field(default_factory=dict, max_length=100)
    max_saved_labs: int | None = Field(None, ge=0, le=LARGEST_INT32)
    max_active_labs: int | None = Field(None, ge=0, le=LARGEST_INT32)
    lang: str | None = Field(None, max_length=LONGEST)
    instructions_id: str | None = Field(None, max_length=LONGEST)
    duration_minutes: int | None = Field(None, ge=0, le=LARGEST_INT32)
    last_activity_timeout_minutes: int | None = Field(None, ge=0, le=LARGEST_INT32)


class PolicyAsked(Asked):
    """What this relaunch may do, where it differs from the service's settings."""

    probe: bool | None = None
    if_running: IfRunning | None = None
    choose: Choose | None = None
    displace: DisplaceBy | None = None
    overlap: bool | None = None
    allow_exam: bool | None = None
    on_saved: OnSaved | None = None
    on_active_labs_page: OnActiveLabsPage | None = None
    detect: Detect | None = None
    max_recancels: int | None = Field(None, ge=0, le=100)
    deadline_seconds: float | None = Field(None, gt=0, le=86_400)


class RelaunchAsked(Asked):
    """A relaunch to be begun. A learner token may only say the lab, and which lab makes room."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "ada", "lab_profile_id": 1001},
                {
                    "user_id": "ada",
                    "lab_profile_id": 1001,
                    "displace_instance_id": 5001,
                    "parameters": {"first_name": "Ada", "lang": "de"},
                    "policy": {"if_running": "reuse"},
                    "note": "pressed Relaunch",
                },
            ]
        }
    )

    user_id: str | None = Field(
        None,
        min_length=1,
        max_length=LONGEST,
        pattern=USER_ID,
        description="The learner; a learner token's own if left out.",
    )
    lab_profile_id: int = Field(gt=0, le=LARGEST_INT32, description="The lab to launch.")
    displace_instance_id: int | None = Field(
        None,
        gt=0,
        le=LARGEST_INT64,
        description="The lab instance that makes room; no other one is ended.",
    )
    parameters: LaunchParametersAsked | None = None
    policy: PolicyAsked | None = None
    launch: bool | None = Field(
        None, description="False: only end the lab, and wait until its slot is free."
    )
    note: str | None = Field(
        None, max_length=LONGEST, pattern=PLAIN, description="Goes with the cancel."
    )
    priority: Literal["button", "bulk"] | None = Field(
        None, description="Who begins first where not all can."
    )
    on_conflict: OnConflict | None = Field(
        None, description="While another lab's relaunch is in flight for the learner."
    )


_A_RELAUNCH: Any = {
    "relaunch_id": "5f0c6a5e0c7b4d0a9a0e6f1f2d3c4b5a",
    "user_id": "ada",
    "lab_profile_id": 1001,
    "phase": "tearing_down",
    "sequence": 6,
    "message": "Waiting for lab instance 5001 to be torn down.",
    "created_at": 1790000000.0,
    "updated_at": 1790000004.2,
    "deadline_at": 1790000900.0,
    "now": 1790000010.0,
    "elapsed_seconds": 10.0,
    "usual_seconds": [40.0, 70.0],
    "lab_instance_id": 5001,
    "ending_instance_id": 5001,
    "outcome": None,
    "reason": None,
    "url": None,
    "expires_at": None,
    "ready_in_seconds": None,
    "cancelled_instance_ids": [5001],
    "saved_instance_ids": [],
    "waited_seconds": None,
    "api_calls": 4,
    "attempts": 1,
    "left": None,
}


class Left(BaseModel):
    """What a relaunch leaves behind, as far as it knows."""

    tearing_down: list[int] = Field(description="Lab instances whose teardown goes on.")
    untouched: list[int] = Field(description="Lab instances that were left as they were.")
    cancel_in_doubt: int | None = Field(description="Its cancel (or save) got no answer.")
    launch_in_doubt_tag: str | None = Field(description="A launch with this tag got no answer.")


class Relaunch(BaseModel):
    """A relaunch as it stands; ``outcome`` is null until it has ended."""

    model_config = ConfigDict(json_schema_extra={"examples": [_A_RELAUNCH]})

    relaunch_id: str
    user_id: str
    lab_profile_id: int
    phase: str = Field(description="The state of the relaunch.")
    sequence: int = Field(description="How many steps it has taken; the id of its last event.")
    message: str = Field(description="A plain sentence for people; may change.")
    created_at: float
    updated_at: float
    deadline_at: float = Field(description="It ends by then, whatever happens.")
    now: float = Field(description="The service's clock.")
    elapsed_seconds: float = Field(description="Since it began, up to now or to its end.")
    usual_seconds: tuple[float, float] | None = Field(
        description="From when to when such teardowns usually end, in seconds since they began."
    )
    lab_instance_id: int | None = Field(description="The instance that the step is about.")
    ending_instance_id: int | None = Field(description="The lab instance that makes room.")
    outcome: str | None = Field(
        description="launched, reused, freed, choose, refused, failed, timed_out or aborted."
    )
    reason: str | None = Field(description="A stable code, or null for a plain success.")
    url: str | None = Field(description="Enters the lab, once.")
    expires_at: float | None
    ready_in_seconds: float | None
    cancelled_instance_ids: list[int]
    saved_instance_ids: list[int]
    waited_seconds: float | None
    api_calls: int
    attempts: int
    left: Left | None


class Relaunches(BaseModel):
    """Relaunches, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"relaunches": [_A_RELAUNCH]}]})

    relaunches: list[Relaunch]


class RunningLab(BaseModel):
    """A running lab instance of the learner."""

    lab_instance_id: int
    lab_profile_id: int | None
    lab_profile_name: str | None
    started_at: float | None
    expires_at: float | None
    is_exam: bool
    would_end: bool = Field(description="Whether it is the one to make room for `lab_profile_id`.")
    may_enter: bool = Field(description="Whether the caller may ask for a URL to enter it.")
    usual_seconds: tuple[float, float] | None = Field(
        description="How long its teardown usually takes, from and to, in seconds."
    )


class SavedLab(BaseModel):
    """A saved lab instance of the learner."""

    lab_instance_id: int
    lab_profile_id: int | None
    lab_profile_name: str | None
    saved_at: float | None
    expires_at: float | None
    is_exam: bool
    submitted_for_grading: bool


class Labs(BaseModel):
    """What the platform says a learner has."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "user_id": "ada",
                    "running": [
                        {
                            "lab_instance_id": 5001,
                            "lab_profile_id": 1002,
                            "lab_profile_name": "Networks, part 2",
                            "started_at": 1790000000.0,
                            "expires_at": 1790007200.0,
                            "is_exam": False,
                            "would_end": True,
                            "may_enter": True,
                            "usual_seconds": [40.0, 70.0],
                        }
                    ],
                    "saved": [],
                }
            ]
        }
    )

    user_id: str
    running: list[RunningLab]
    saved: list[SavedLab]


class AccessUrl(BaseModel):
    """A URL that enters a running lab, once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://labs.example/enter/5001"}]}
    )

    url: str


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:lab-relaunch:problem:unknown_relaunch",
                    "title": "Not Found",
                    "status": 404,
                    "code": "unknown_relaunch",
                    "detail": "There is no such relaunch.",
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; what a program goes by.")
    detail: str = Field(description="What happened, what was left untouched, what to do next.")


class ConflictProblem(Problem):
    """Another lab's relaunch is in flight for the learner."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:lab-relaunch:problem:relaunch_in_flight",
                    "title": "Conflict",
                    "status": 409,
                    "code": "relaunch_in_flight",
                    "detail": "Another lab's relaunch is in flight for this learner.",
                    "lab_profile_id": 1002,
                    "relaunch_id": "5f0c6a5e0c7b4d0a9a0e6f1f2d3c4b5a",
                    "harmless": False,
                    "may": ["wait", "abort"],
                }
            ]
        },
    )

    lab_profile_id: int = Field(description="Whose relaunch is in flight.")
    relaunch_id: str | None = Field(description="Its id, if the caller may see it.")
    harmless: bool = Field(description="It has changed nothing yet.")
    may: list[str] = Field(description="What the caller may do: wait, abort, supersede.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI says of its errors: these, and those of every route with a door."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    told: dict[int | str, dict[str, Any]] = {}
    for status in sorted({401, 422, 429, 431, 500, 503, *statuses}):
        told[status] = {"content": content, "description": _SAID[status]}
        if status in _HEADERS:
            name, description = _HEADERS[status]
            header = {"schema": {"type": "string"}, "description": description}
            told[status]["headers"] = {name: header}
    return told


_SAID = {
    400: "The body cannot be read as JSON.",
    401: "No credential, or none that is good (any more).",
    403: "The caller may not do this, or not say that.",
    404: "There is no such thing, or not for this caller.",
    408: "The body did not come in time.",
    409: "Something is in the way; `code` says what.",
    413: "The body is too large.",
    422: "A value was refused; `field` names it.",
    429: "Too many requests of this caller.",
    431: "Its path and headers are too large.",
    500: "A bug of the service; a relaunch that was begun goes on.",
    502: "The platform gave no usable answer.",
    503: "The service, its store or the platform is not to be had for the moment.",
}
_HEADERS = {
    401: ("WWW-Authenticate", "`Bearer`."),
    429: ("Retry-After", "Seconds after which to ask again."),
    503: ("Retry-After", "Seconds after which to ask again."),
}
