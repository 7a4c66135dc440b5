"""The route of a relaunch's events, as they come: server-sent events that can be taken up again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
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
from orchestrator.service.relaunches import RelaunchId, visible
from orchestrator.service.representations import problems
from orchestrator.service.showing import shown
from orchestrator.service.streams import Stream, event, opening

router = APIRouter(tags=["relaunches"])

_log = get_logger("orchestrator.service")

#: The phases of a relaunch that has ended.
_ENDS = frozenset(state.value for state in State if state.is_terminal)
#: No proxy may keep the events back, and nobody may keep them.
_HEADERS = {"Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no"}
_EXAMPLE = (
    'event: progress\nid: 6\ndata: {"sequence": 6, "phase": "tearing_down", ...}\n\n'
    'event: outcome\nid: 9\ndata: {"relaunch_id": ..., "outcome": "launched", ...}\n\n'
)


class EventStream(StreamingResponse):
    """A response of server-sent events, which gives the stream's place free at its end."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncGenerator[bytes], place: contextlib.ExitStack) -> None:
        super().__init__(content, headers=_HEADERS)
        self._content = content
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        # Closed at once, also where the client leaves while it is being sent to.
        with self._place:
            async with contextlib.aclosing(self._content):
                await super().__call__(scope, receive, send)


@router.get(
    "/relaunches/{relaunch_id}/events",
    status_code=200,
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
async def follow_relaunch(
    relaunch_id: RelaunchId,
    ours: Ours,
    caller: Reader,
    last_event_id: Annotated[
        str | None,
        Header(description="The id of the last event that was seen; what is none counts as 0."),
    ] = None,
) -> StreamingResponse:
    """Follow a relaunch from the event after ``Last-Event-ID``, or from its beginning."""
    await visible(relaunch_id, ours, caller)
    with contextlib.ExitStack() as place:
        # Refused here, not in the middle of the answer.
        place.enter_context(ours.limits.stream(caller))
        place.enter_context(ours.metrics.stream())
        return EventStream(
            _stream(relaunch_id, _after(last_event_id), ours, caller), place.pop_all()
        )
    raise AssertionError("an exit stack swallows nothing")


async def _stream(
    relaunch_id: str, after: int, ours: ServiceParts, caller: Caller
) -> AsyncGenerator[bytes]:
    stream = Stream(
        _events(relaunch_id, after, ours),
        clock=ours.clock,
        heartbeat=ours.options.heartbeat_seconds,
        ends_at=caller.expires_at,
        failed=_failed,
    )
    with ours.streams.opened(stream):
        yield opening(ours.options.retry_milliseconds)
        async with contextlib.aclosing(stream.lines()) as lines:
            async for piece in lines:
                yield piece


async def _events(relaunch_id: str, after: int, ours: ServiceParts) -> AsyncGenerator[bytes]:
    handle = await ours.relauncher.attach(relaunch_id)
    async for progress in handle.events(after=after):
        if progress.phase not in _ENDS:
            data = to_plain(progress) | {"now": ours.clock.now()}
            yield event("progress", progress.sequence, data)
    stored = await ours.store.load(relaunch_id)
    data = shown(stored, now=ours.clock.now(), knowledge=ours.knowledge)
    yield event("outcome", stored.version, data)


def _after(last_event_id: str | None) -> int:
    """The sequence number; 0 for what no event of ours had as its id."""
    if last_event_id is None or not last_event_id.isdecimal() or len(last_event_id) > 18:
        return 0
    return int(last_event_id)


def _failed(error: BaseException) -> None:
    _log.warning("stream_failed", reason=type(error).__name__)
