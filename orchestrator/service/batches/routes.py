"""The routes of batches: ask for one, look at it and its learners, stop, resume and abort it.

For service keys; a learner finds nothing here. The same request again goes on with its batch, so
that it may be repeated at any time: nobody who has what was asked for is touched twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from orchestrator.batch import resetting
from orchestrator.batch.outcomes import Standing, plain_standing
from orchestrator.durable.batches import Batch as StoredBatch
from orchestrator.durable.batches import BatchState, Pace
from orchestrator.errors import InvalidRequest
from orchestrator.machine.run import Policy
from orchestrator.service.access.door import KeyReader, KeyStarter
from orchestrator.service.batches.asking import Asking
from orchestrator.service.batches.keeper import Keeper
from orchestrator.service.batches.models import BATCH_ID, BatchAsked, ResumeAsked
from orchestrator.service.batches.representations import (
    STANDING,
    Batch,
    Batches,
    BatchLearners,
    Plan,
)
from orchestrator.service.batches.showing import shown_learner, shown_plan, standing_of
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.refusals import BatchAborted, BatchElsewhere, BatchIdTaken, Draining
from orchestrator.service.relaunches import check_exams, is_known
from orchestrator.service.representations import problems

router = APIRouter(tags=["batches"])

BatchId = Annotated[
    str, Path(pattern=BATCH_ID, description="As it was given, or told at its beginning.")
]
_KEPT_TO_ITSELF = {"Cache-Control": "private, no-cache"}
#: What of a standing goes on by itself while nothing happens.
_CLOCKS = ("at", "elapsed_seconds", "per_minute", "eta_seconds")


async def _keeper_of(request: Request) -> Keeper:
    keeper: Keeper = request.app.state.keeper
    return keeper


Kept = Annotated[Keeper, Depends(_keeper_of)]


@router.post(
    "/batches",
    status_code=202,
    response_model=Batch,
    responses={
        200: {
            "model": Batch | Plan,
            "description": "It was there before, and goes on; or, with `dry_run`, the plan.",
            "content": {"application/json": {"example": STANDING}},
        },
        202: {"description": "It is stored, and begins."},
        **problems(400, 403, 404, 408, 409, 413, 502),
    },
)
async def begin_batch(
    asked: BatchAsked, ours: Ours, keeper: Kept, caller: KeyStarter, response: Response
) -> Any:
    """Relaunch the labs of many learners, or end them; or go on with the batch that did.

    The batch's id is what makes it safe to ask again: ``Idempotency-Key`` is not looked at. A batch
    that is running goes on as it does; one that was stopped or has ended goes on with whoever has
    not what was asked for, by the policy and at the pace of this request.
    """
    if ours.draining.is_set():
        raise Draining
    asking = await Asking.of(asked, ours, caller)
    stored, is_new = await asking.known(), False
    if stored is not None:
        check_resumable(stored)
    if asked.dry_run:
        planned, batch_id = await asking.plan(stored)
        known = None if stored is None else await standing(stored, ours, keeper)
        return JSONResponse(shown_plan(planned, batch_id=batch_id, known=known))
    if stored is None:
        # Who asks twice for the same selection finds the batch that is being made.
        async with keeper.selecting if asked.select is not None else contextlib.nullcontext():
            stored = await asking.known()
            if stored is None:
                stored, is_new = await _stored(*await asking.new(), ours)
    if not is_new:
        stored = await _gone_on_with(stored, asking, ours)
    keeper.look()
    response.status_code = 202 if is_new else 200
    response.headers["Location"] = f"/batches/{stored.batch_id}"
    return await _shown(stored, ours, keeper, response)


@router.get("/batches", response_model=Batches, responses=problems(404))
async def list_batches(
    ours: Ours,
    keeper: Kept,
    caller: KeyReader,
    unfinished: Annotated[
        bool | None, Query(description="Only those running or stopped, or only the rest.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="No more than so many.")] = 20,
) -> Any:
    """Batches, newest first; those of the command line, too."""
    found = await ours.store.batches.history(unfinished=unfinished, limit=limit)
    return {"batches": [plain_standing(await standing(one, ours, keeper)) for one in found]}


@router.get(
    "/batches/{batch_id}",
    response_model=Batch,
    responses={304: {"description": "Nothing has changed."}, **problems(404)},
)
async def get_batch(
    batch_id: BatchId,
    ours: Ours,
    keeper: Kept,
    caller: KeyReader,
    response: Response,
    if_none_match: Annotated[
        str | None,
        Header(alias="If-None-Match", description="The `ETag` of the answer that is known."),
    ] = None,
) -> Any:
    """A batch as it stands."""
    told = await _shown(await ours.store.batches.load(batch_id), ours, keeper, response)
    response.headers.update(_KEPT_TO_ITSELF)
    tag = response.headers["ETag"]
    if if_none_match is not None and is_known(tag, if_none_match):
        return Response(status_code=304, headers={"ETag": tag, **_KEPT_TO_ITSELF})
    return told


@router.get("/batches/{batch_id}/learners", response_model=BatchLearners, responses=problems(404))
async def list_batch_learners(
    batch_id: BatchId,
    ours: Ours,
    caller: KeyReader,
    after: Annotated[
        int, Query(ge=0, le=2**31 - 1, description="Only those of higher numbers.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="No more than so many.")] = 100,
    ended: Annotated[
        bool | None, Query(description="Only those who have come to an end, or have not.")
    ] = None,
) -> Any:
    """The learners of a batch, in its order, page by page, and what has come of each."""
    batches = ours.store.batches
    await batches.load(batch_id)
    found = await batches.items(batch_id, after=after, limit=limit, ended=ended)
    return {
        "learners": [shown_learner(batch_id, stored) for stored in found],
        "next_after": found[-1].item.number if len(found) == limit else None,
    }


@router.post(
    "/batches/{batch_id}/resume",
    response_model=Batch,
    responses=problems(400, 403, 404, 408, 409, 413),
)
async def resume_batch(
    batch_id: BatchId,
    ours: Ours,
    keeper: Kept,
    caller: KeyStarter,
    response: Response,
    asked: Annotated[ResumeAsked | None, Body(examples=[{"concurrency": 50}])] = None,
) -> Any:
    """Go on with a batch that was stopped, or try again those of whom nothing has come.

    One that is running goes on as it does; at the pace that is told, if one is.
    """
    if ours.draining.is_set():
        raise Draining
    batch = await ours.store.batches.load(batch_id)
    check_exams(batch.policy, caller, ours)
    pace = asked.over(batch.pace) if asked is not None and asked.says_something else None
    batch = await _resumed(batch, ours, pace=pace)
    keeper.look()
    return await _shown(batch, ours, keeper, response)


@router.post(
    "/batches/{batch_id}/stop",
    status_code=202,
    response_model=Batch,
    responses={
        200: {"model": Batch, "description": "It was not running."},
        202: {"description": "No learner is begun any more; those in flight come to their end."},
        **problems(403, 404),
    },
)
async def stop_batch(
    batch_id: BatchId, ours: Ours, keeper: Kept, caller: KeyStarter, response: Response
) -> Any:
    """Begin no learner any more, until the batch is resumed; those in flight come to their end."""
    before = await ours.store.batches.load(batch_id)
    batch = await resetting.stop(ours.store, batch_id, at=ours.clock.now())
    response.status_code = 202 if before.state is BatchState.RUNNING else 200
    return await _shown(batch, ours, keeper, response)


@router.delete(
    "/batches/{batch_id}",
    status_code=202,
    response_model=Batch,
    responses={
        200: {"model": Batch, "description": "It had ended or was aborted before."},
        202: {"description": "It is never gone on with; relaunches in flight end at a next step."},
        **problems(403, 404),
    },
)
async def abort_batch(
    batch_id: BatchId, ours: Ours, keeper: Kept, caller: KeyStarter, response: Response
) -> Any:
    """Never go on with a batch; its relaunches in flight end at their next step.

    What was done stays done: the labs are as they are then.
    """
    before = await ours.store.batches.load(batch_id)
    batch = await resetting.abort(ours.relauncher, batch_id)
    was_over = before.state in (BatchState.ENDED, BatchState.ABORTED)
    response.status_code = 200 if was_over else 202
    return await _shown(batch, ours, keeper, response)


async def standing(batch: StoredBatch, ours: ServiceParts, keeper: Keeper) -> Standing:
    """How a batch stands that was just loaded."""
    counts = await ours.store.batches.counts(batch.batch_id)
    here = keeper.standing(batch.batch_id)
    return standing_of(batch, counts, at=ours.clock.now(), here=here)


def without_clocks(told: dict[str, Any]) -> dict[str, Any]:
    """Of a plain standing what changes only if something happens."""
    return {name: value for name, value in told.items() if name not in _CLOCKS}


def check_resumable(batch: StoredBatch) -> None:
    """Raises why the service cannot go on with the batch."""
    if batch.state is BatchState.ABORTED:
        raise BatchAborted(batch.batch_id)
    if batch.origin != "service":
        raise BatchElsewhere(batch.batch_id)


async def _shown(
    batch: StoredBatch, ours: ServiceParts, keeper: Keeper, response: Response
) -> dict[str, Any]:
    told = plain_standing(await standing(batch, ours, keeper))
    text = json.dumps(without_clocks(told), sort_keys=True)
    response.headers["ETag"] = f'W/"{hashlib.sha256(text.encode()).hexdigest()[:20]}"'
    return told


async def _stored(batch: StoredBatch, items: Any, ours: ServiceParts) -> tuple[StoredBatch, bool]:
    try:
        return await resetting.begin(ours.store, batch, items)
    except InvalidRequest as error:
        if error.field != "batch_id":
            raise
        raise BatchIdTaken(batch.batch_id) from None


async def _gone_on_with(stored: StoredBatch, asking: Asking, ours: ServiceParts) -> StoredBatch:
    """The same request again: what is left of it is done, by the policy and pace of now."""
    if stored.state is BatchState.RUNNING:
        return stored
    if stored.state is BatchState.ENDED:
        counts = await ours.store.batches.counts(stored.batch_id)
        if counts.ok == stored.total:
            return stored
    return await _resumed(stored, ours, pace=asking.pace, policy=asking.policy)


async def _resumed(
    batch: StoredBatch, ours: ServiceParts, *, pace: Pace | None, policy: Policy | None = None
) -> StoredBatch:
    check_resumable(batch)
    if batch.state is BatchState.RUNNING and pace is None:
        return batch
    try:
        return await resetting.resume(
            ours.store, batch.batch_id, at=ours.clock.now(), pace=pace, policy=policy
        )
    except InvalidRequest as error:
        if error.field != "batch_id":
            raise
        raise BatchAborted(batch.batch_id) from None
