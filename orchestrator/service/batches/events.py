"""The route of a batch's events: each learner's outcome as it comes, and how the whole stands.

The store is asked, so that it is the same at every replica, whoever carries the batch out.

* The id of an event is the time of the latest end that was told by then, in milliseconds. Ends are
  not always stored in the order of their times, so whoever comes again is told those of the last
  :data:`OVERLAP` seconds before it once more: a learner's ``number`` and ``attempt`` tell which.
* What is told at once has one id, with its last event: one who leaves in the middle misses nothing.
* How the batch stands has no id, and is told at most once in :data:`LOOK` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header

from orchestrator.batch.outcomes import plain_standing
from orchestrator.batch.throughput import Throughput
from orchestrator.durable.batches import Batch, BatchState, StoredItem
from orchestrator.durable.store import RunStore
from orchestrator.logs import get_logger
from orchestrator.service.access.door import KeyReader
from orchestrator.service.batches.keeper import Keeper, is_held
from orchestrator.service.batches.routes import BatchId, Kept, standing, without_clocks
from orchestrator.service.batches.showing import shown_learner
from orchestrator.service.events import EventStream
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.representations import problems
from orchestrator.service.streams import Stream, event

router = APIRouter(tags=["batches"])

_log = get_logger("orchestrator.service")

#: Seconds between two looks.
LOOK = 1.0
#: How far back of its id one who comes again is told, in seconds.
OVERLAP = 30.0
#: Items that are read at once.
PAGE = 500
#: How long to rest after a look, in times of what it took.
_REST = 9.0

_EXAMPLE = (
    'event: learner\nid: 1790000062500\ndata: {"number": 1, "user_id": "ada", ...}\n\n'
    'event: standing\ndata: {"state": "running", "ok": 1, ...}\n\n'
    'event: ended\ndata: {"state": "ended", "ok": 500, ...}\n\n'
)
#: Each of the events.
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {
            "type": "string",
            "enum": ["learner", "standing", "ended", "stopped", "aborted"],
        },
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


@router.get(
    "/batches/{batch_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {
            "description": "`learner` events (a learner's outcome each), `standing` events (the "
            "batch, when something has changed), and at the end one `ended`, `stopped` or "
            "`aborted` event (the batch), which is sent again to whoever comes later. A stream "
            "that ends without it is to be asked for again.",
            "content": {"text/event-stream": {"schema": _EVENT, "example": _EXAMPLE}},
        },
        **problems(404),
    },
)
async def follow_batch(
    batch_id: BatchId,
    ours: Ours,
    keeper: Kept,
    caller: KeyReader,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="The id of the last event that was seen; what is none counts as 0.",
        ),
    ] = None,
) -> EventStream:
    """Follow a batch from what ended after ``Last-Event-ID``, or from its beginning.

    Whoever comes again may be told some learners twice (by ``number`` and ``attempt``), and misses
    none.
    """
    await ours.store.batches.load(batch_id)
    with contextlib.ExitStack() as place:
        # Refused here, not in the middle of the answer.
        place.enter_context(ours.limits.stream(caller))
        place.enter_context(ours.metrics.stream())
        stream = Stream(
            _events(batch_id, _since(last_event_id), ours, keeper),
            clock=ours.clock,
            heartbeat=ours.options.heartbeat_seconds,
            retry_milliseconds=ours.options.retry_milliseconds,
            ends_at=caller.expires_at,
            failed=_failed,
        )
        return EventStream(stream, ours, place.pop_all())
    raise AssertionError("an exit stack swallows nothing")


class Ends:
    """What has come to an end in a batch, each once; those of before ``since`` are known.

    Read from the first item on that has not ended, so that little is read over and over.
    """

    def __init__(self, store: RunStore, batch_id: str, since: float) -> None:
        self._batches = store.batches
        self._batch_id = batch_id
        self._since = since
        self._told: dict[int, int] = {}
        self._first = 0
        self._latest = since
        #: Seconds that the last reading took.
        self.took = 0.0

    @property
    def latest(self) -> int:
        """The time of the latest end so far, in milliseconds."""
        return int(self._latest * 1000)

    def all_over(self) -> None:
        """Items may be begun again, wherever they are."""
        self._first = 0

    async def new(self) -> AsyncGenerator[list[StoredItem]]:
        """What has ended since the last time, a page at a time."""
        after, self.took = self._first, 0.0
        while True:
            began = time.monotonic()
            page = await self._batches.items(self._batch_id, after=after, limit=PAGE, ended=True)
            self.took += time.monotonic() - began
            yield sorted(
                (stored for stored in page if self._is_new(stored)),
                key=lambda stored: stored.ended_at or 0.0,
            )
            if len(page) < PAGE:
                break
            after = page[-1].item.number
        while self._first + 1 in self._told:
            self._first += 1

    def _is_new(self, stored: StoredItem) -> bool:
        number, ended_at = stored.item.number, stored.ended_at or 0.0
        if self._told.get(number) == stored.attempt:
            return False
        self._told[number] = stored.attempt
        self._latest = max(self._latest, ended_at)
        return ended_at >= self._since - OVERLAP


async def _events(
    batch_id: str, since: float, ours: ServiceParts, keeper: Keeper
) -> AsyncGenerator[bytes]:
    ends, throughput = Ends(ours.store, batch_id, since), Throughput()
    seen: dict[str, Any] | None = None
    started_at: float | None = None
    while True:
        # The batch first: once it has ended, so has every item that is read after it.
        batch = await ours.store.batches.load(batch_id)
        stands = await standing(batch, ours, keeper)
        if batch.started_at != started_at:
            started_at = batch.started_at
            ends.all_over()
        is_over = _is_over(batch, stands.in_flight, ours.clock.now())
        told = plain_standing(stands)
        if is_over or without_clocks(told) != seen:
            seen = without_clocks(told)
            last: StoredItem | None = None
            async for page in ends.new():
                for stored in page:
                    throughput.ended(stored.ended_at or 0.0)
                    if last is not None:
                        yield event("learner", None, shown_learner(batch_id, last))
                    last = stored
            if last is not None:
                yield event("learner", ends.latest, shown_learner(batch_id, last))
            if is_over:
                yield event(batch.state.value, None, told)
                return
            if keeper.standing(batch_id) is None:
                left, now = stands.waiting + stands.in_flight, stands.at
                stands = replace(
                    stands,
                    per_minute=throughput.per_minute(now),
                    eta_seconds=throughput.eta_seconds(left, now),
                )
                told = plain_standing(stands)
            yield event("standing", None, told)
        await ours.clock.wait(max(LOOK, _REST * ends.took), asyncio.Event())


def _is_over(batch: Batch, in_flight: int, at: float) -> bool:
    """Whether nothing more will come of it, until it is resumed."""
    if batch.state is BatchState.RUNNING:
        return False
    return batch.state is BatchState.ENDED or not in_flight or not is_held(batch, at)


def _since(last_event_id: str | None) -> float:
    """The time; 0 for what no event of ours had as its id."""
    if last_event_id is None or not last_event_id.isdecimal() or len(last_event_id) > 18:
        return 0.0
    return int(last_event_id) / 1000


def _failed(error: BaseException) -> None:
    _log.warning("stream_failed", reason=type(error).__name__)
