"""The route that Prometheus scrapes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from orchestrator.service.access.door import KeyReader
from orchestrator.service.parts import Ours
from orchestrator.service.representations import problems

router = APIRouter(tags=["operations"])

_TEXT = {"schema": {"type": "string"}, "example": "lab_relaunch_in_flight 3.0\n"}


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {
            "description": "The metrics, in Prometheus' text format or as OpenMetrics.",
            "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
        },
        **problems(404),
    },
)
async def metrics(
    ours: Ours,
    caller: KeyReader,
    accept: Annotated[str, Header(max_length=1000, include_in_schema=False)] = "",
) -> Response:
    """What this process has measured. For service keys."""
    await ours.metrics.look(ours.store)
    encode, media_type = choose_encoder(accept)
    return Response(encode(ours.metrics.registry), headers={"Content-Type": media_type})
