"""The durable driver: the async one, with a journal. Each step is stored before its call is made.

Whoever drives a run holds its lease. A run is left as it was stored, for whoever goes on with it,
when the lease is lost, when the process ends, and, if told so, when its wait is long: then it is
parked and costs no memory. While the store is away the driver tries again and makes no call.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from orchestrator.drivers import drive_async
from orchestrator.durable.store import STANDING, Entry, RunStore, Signals, Step, StoredRun
from orchestrator.errors import LeaseLost, StoreError, StoreUnavailable
from orchestrator.logs import get_logger
from orchestrator.machine import vocabulary as v
from orchestrator.machine.vocabulary import State
from orchestrator.ports import AsyncCancelStep, AsyncClock, AsyncPlatform, Observer
from orchestrator.progress import Progress
from orchestrator.requests import Priority
from orchestrator.session import Schedules, Session
from orchestrator.traffic.guard import before_effect, priority

T = TypeVar("T")

_log = get_logger("orchestrator.durable")

#: Seconds for which what the store has said shows that the lease is ours. Whoever takes a run over
#: looks for much longer what a call that was about to be made has done.
FRESH = 2.0
#: Seconds between two questions whether it is this run's turn to begin: so many, and so many more
#: for each that is before it, but never so many that its place would be lost.
ASK_AGAIN, ASK_AGAIN_FOR_EACH = 1.0, 0.05


#: What a bulk run may take of ``most_in_flight``: whoever presses a button then finds a place.
BULK_SHARE = 0.75


#: Is told the id of a run that has ended.
OnEnd = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker of a fleet may be told.

    It drives up to ``concurrency`` runs, says every ``heartbeat_seconds`` that it lives, and is
    taken for dead when it has been silent for ``stalled_after_seconds``.
    """

    concurrency: int = 1000
    heartbeat_seconds: float = 1.0
    stalled_after_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a driver needs of the world, injected.

    ``most_in_flight``: how many relaunches of the API consumer may be between their beginning and
    their end at a time; the others stand in line. A bulk run begins none while so many are that
    only a quarter is left. ``None``: any number. ``on_end`` is called with
    the id of each run whose last step this process has recorded; it must not raise and be quick.
    """

    store: RunStore
    platform: AsyncPlatform
    steps: Mapping[str, AsyncCancelStep]
    clock: AsyncClock
    schedules: Schedules = field(default_factory=Schedules)
    observer: Observer | None = None
    most_in_flight: int | None = None
    worker: WorkerOptions = field(default_factory=WorkerOptions)
    on_end: OnEnd | None = None


class Driven:
    """One claimed run, driven by :meth:`drive`; the rest may be called meanwhile, in its loop."""

    def __init__(
        self,
        stored: StoredRun,
        parts: Parts,
        *,
        park_after: float = math.inf,
        stepped: Callable[[], object] = lambda: None,
    ) -> None:
        self._parts = parts
        self._stepped = stepped
        self._stored = stored
        self._park_after = park_after
        self._session = Session(
            stored.run,
            parts.schedules,
            parts.observer,
            sequence=stored.version,
            api_calls=stored.api_calls,
            wake_at=stored.due_at if stored.version else None,
            keep_events=False,
        )
        self._seen = stored.hints_seen
        self._told = stored.hints_seen
        self._leaving = False
        self._recording = False
        self._told_end = False
        #: When the store was last asked for what shows that the lease is ours.
        self._sure_since = -math.inf
        #: Whether another process was found to have the lease.
        self.lost = False

    @property
    def run_ended(self) -> bool:
        """Whether the run has ended, as far as this driver knows."""
        return self._session.run.state.is_terminal

    @property
    def is_idle(self) -> bool:
        """Whether it only waits, so that the task may be cancelled without a loss."""
        waits = isinstance(self._session.command, v.Wait | v.StandInLine)
        return waits and not self._recording

    @property
    def wake_at(self) -> float:
        """When a parked run is to be gone on with."""
        return self._session.wake_at

    def leave(self) -> None:
        """Stop after the step that is under way, and leave the run to others."""
        self._leaving = True

    def take(self, signals: Signals) -> None:
        """Take note of what was stored for the run from outside."""
        if signals.hints > self._told and signals.hinted is not None:
            self._told = signals.hints
            self._session.inbox.hint(signals.hinted)
        if signals.abort_requested and not self._session.inbox.abort_requested:
            self._session.inbox.abort()

    async def drive(self) -> None:
        """Go on to the end, or until the run is parked or lost; never raises for either."""
        parts, session = self._parts, self._session
        tokens = before_effect.set(self._check), priority.set(self._stored.priority)
        try:
            await self._recall_the_wait()
            self.take(self._stored.signals)
            if session.run.state is State.NEW and not await self._stand_in_line():
                return
            driving = drive_async(
                session,
                parts.platform,
                parts.steps,
                parts.clock,
                leave_on=(GeneratorExit, asyncio.CancelledError, StoreError),
                before_effect=self._check,
            )
            async with contextlib.aclosing(driving):
                async for progress in driving:
                    await self._record(progress)
                    if self._is_to_be_left():
                        return
        except LeaseLost:
            self.lost = True
            _log.info("lease_lost", relaunch_id=session.run.relaunch_id)
        except Exception as error:
            # A bug in a port: the async driver has ended the run as aborted, so that it is told.
            _log.warning(
                "port_failed", relaunch_id=session.run.relaunch_id, reason=type(error).__name__
            )
            if not session.run.state.is_terminal or session.last is None:
                raise
            with contextlib.suppress(LeaseLost):
                await self._record(session.last)
        finally:
            before_effect.reset(tokens[0])
            priority.reset(tokens[1])

    def _is_to_be_left(self) -> bool:
        session = self._session
        if session.command is None:
            return False
        if self._leaving:
            return True
        if not isinstance(session.command, v.Wait) or self._inbox_has_something():
            return False
        return session.wake_at - self._parts.clock.now() > self._park_after

    def _inbox_has_something(self) -> bool:
        inbox = self._session.inbox
        return bool(inbox.hints) or inbox.abort_requested

    async def _recall_the_wait(self) -> None:
        """A hint made the run due early; what it waits for is not over because of that."""
        stored = self._stored
        if not stored.version or stored.signals.hints <= stored.hints_seen:
            return
        last = await self._patiently(
            lambda: self._parts.store.journal(stored.run.relaunch_id, after=stored.version - 1)
        )
        if last and last[-1].progress.next_look_at is not None:
            self._session.wake_at = last[-1].progress.next_look_at

    async def _stand_in_line(self) -> bool:
        """Wait for this run's turn; says whether it has come (or the run is to end in line)."""
        parts, session = self._parts, self._session
        if parts.most_in_flight is None:
            return True
        most = parts.most_in_flight
        if self._stored.priority is not Priority.BUTTON:
            most = max(1, int(BULK_SHARE * most))
        wakeup = asyncio.Event()
        session.inbox.connect(wakeup.set)
        while parts.clock.now() < session.run.deadline_at and not session.inbox.abort_requested:
            ahead = await self._patiently(
                lambda: parts.store.admit(
                    session.run.relaunch_id,
                    at=parts.clock.now(),
                    most=most,
                )
            )
            if ahead is None:
                return True
            if ahead != session.run.ahead:
                await self._record(session.queue(ahead, parts.clock.now()))
            if self._leaving:
                return False
            patience = min(ASK_AGAIN + ASK_AGAIN_FOR_EACH * ahead, STANDING / 2)
            await parts.clock.wait(patience, wakeup)
            wakeup.clear()
        return True

    async def _record(self, progress: Progress) -> None:
        """Store the step that was just taken; only then may the call that it announces be made."""
        session = self._session
        if not session.inbox.hints:
            self._seen = self._told
        waiting = isinstance(session.command, v.Wait)
        launching = isinstance(session.command, v.Launch)
        step = Step(
            run=session.run,
            entry=Entry(
                event=session.event,
                progress=progress,
                tag=session.run.tag if launching else None,
            ),
            epoch=self._stored.epoch,
            due_at=session.wake_at if waiting else progress.at,
            api_calls=session.api_calls,
            hints_seen=self._seen,
        )
        self._recording = True
        try:
            signals = await self._surely(lambda: self._parts.store.append(step))
        finally:
            self._recording = False
        self._stepped()
        if session.run.state.is_terminal and not self._told_end and self._parts.on_end is not None:
            self._told_end = True
            self._parts.on_end(session.run.relaunch_id)
        self.take(signals)

    async def _surely(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call of the store that shows, by its answer, that the lease was ours."""

        async def ask() -> tuple[float, T]:
            # Before it is asked: how long the answer was under way, nobody knows.
            asked_at = self._parts.clock.now()
            return asked_at, await call()

        self._sure_since, answer = await self._patiently(ask)
        return answer

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call of the store while the store is away; the run's deadline bounds nothing."""
        try:
            return await call()
        except StoreUnavailable:
            _log.warning("store_unavailable", relaunch_id=self._stored.run.relaunch_id)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            sleep=self._sleep,
        ):
            with attempt:
                return await call()
        raise AssertionError("tenacity ends only by an answer or an error")

    async def _sleep(self, seconds: float) -> None:
        await self._parts.clock.wait(seconds, asyncio.Event())

    async def _check(self) -> None:
        """Right before a call with an effect: is the lease still ours? It was, when last stored."""
        store, relaunch_id = self._parts.store, self._stored.run.relaunch_id
        # Once more if the process, or the answer, stood still meanwhile.
        while self._parts.clock.now() - self._sure_since >= FRESH:
            if not await self._surely(lambda: store.holds(relaunch_id, self._stored.epoch)):
                raise LeaseLost(f"Relaunch {relaunch_id} is driven by another process now.")
