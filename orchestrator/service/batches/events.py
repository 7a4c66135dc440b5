"""The route of a batch's events: each learner's outcome as it comes, and how the whole stands.

The store is asked, so that it is the same at every replica, whoever carries the batch out.

* The id of an event is the time of the latest end that was told by then, in milliseconds. Ends are
  not always stored in the order of their times, so whoever comes again is told those of the last
  :data:`OVERLAP` seconds before it once more: a learner's ``number`` and ``attempt`` tell which.
* Where more is told at once than is read in one go, only the last event of it has an id, so that
  one who leaves in the middle is told it all again, and misses nothing.
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

from orchestrator.batch.outcomes import Standing, plain_standing
from orchestrator.batch.throughput import Throughput
from orchestrator.durable.batches import Batch, BatchState, StoredItem
from orchestrator.durable.store import RunStore
from orchestrator.logs import get_logger
from orchestrator.service.access.door import KeyReader
from orchestrator.service.batches.keeper import Keeper
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
    """What has come to an end in a batch, each end once; those long before ``since`` are known.

    Read from the first item on that may still come to an end, so that little is read over and over.
    """

    def __init__(self, store: RunStore, batch_id: str, since: float) -> None:
        self._batches = store.batches
        self._batch_id = batch_id
        self._since = self._latest = since
        self._told: dict[int, int] = {}
        #: Whose end may not be the last one.
        self._open: set[int] = set()
        self._first = 0
        #: Seconds that the last reading took.
        self.took = 0.0

    async def new(
        self, started_at: float, *, all_over: bool = False
    ) -> AsyncGenerator[tuple[StoredItem, int | None]]:
        """What has ended since the last time, each with the id that its event has.

        Those that failed before ``started_at`` may be tried again; ``all_over``: read every item.
        """
        after = 0 if all_over else self._first
        self.took = 0.0
        is_only = True
        last: StoredItem | None = None
        while True:
            began = time.monotonic()
            page = await self._batches.items(self._batch_id, after=after, limit=PAGE, ended=True)
            self.took += time.monotonic() - began
            is_only = is_only and len(page) < PAGE
            new = [stored for stored in page if self._is_new(stored, started_at)]
            for stored in sorted(new, key=_ended_at):
                self._latest = max(self._latest, _ended_at(stored))
                if is_only:
                    yield stored, int(self._latest * 1000)
                    continue
                # Only in each page they are in order: who left now would miss some by any id.
                if last is not None:
                    yield last, None
                last = stored
            if len(page) < PAGE:
                break
            after = page[-1].item.number
        if last is not None:
            yield last, int(self._latest * 1000)
        while (number := self._first + 1) in self._told and number not in self._open:
            self._first = number

    def _is_new(self, stored: StoredItem, started_at: float) -> bool:
        number, result = stored.item.number, stored.result
        if self._told.get(number) == stored.attempt:
            return False
        self._told[number] = stored.attempt
        if result is None or result.ok or _ended_at(stored) >= started_at:
            self._open.discard(number)
        else:
            self._open.add(number)
        return _ended_at(stored) >= self._since - OVERLAP


def _ended_at(stored: StoredItem) -> float:
    return stored.ended_at or 0.0


async def _events(
    batch_id: str, since: float, ours: ServiceParts, keeper: Keeper
) -> AsyncGenerator[bytes]:
    ends, throughput = Ends(ours.store, batch_id, since), Throughput()
    seen: dict[str, Any] | None = None
    while True:
        # The batch first: once it has ended, so has every item that is read after it.
        batch = await ours.store.batches.load(batch_id)
        stands = await standing(batch, ours, keeper)
        told = without_clocks(plain_standing(stands))
        is_over = _is_over(batch, ours.clock.now())
        if is_over or told != seen:
            seen = told
            async for stored, place in ends.new(batch.started_at, all_over=is_over):
                throughput.ended(stored.ended_at or 0.0)
                yield event("learner", place, shown_learner(batch_id, stored))
            if is_over:
                yield event(batch.state.value, None, plain_standing(stands))
                return
            if keeper.standing(batch_id) is None:
                stands = _measured(stands, throughput)
            yield event("standing", None, plain_standing(stands))
        await ours.clock.wait(max(LOOK, _REST * ends.took), asyncio.Event())


def _measured(stands: Standing, throughput: Throughput) -> Standing:
    """With the pace as it is seen from here, where another process carries the batch out."""
    left = stands.waiting + stands.in_flight
    return replace(
        stands,
        per_minute=throughput.per_minute(stands.at),
        eta_seconds=throughput.eta_seconds(left, stands.at),
    )


def _is_over(batch: Batch, at: float) -> bool:
    """Whether nothing more will come of it, until it is resumed."""
    # While somebody holds it, those in flight are still brought to their ends.
    return batch.state is not BatchState.RUNNING and not batch.is_held(at)


def _since(last_event_id: str | None) -> float:
    """The time; 0 for what no event of ours had as its id."""
    if last_event_id is None or not last_event_id.isdecimal() or len(last_event_id) > 18:
        return 0.0
    return int(last_event_id) / 1000


def _failed(error: BaseException) -> None:
    _log.warning("stream_failed", reason=type(error).__name__)
