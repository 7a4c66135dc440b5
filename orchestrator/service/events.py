"""The route of a relaunch's events, as they come: server-sent events that can be taken up again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Response
from starlette.types import Message, Receive, Scope, Send

from orchestrator.logs import get_logger
from orchestrator.machine.vocabulary import State
from orchestrator.plain import to_plain
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
#: Each of the events.
_EVENT = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "outcome"]},
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


class EventStream(Response):
    """The answer that is one stream. ``place`` is given free at its end.

    A streaming response of Starlette would do the same with one task more for each client.
    """

    media_type = "text/event-stream"

    def __init__(self, stream: Stream, ours: ServiceParts, place: contextlib.ExitStack) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._stream = stream
        self._ours = ours
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, until it ends or nobody is there."""
        with (
            self._place,
            self._ours.streams.opened(self._stream),
            contextlib.suppress(TimeoutError),  # the client has left
        ):
            async with asyncio.timeout(None) as sending:
                leaving = asyncio.create_task(_end_when_left(receive, sending))
                try:
                    await self._send(send)
                finally:
                    leaving.cancel()

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send(_body(opening(self._ours.options.retry_milliseconds)))
        # Closed at once, also where the client leaves while it is being sent to.
        async with contextlib.aclosing(self._stream.lines()) as lines:
            async for piece in lines:
                await send(_body(piece))
        await send(_body(b"", more=False))


async def _end_when_left(receive: Receive, sending: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.reschedule(asyncio.get_running_loop().time())


def _body(piece: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more}


@router.get(
    "/relaunches/{relaunch_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "`progress` events (a step each; the id is its sequence number), and "
            "one `outcome` event (the relaunch) at the end, which is sent again to whoever comes "
            "later. A stream that ends without it is to be asked for again.",
            "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
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
        Header(
            alias="Last-Event-ID",
            description="The id of the last event that was seen; what is none counts as 0.",
        ),
    ] = None,
) -> EventStream:
    """Follow a relaunch from the event after ``Last-Event-ID``, or from its beginning."""
    await visible(relaunch_id, ours, caller)
    with contextlib.ExitStack() as place:
        # Refused here, not in the middle of the answer.
        place.enter_context(ours.limits.stream(caller))
        place.enter_context(ours.metrics.stream())
        stream = Stream(
            _events(relaunch_id, _after(last_event_id), ours),
            clock=ours.clock,
            heartbeat=ours.options.heartbeat_seconds,
            retry_milliseconds=ours.options.retry_milliseconds,
            ends_at=caller.expires_at,
            failed=_failed,
        )
        return EventStream(stream, ours, place.pop_all())
    raise AssertionError("an exit stack swallows nothing")


async def _events(relaunch_id: str, after: int, ours: ServiceParts) -> AsyncGenerator[bytes]:
    # The handle is not kept: it has the whole run with it, for as long as somebody looks on.
    told = (await ours.relauncher.attach(relaunch_id)).events(after=after)
    async for progress in told:
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
