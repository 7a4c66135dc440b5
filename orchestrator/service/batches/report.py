"""The route of a batch's report: a table, or a page with pictures, in pieces as it is read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from orchestrator.batch.report import MEDIA_TYPES, Format, file_name, stored_report
from orchestrator.service.access.door import KeyReader
from orchestrator.service.batches.routes import BatchId
from orchestrator.service.parts import Ours
from orchestrator.service.representations import problems

router = APIRouter(tags=["batches"])

#: What the page itself says is stricter, and is in force as well: its one style alone, by its hash.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_EXAMPLES = {
    "csv": "number,user_id,lab_profile_id,outcome\r\n1,ada,1001,launched\r\n",
    "json": {"batch": {"batch_id": "networks-monday"}, "learners": []},
    "html": "<!doctype html><title>Batch networks-monday</title>",
}
_SCHEMAS = {"csv": {"type": "string"}, "json": {"type": "object"}, "html": {"type": "string"}}


@router.get(
    "/batches/{batch_id}/report.{kind}",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The report as it is now. CSV and JSON are files to be kept; the page "
            "runs no script and loads nothing, so it can be mailed.",
            "content": {
                MEDIA_TYPES[kind].partition(";")[0]: {
                    "schema": _SCHEMAS[kind],
                    "example": _EXAMPLES[kind],
                }
                for kind in MEDIA_TYPES
            },
        },
        **problems(404),
    },
)
async def get_batch_report(
    batch_id: BatchId,
    kind: Annotated[Format, Path(description="What it is to be: csv, json or html.")],
    ours: Ours,
    caller: KeyReader,
) -> StreamingResponse:
    """The report of a batch: who, and what has come of it; without ways into labs."""
    batch = await ours.store.batches.load(batch_id)
    place = "inline" if kind == "html" else "attachment"
    headers = {"Content-Disposition": f'{place}; filename="{file_name(batch, kind)}"'}
    if kind == "html":
        headers["Content-Security-Policy"] = _PAGE_POLICY
    pieces = stored_report(ours.store.batches, batch_id, format=kind, at=ours.clock.now())
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[kind], headers=headers)
