"""The route of a relaunch's events, as they come: server-sent events that can be taken up again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.logs import get_logger
from orchestrator.machine.vocabulary import State
from orchestrator.plain import to_plain
from orchestrator.service.access.callers import Caller
from orchestrator.service.access.door import Reader
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.relaunches import visible
from orchestrator.service.representations import problems
from orchestrator.service.showing import shown
from orchestrator.service.streams import Stream, event, opening

router = APIRouter(tags=["relaunches"])

_log = get_logger("orchestrator.service")

#: No proxy may keep the events back, and nobody may keep them.
_HEADERS = {"Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no"}
_EXAMPLE = (
    'event: progress\nid: 6\ndata: {"sequence": 6, "phase": "tearing_down", ...}\n\n'
    'event: outcome\nid: 9\ndata: {"relaunch_id": ..., "outcome": "launched", ...}\n\n'
)


class EventStream(StreamingResponse):
    """A response of server-sent events, which gives the stream's place free at its end."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], place: contextlib.ExitStack) -> None:
        super().__init__(content, headers=_HEADERS)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._place:
            await super().__call__(scope, receive, send)


@router.get(
    "/relaunches/{relaunch_id}/events",
    response_class=EventStream,
    responses={
        200: {
            "description": "`progress` events (a step each; the id is its sequence number), and "
            "one `outcome` event (the relaunch) at the end, which is sent again to whoever comes "
            "later. A stream that ends without it is to be asked for again.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **problems(404),
    },
)
async def events(
    relaunch_id: str,
    ours: Ours,
    caller: Reader,
    last_event_id: Annotated[
        str | None, Header(description="The id of the last event that was seen.", max_length=20)
    ] = None,
) -> StreamingResponse:
    """Follow a relaunch from the event after ``Last-Event-ID``, or from its beginning."""
    await visible(relaunch_id, ours, caller)
    after = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
    with contextlib.ExitStack() as place:
        # Refused here, not in the middle of the answer.
        place.enter_context(ours.limits.stream(caller))
        place.enter_context(ours.metrics.stream())
        return EventStream(_stream(relaunch_id, after, ours, caller), place.pop_all())
    raise AssertionError("an exit stack swallows nothing")


async def _stream(
    relaunch_id: str, after: int, ours: ServiceParts, caller: Caller
) -> AsyncIterator[bytes]:
    stream = Stream(
        _events(relaunch_id, after, ours),
        clock=ours.clock,
        heartbeat=ours.options.heartbeat_seconds,
        ends_at=caller.expires_at,
        failed=_failed,
    )
    with ours.streams.opened(stream):
        yield opening(ours.options.retry_milliseconds)
        async for piece in stream.lines():
            yield piece


async def _events(relaunch_id: str, after: int, ours: ServiceParts) -> AsyncIterator[bytes]:
    handle = await ours.relauncher.attach(relaunch_id)
    async for progress in handle.events(after=after):
        if not State(progress.phase).is_terminal:
            data = to_plain(progress) | {"now": ours.clock.now()}
            yield event("progress", progress.sequence, data)
    stored = await ours.store.load(relaunch_id)
    data = shown(stored, now=ours.clock.now(), knowledge=ours.knowledge)
    yield event("outcome", stored.version, data)


def _failed(error: BaseException) -> None:
    _log.warning("stream_failed", reason=type(error).__name__)
