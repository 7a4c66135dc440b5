"""The routes of relaunches: begin or join, look at, list and abort. A GET never starts anything."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response

from orchestrator.durable.store import Filter, StoredRun
from orchestrator.errors import InvalidRequest, RelaunchInFlight, UnknownRelaunch
from orchestrator.labs import LaunchParameters
from orchestrator.machine.run import Policy
from orchestrator.requests import Options, Priority
from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.access.door import Reader, Starter
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.refusals import Conflict, Draining, Forbidden, NotFound
from orchestrator.service.representations import (
    PLAIN,
    USER_ID,
    LaunchParametersAsked,
    PolicyAsked,
    Relaunch,
    RelaunchAsked,
    Relaunches,
    problems,
)
from orchestrator.service.showing import shown

router = APIRouter(tags=["relaunches"])

RelaunchId = Annotated[
    str, Path(pattern="^[A-Za-z0-9_-]{1,64}$", description="As it was given at its beginning.")
]

_KEPT_TO_ITSELF = {"Cache-Control": "private, no-cache"}
#: But for this, which only forbids: the learner has confirmed which lab ends, or that none does.
_ONLY_NAMED = PolicyAsked.model_validate({"choose": "named"})
#: What a learner's browser may not decide: the LMS's token or the service's settings do.
_NOT_FOR_LEARNERS = ("parameters", "policy", "launch", "note", "priority", "on_conflict")


@router.post(
    "/relaunches",
    status_code=202,
    response_model=Relaunch,
    responses={
        200: {"model": Relaunch, "description": "It was there before, and was joined."},
        202: {"description": "It has begun."},
        409: {
            "description": "Another lab's relaunch is in flight for the learner.",
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/ConflictProblem"}
                }
            },
        },
        **problems(400, 403, 404, 408, 413),
    },
)
async def begin_relaunch(
    asked: RelaunchAsked,
    ours: Ours,
    caller: Starter,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=PLAIN,
            description="Names the request: with the same one it is the same relaunch, also after "
            "it has ended.",
        ),
    ] = None,
) -> Any:
    """Begin a relaunch, or join the one that is in flight for the learner and lab."""
    if ours.draining.is_set():
        raise Draining
    ours.limits.count_platform_call(caller)
    user_id, options = _understood(asked, caller, ours, idempotency_key)
    try:
        handle = ours.relauncher.start(user_id, asked.lab_profile_id, **options)
        relaunch_id = await handle.accepted()
    except RelaunchInFlight as error:
        raise _conflict(error, caller) from None
    stored = await ours.store.load(relaunch_id)
    response.status_code = 200 if handle.joined else 202
    response.headers["Location"] = f"/relaunches/{relaunch_id}"
    response.headers["ETag"] = _tag(stored)
    return _shown(stored, ours)


@router.get("/relaunches", response_model=Relaunches, responses=problems(404))
async def list_relaunches(
    ours: Ours,
    caller: Reader,
    user_id: Annotated[
        str | None,
        Query(min_length=1, max_length=1000, pattern=USER_ID, description="Of this learner only."),
    ] = None,
    in_flight: Annotated[
        bool | None, Query(description="Only those that have not ended, or only those that have.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="No more than so many.")] = 100,
) -> Any:
    """Relaunches, newest first; for a learner token those of its learner and labs."""
    if user_id is not None and not caller.is_for(user_id):
        raise NotFound("There is no such learner for this caller. Nothing was done.")
    found = await ours.store.history(
        Filter(user_id=user_id or caller.user_id, unfinished=in_flight, limit=limit)
    )
    return {
        "relaunches": [
            _shown(stored, ours) for stored in found if caller.may_use(stored.run.lab_profile_id)
        ]
    }


@router.get(
    "/relaunches/{relaunch_id}",
    response_model=Relaunch,
    responses={304: {"description": "Nothing has changed."}, **problems(404)},
)
async def get_relaunch(
    relaunch_id: RelaunchId,
    ours: Ours,
    caller: Reader,
    response: Response,
    if_none_match: Annotated[
        str | None,
        Header(alias="If-None-Match", description="The `ETag` of the answer that is known."),
    ] = None,
) -> Any:
    """A relaunch as it stands; poll with ``If-None-Match`` where streams don't get through."""
    stored = await visible(relaunch_id, ours, caller)
    tag = _tag(stored)
    if if_none_match is not None and is_known(tag, if_none_match):
        return Response(status_code=304, headers={"ETag": tag, **_KEPT_TO_ITSELF})
    response.headers["ETag"] = tag
    response.headers.update(_KEPT_TO_ITSELF)
    return _shown(stored, ours)


