"""A batch is carried out: items are begun, a few at a time, and each one's outcome is told.

* Only what is in flight is a relaunch; the rest waits as rows of the batch, so nobody who presses a
  button finds their own relaunch queued behind a class.
* Whoever carries a batch out holds it (:meth:`~orchestrator.durable.batches.BatchStore.hold`); all
  others follow, and one of them takes it over if the holder falls silent.
* What was begun before comes first, then what is tried again, then what was never begun.
* A stop, an abort or a new holder is noticed within :data:`BEAT` seconds. What is in flight then
  comes to its end; after ``wait_seconds``, or when the caller leaves, it is left as it stands.
* Two items of one learner are never in flight at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator

from orchestrator.batch.flights import Flight
from orchestrator.batch.obstacles import Judge, in_the_way, is_systemic, word_of
from orchestrator.batch.outcomes import ItemOutcome, Obstacle, Standing
from orchestrator.batch.patience import patiently
from orchestrator.batch.pending import Pending
from orchestrator.batch.throughput import Throughput
from orchestrator.batch.watching import Watch
from orchestrator.durable.batches import OK, Batch, BatchState, StoredItem
from orchestrator.errors import StoreUnavailable
from orchestrator.logs import get_logger
from orchestrator.machine.vocabulary import State
from orchestrator.relauncher import AsyncRelauncher

_log = get_logger("orchestrator.batch")

#: Seconds between two signs of life of a holder, and how long one lasts.
BEAT = 1.0
HOLD = 5.0
#: The first items begin so many seconds apart, each gap shorter by a share, down to the least: the
#: platform's limit, if nobody knows it yet, is met by a few calls and not by hundreds.
FIRST_GAP, SHRINKS, LEAST_GAP = 0.2, 0.9, 0.005
#: Seconds between two looks for what is in the way of all.
LOOK = 0.2


class BatchRun:
    """One batch in this process, to be carried out or followed; see the module's docstring.

    What ended without success before the batch was resumed is tried once more. ``holder``: by this
    name it holds the batch, already perhaps. Lives in one event loop.
    """

    def __init__(
        self,
        relauncher: AsyncRelauncher,
        batch: Batch,
        *,
        holder: str | None = None,
    ) -> None:
        self._relauncher = relauncher
        self._store = relauncher.store
        self._clock = relauncher.clock
        self._batch = batch
        self._holder = holder or f"batch-{uuid.uuid4().hex[:12]}"
        self._flights: dict[int, Flight] = {}
        self._flying: set[asyncio.Task[None]] = set()
        self._broken: Exception | None = None
        self._ended: Counter[str] = Counter()
        self._waiting = batch.total
        #: Begun, and followed by nobody here.
        self._left_in_flight = 0
        self._api_calls = 0
        self._throughput = Throughput()
        self._judge = Judge()
        self._obstacle: Obstacle | None = None
        self._look_at = 0.0
        #: Somebody ends relaunches: perhaps the whole batch.
        self._look_first = False
        self._resumed = False
        self._store_away = False
        self._stop_reason: str | None = None
        self._wake = asyncio.Event()
        self._told: asyncio.Queue[ItemOutcome | None] = asyncio.Queue()

    @property
    def batch(self) -> Batch:
        """The batch as it was last seen."""
        return self._batch

    def stop(self, reason: str = "stopped") -> None:
        """Begin no item any more; what is in flight comes to its end."""
        if self._stop_reason is None:
            self._stop_reason = reason
        self._wake.set()

    def standing(self) -> Standing:
        """How the batch stands, as far as is known here; asks nobody."""
        now = self._clock.now()
        ok = sum(count for outcome, count in self._ended.items() if outcome in OK)
        in_flight = len(self._flights) + self._left_in_flight
        left = self._waiting + in_flight
        goes_on = self._obstacle is None and self._batch.state is BatchState.RUNNING
        return Standing(
            batch=self._batch,
            at=now,
            waiting=self._waiting,
            in_flight=in_flight,
            ok=ok,
            not_ok=sum(self._ended.values()) - ok,
            ended=dict(self._ended),
            phases=dict(Counter(flight.phase for flight in self._flights.values())),
            elapsed_seconds=(self._batch.ended_at or now) - self._batch.started_at,
            api_calls=self._api_calls,
            per_minute=self._throughput.per_minute(now),
            eta_seconds=self._throughput.eta_seconds(left, now) if goes_on and left else None,
            obstacle=self._obstacle,
        )

    async def outcomes(self) -> AsyncIterator[ItemOutcome]:
        """Carry the batch out, or follow whoever does; each item's outcome as it ends.

        Returns when the batch has ended, or was stopped or aborted and nothing is in flight (after
        ``wait_seconds``: whatever is). Leaving early leaves what is in flight to others.
        """
        going = asyncio.create_task(self._go(), name="batch")
        going.add_done_callback(lambda _: self._told.put_nowait(None))
        try:
            while (outcome := await self._told.get()) is not None:
                yield outcome
            await going
        finally:
            going.cancel()
            await asyncio.wait({going})

    # --- holding and following -------------------------------------------------------------

    async def _go(self) -> None:
        # A process that was frozen for long may find that another has the batch by now: it follows.
        while not await self._follow_and_carry_out():
            pass

    async def _follow_and_carry_out(self) -> bool:
        """Whether there is nothing more to do for this process."""
        watch = Watch(self._store, self._batch.batch_id)
        while not await patiently(self._hold):
            await patiently(lambda: self._note(watch))
            if self._stop_reason is not None:
                await self._record_stop()
            await self._clock.wait(max(BEAT, watch.rest), asyncio.Event())
        await patiently(lambda: self._note(watch))
        try:
            self._resumed = True
            while self._resumed:
                self._resumed = False
                await self._carry_out()
        finally:
            with contextlib.suppress(StoreUnavailable):
                await self._store.batches.let_go(self._batch.batch_id, self._holder)
        return self._batch.holder == self._holder

    async def _hold(self) -> bool:
        """Take the batch, or say that this process still has it; the batch as it is now."""
        now, before = self._clock.now(), self._batch.started_at
        self._batch = await self._store.batches.hold(
            self._batch.batch_id, self._holder, at=now, until=now + HOLD
        )
        if self._batch.started_at != before:
            # Resumed meanwhile: what stopped it is over, and those who failed have another try.
            self._resumed = True
            self._stop_reason, self._judge = None, Judge()
        return self._batch.holder == self._holder

    async def _note(self, watch: Watch) -> None:
        """What others have brought to an end, and how the items stand."""
        for outcome in await watch.look():
            self._throughput.ended(outcome.ended_at)
            self._told.put_nowait(outcome)
        counts = await self._store.batches.counts(self._batch.batch_id)
        self._waiting, self._left_in_flight = counts.waiting, counts.in_flight
        self._ended, self._api_calls = Counter(counts.ended), counts.api_calls

    # --- carrying out ----------------------------------------------------------------------

    async def _carry_out(self) -> None:
        pending = Pending(self._store, self._batch)
        beating = asyncio.create_task(self._beat(), name="batch beat")
        feeding = asyncio.create_task(self._feed(pending), name="batch feed")
        try:
            await asyncio.wait({beating, feeding}, return_when=asyncio.FIRST_COMPLETED)
            for task in (feeding, beating):
                if task.done():
                    task.result()
        finally:
            for task in (beating, feeding, *self._flying):
                task.cancel()
            await asyncio.wait({beating, feeding, *self._flying})
            self._left_in_flight += len(self._flights)
            self._flights.clear()

    async def _beat(self) -> None:
        """Say that this process lives, and see what others want; ends when the hold is lost."""
        held_until = self._clock.now() + HOLD
        while True:
            await self._clock.wait(BEAT, asyncio.Event())
            try:
                if not await self._hold():
                    _log.warning("batch_lost")
                    return
                held_until = self._clock.now() + HOLD
            except StoreUnavailable:
                self._store_away = self._clock.now() > held_until
            else:
                self._store_away = False
            self._wake.set()

    async def _feed(self, pending: Pending) -> None:
        """Begin items until none is left or the batch is stopped, then wait for those in flight."""
        if self._batch.state is BatchState.RUNNING:
            # Whatever is in the way of others: these are relaunches already.
            async for stored in pending.begun():
                self._begin(stored, pending)
        gap, not_before = FIRST_GAP, self._clock.now()
        while True:
            self._wake.clear()
            if self._broken is not None:
                raise self._broken
            if self._resumed:
                return
            self._look_for_obstacles()
            is_late = self._is_late()
            if is_late:
                self.stop("batch_wait")
            if self._stop_reason is not None:
                await self._record_stop()
            if is_late or (self._batch.state is not BatchState.RUNNING and not self._flights):
                await self._record_end_if_nothing_is_left()
                return
            if self._look_first:
                # Or the places of an aborted batch would be given to those who wait.
                self._look_first = False
                await patiently(self._hold)
                continue
            now = self._clock.now()
            if self._may_begin() and now >= not_before:
                if (new := await pending.next()) is not None:
                    self._begin(new, pending)
                    not_before = max(now, not_before + self._gap(gap))
                    gap = max(LEAST_GAP, gap * SHRINKS)
                    continue
                if not self._flights:
                    await self._record_end()
                    return
            seconds = not_before - now if self._may_begin() and not_before > now else BEAT
            await self._clock.wait(seconds, self._wake)

    def _may_begin(self) -> bool:
        """Whether an item may be begun, but for the pace."""
        return (
            self._batch.state is BatchState.RUNNING
            and self._obstacle is None
            and len(self._flights) < self._batch.pace.concurrency
        )

    def _gap(self, least: float) -> float:
        """Seconds from the beginning of one item to that of the next."""
        per_minute = self._batch.pace.per_minute
        return max(least, 60 / per_minute if per_minute else 0.0)

    def _is_late(self) -> bool:
        seconds = self._batch.pace.wait_seconds
        return seconds is not None and self._clock.now() >= self._batch.started_at + seconds

    def _begin(self, stored: StoredItem, pending: Pending) -> None:
        if stored.result is not None:
            self._ended[stored.result.outcome] -= 1
        elif stored.attempt:
            self._left_in_flight -= 1
        else:
            self._waiting -= 1
        flight = Flight(self._relauncher, self._batch, stored)
        self._flights[stored.item.number] = flight
        task = asyncio.create_task(self._land(stored.item.number, flight, pending))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

    async def _land(self, number: int, flight: Flight, pending: Pending) -> None:
        try:
            outcome = await flight.fly()
        except Exception as error:  # a bug of ours, which must not leave the batch waiting for ever
            self._broken = error
            self._wake.set()
            return
        del self._flights[number]
        pending.landed(flight.user_id)
        self._look_first = self._look_first or outcome.result.outcome == State.ABORTED
        self._ended[outcome.result.outcome] += 1
        self._api_calls += outcome.result.api_calls
        self._throughput.ended(outcome.ended_at)
        why = self._judge.stops(outcome.result)
        if why is None and not outcome.ok and self._batch.pace.on_error == "stop":
            why = "on_error"
        if why is not None:
            self.stop(why)
        self._told.put_nowait(outcome)
        self._wake.set()

    # --- obstacles, stops, the end ---------------------------------------------------------

    def _look_for_obstacles(self) -> None:
        now = self._clock.now()
        if now < self._look_at:
            return
        self._look_at = now + LOOK
        flights = self._flights.values()
        code = in_the_way(flight.blocked_by for flight in flights)
        if code is None and (self._store_away or any(flight.store_away for flight in flights)):
            code = "store_unavailable"
        if code is None:
            self._obstacle = None
        elif self._obstacle is None or self._obstacle.code != code:
            told = f"{word_of(code)} No new item is begun until that is over."
            self._obstacle = Obstacle(code=code, message=told, since=now)
            _log.warning("batch_paused", reason=code)

    async def _record_stop(self) -> None:
        if self._batch.state is BatchState.RUNNING:
            await self._record(BatchState.STOPPED, self._stop_reason)

    async def _record_end(self) -> None:
        await self._record(BatchState.ENDED)

    async def _record_end_if_nothing_is_left(self) -> None:
        """A batch that was stopped when its last items were in flight has ended all the same."""
        left = self._waiting + self._left_in_flight + len(self._flights)
        stopped = self._batch.state is BatchState.STOPPED
        if stopped and not left and not is_systemic(self._batch.reason):
            await self._record(BatchState.ENDED, was=BatchState.STOPPED)

    async def _record(
        self,
        state: BatchState,
        reason: str | None = None,
        *,
        was: BatchState = BatchState.RUNNING,
    ) -> None:
        """What the batch has come to, unless others have stopped or aborted it meanwhile."""

        async def change() -> Batch:
            return await self._store.batches.change(
                self._batch.batch_id,
                state,
                only_from=frozenset({was}),
                at=self._clock.now(),
                reason=reason,
            )

        self._batch = await patiently(change)
