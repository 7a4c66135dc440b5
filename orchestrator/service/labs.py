"""The routes of a learner's labs: what runs, which would make room, and a URL to enter one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from orchestrator.errors import CallRefused
from orchestrator.labs import InstanceDetails, Labs, RunningInstance
from orchestrator.machine.candidates import Verdict, choose, to_inspect
from orchestrator.requests import Options, new_run
from orchestrator.service.access.callers import Caller
from orchestrator.service.access.door import Reader, Starter
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.refusals import NotFound
from orchestrator.service.representations import LARGEST_INT64, USER_ID, AccessUrl, problems
from orchestrator.service.representations import Labs as LabsShown
from orchestrator.session import usual_of
from orchestrator.waiting import Subject

router = APIRouter(tags=["labs"])

#: Seconds that a question to the platform may take.
_TIMEOUT = 20.0

UserId = Annotated[
    str,
    Path(min_length=1, max_length=1000, pattern=USER_ID, description="The learner."),
]


# A user id may have slashes in it, which arrive unquoted however they were sent.
@router.get("/users/{user_id:path}/labs", response_model=LabsShown, responses=problems(404, 502))
async def list_labs(
    user_id: UserId,
    ours: Ours,
    caller: Reader,
    lab_profile_id: Annotated[
        int | None,
        Query(gt=0, le=2**31 - 1, description="The lab that is wanted: which one would make room?"),
    ] = None,
) -> Any:
    """What the platform says a learner has."""
    found = await _survey(user_id, ours, caller)
    ending = None if lab_profile_id is None else _would_end(user_id, lab_profile_id, found, ours)
    return {
        "user_id": user_id,
        "running": [
            {
                "lab_instance_id": lab.instance_id,
                "lab_profile_id": lab.lab_profile_id,
                "lab_profile_name": lab.lab_profile_name,
                "started_at": lab.started_at,
                "expires_at": lab.expires_at,
                "is_exam": lab.is_exam,
                "would_end": lab.instance_id == ending,
                "may_enter": caller.may_use(lab.lab_profile_id),
                "usual_seconds": _usual(lab, ours),
            }
            for lab in found.running
        ],
        "saved": [
            {
                "lab_instance_id": lab.instance_id,
                "lab_profile_id": lab.lab_profile_id,
                "lab_profile_name": lab.lab_profile_name,
                "saved_at": lab.saved_at,
                "expires_at": lab.expires_at,
                "is_exam": lab.is_exam,
                "submitted_for_grading": lab.submitted_for_grading,
            }
            for lab in found.saved
        ],
    }


@router.post(
    "/users/{user_id:path}/labs/{lab_instance_id}/access-url",
    response_model=AccessUrl,
    responses=problems(403, 404, 502),
)
async def make_access_url(
    user_id: UserId,
    lab_instance_id: Annotated[int, Path(gt=0, le=LARGEST_INT64, description="One that runs.")],
    ours: Ours,
    caller: Starter,
) -> Any:
    """A URL that enters a running lab of the learner, once."""
    found = await _survey(user_id, ours, caller)
    running = {lab.instance_id: lab for lab in found.running}
    lab = running.get(lab_instance_id)
    if lab is None or not caller.may_use(lab.lab_profile_id):
        raise NotFound("This learner has no such lab instance running. Nothing was done.")
    try:
        return {"url": await ours.platform.access_url(lab_instance_id, timeout=_TIMEOUT)}
    except CallRefused:
        raise NotFound(
            "The platform lets nobody into this lab instance any more; it may just have ended. "
            "Nothing was changed; look at the learner's labs again."
        ) from None


async def _survey(user_id: str, ours: ServiceParts, caller: Caller) -> Labs:
    if not caller.is_for(user_id):
        raise NotFound("There is no such learner for this caller. Nothing was done.")
    ours.limits.count_platform_call(caller)
    try:
        return await ours.platform.survey(user_id, timeout=_TIMEOUT)
    except CallRefused:
        # The platform may answer so for a learner of whom it has never heard.
        return Labs()


def _would_end(user_id: str, lab_profile_id: int, found: Labs, ours: ServiceParts) -> int | None:
    """Which lab the relaunch would end if it comes to that: its own choice, by the list alone."""
    run = new_run(user_id, lab_profile_id, ours.policy, Options(), ours.clock.now())
    run = replace(run, running=found.running)
    if run.same_profile and run.policy.if_running != "replace":
        return None
    listed = tuple(InstanceDetails(instance_id=number) for number in to_inspect(run))
    choice = choose(run, listed) if listed else None
    return choice.instance_ids[0] if choice and choice.verdict is Verdict.DISPLACE else None


def _usual(lab: RunningInstance, ours: ServiceParts) -> tuple[float, float] | None:
    subject = Subject(lab_profile_id=lab.lab_profile_id, kind=None, step=ours.policy.displace)
    return usual_of(ours.knowledge, subject)