@router.delete(
    "/relaunches/{relaunch_id}",
    status_code=202,
    response_model=Relaunch,
    responses={
        200: {"model": Relaunch, "description": "It had ended before."},
        202: {"description": "The wish is stored; it ends at its next step."},
        **problems(403, 404),
    },
)
async def abort_relaunch(
    relaunch_id: RelaunchId, ours: Ours, caller: Starter, response: Response
) -> Any:
    """Wish that a relaunch ends at its next step; what it has done so far stays done."""
    await visible(relaunch_id, ours, caller)
    handle = await ours.relauncher.attach(relaunch_id)
    wished = await handle.wish_abort()
    response.status_code = 202 if wished else 200
    return _shown(await ours.store.load(relaunch_id), ours)


async def visible(relaunch_id: str, ours: ServiceParts, caller: Caller) -> StoredRun:
    """The relaunch, if there is one and the caller may see it; else it does not exist."""
    stored = await ours.store.load(relaunch_id)
    if not (caller.is_for(stored.run.user_id) and caller.may_use(stored.run.lab_profile_id)):
        raise UnknownRelaunch(relaunch_id)
    return stored


def _shown(stored: StoredRun, ours: ServiceParts) -> dict[str, Any]:
    return shown(stored, now=ours.clock.now(), knowledge=ours.knowledge)


def _tag(stored: StoredRun) -> str:
    # Weak: the clock's readings and what is usual change meanwhile.
    return f'W/"{stored.version}"'


def is_known(tag: str, if_none_match: str) -> bool:
    """Weakly compared (RFC 9110): a proxy may have made it a weak or a strong one."""
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in known or tag.removeprefix("W/") in known


def _understood(
    asked: RelaunchAsked, caller: Caller, ours: ServiceParts, key: str | None
) -> tuple[str, Options]:
    """For whom, and with what options; what the caller may not ask for is refused."""
    user_id = asked.user_id if asked.user_id is not None else caller.user_id
    if user_id is None:
        raise InvalidRequest("user_id", "must be given with a service key.")
    if not caller.is_for(user_id) or not caller.may_use(asked.lab_profile_id):
        raise NotFound("There is no such learner or lab for this caller. Nothing was done.")
    policy = _policy(asked, ours.policy)
    options = Options(policy=policy)
    if key is not None:
        # A key is its caller's own: nobody can take another one's by guessing it.
        own = hashlib.sha256(f"{caller.name}\0{key}".encode()).hexdigest()
        options["idempotency_key"] = own
    if caller.user_id is not None:
        for name in _NOT_FOR_LEARNERS:
            said = getattr(asked, name)
            if said is not None and said != _ONLY_NAMED:
                raise Forbidden(
                    f"{name}: a learner token may not say that; the LMS's token and the service's "
                    "settings do. Nothing was done."
                )
        options["parameters"] = caller.parameters
        return user_id, options
    check_exams(policy, caller, ours)
    if asked.parameters is not None:
        options["parameters"] = parameters_of(asked.parameters)
    if asked.note is not None:
        options["note"] = asked.note
    if asked.priority is not None:
        options["priority"] = Priority[asked.priority.upper()]
    if asked.on_conflict is not None:
        options["on_conflict"] = asked.on_conflict
    return user_id, options


def check_exams(policy: Policy, caller: Caller, ours: ServiceParts) -> None:
    """Raises ``Forbidden`` if exams may end by the policy and the caller may not say that."""
    if policy.allow_exam and not (ours.policy.allow_exam or caller.may(Scope.ADMIN)):
        raise Forbidden(
            "policy.allow_exam: needs the scope admin, for it may destroy a graded attempt. "
            "Nothing was done."
        )


def parameters_of(asked: LaunchParametersAsked) -> LaunchParameters:
    """What goes with the launch, as the library has it."""
    given = asked.model_dump()
    return LaunchParameters(**given | {"role_ids": tuple(given["role_ids"])})


def _policy(asked: RelaunchAsked, policy: Policy) -> Policy:
    changes: dict[str, Any] = {}
    if asked.launch is not None:
        changes["launch"] = asked.launch
    if asked.displace_instance_id is not None:
        # Nor one that takes the slot meanwhile, unless the caller leaves that to the relaunch.
        changes |= {"displace_instance_id": asked.displace_instance_id, "max_recancels": 0}
    if asked.policy is not None:
        changes |= asked.policy.model_dump(exclude_none=True)
    return dataclasses.replace(policy, **changes)


def _conflict(error: RelaunchInFlight, caller: Caller) -> Conflict:
    seen = caller.may_use(error.lab_profile_id)
    may = ["wait", "abort"] if seen else ["wait"]
    if error.harmless and not caller.is_learner:
        may.append("supersede")
    members = {
        "lab_profile_id": error.lab_profile_id,
        "relaunch_id": error.relaunch_id if seen else None,
        "harmless": error.harmless,
        "may": may,
    }
    return Conflict(
        "Another relaunch is in flight for this learner, so this one was not begun; nothing was "
        f"changed. What may be done: {', '.join(may)}.",
        members=members,
    )
