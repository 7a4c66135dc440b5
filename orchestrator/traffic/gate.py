"""The gate that every call of a process passes: who calls next, and who is sent away for now.

* While nothing is limited, paused or out of order, a call passes without asking the shared state;
  that is looked at once in :data:`REFRESH` seconds at most.
* Else it takes its place in the line: by :class:`~.rank.Rank`, then first come. One task asks the
  shared budget for the whole line at once.
* Nobody is held for a turn further away than :data:`PATIENCE`, but sent away by a ``NotSent`` error
  with ``retry_after``, each one a little later than the one before, so that they come back one by
  one. A relaunch that backs off costs nothing meanwhile. Where nothing is limited, nobody is.
* Nothing is ever sent twice, and an answer is handed on whatever becomes of the shared state: where
  a store fails, the process goes on with what it last knew.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from bisect import bisect, insort
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from orchestrator.clocks import AsyncSystemClock
from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    KeyRejected,
    NotSent,
    PlatformUnreachable,
    RateLimited,
    StoreError,
)
from orchestrator.logs import get_logger
from orchestrator.ports import AsyncClock
from orchestrator.traffic import budget, guard, shared
from orchestrator.traffic.line import Permit, Return, Waiter, sent_away
from orchestrator.traffic.pace import (
    AFTER_OUTAGE,
    LEAST_RATE,
    Circuit,
    Limits,
    Pace,
    is_calm,
    opens_at,
    rate,
    sent,
    window,
)
from orchestrator.traffic.rank import Rank, rank_of
from orchestrator.traffic.served import Served
from orchestrator.traffic.shared import Change, InProcess, Shared, Traffic, Verdict
from orchestrator.traffic.snapshot import Snapshot

T = TypeVar("T")

_log = get_logger("orchestrator.traffic")

#: Seconds for which a caller is held at most (and never for more than half of its time-out).
PATIENCE = 3.0
#: Seconds after which what other processes have met is looked up.
REFRESH = 1.0
#: Seconds after which to see whose turn has become too far away, where nothing slowed them down.
LOOK_OVER = 0.25
#: As many calls are asked for at once.
BATCH = 100
#: A call that was given fewer seconds than this, and got no answer, doesn't tell of an outage.
SHORT = 5.0


class Gate:
    """See the module's docstring. One for each process (or platform) and API consumer.

    ``state`` is what all processes share, under ``name``; without one, the process is alone.
    ``jitter`` gives numbers from 0 to 1. Raises :class:`~orchestrator.errors.ConfigurationError` if
    pyrate-limiter is missing.
    """

    def __init__(
        self,
        state: Shared | None = None,
        *,
        limits: Limits | None = None,
        clock: AsyncClock | None = None,
        jitter: Callable[[], float] = random.random,
        name: str = "traffic",
    ) -> None:
        budget.check_library()
        self._state: Shared = state or InProcess()
        self._limits = limits or Limits()
        self._clock = clock or AsyncSystemClock()
        self._return = Return(jitter)
        self._served = Served()
        self._name = name
        self._traffic = Traffic()
        self._seen_at = -math.inf
        self._calm = False
        #: Calls that went without asking, and are not in the shared state yet.
        self._unasked = 0
        self._changes = itertools.count(1)
        self._newest = 0
        self._line: list[Waiter] = []
        self._order = itertools.count()
        #: When to see whose turn is too far away by now, and what had slowed them the last time.
        self._look_over_at, self._slowed = 0.0, tuple[object, ...]()
        self._pump: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        #: From when on the bucket has a token for a call of a rank.
        self._token_from: Mapping[Rank, float] = {}

    async def through(
        self,
        operation: str,
        send: Callable[[float], Awaitable[T]],
        *,
        timeout: float,
        effect: bool = False,
        urgent: bool | None = None,
    ) -> T:
        """Make a call when it is its turn; ``send`` gets the seconds that are left for it.

        ``urgent``, if not told, is what has an ``effect``. Raises
        :class:`~orchestrator.errors.HeldBack` (or its ``PlatformPaused``)
        if its turn is too far away (nothing was sent), whatever :data:`.guard.before_effect`
        raises (likewise), and what ``send`` does.
        """
        began = self._clock.now()
        permit = await self._enter(operation, effect if urgent is None else urgent, timeout, began)
        try:
            if effect:
                await guard.check()
        except BaseException:
            await self._leave_unsent(permit)
            raise
        sent_at = self._clock.now()
        left = timeout - (sent_at - began)
        try:
            answer = await send(left)
        except RateLimited as error:
            await self._tell_rate_limited(permit, error, sent_at)
            raise
        except (AnswerLost, PlatformUnreachable) as error:
            own_impatience = type(error) is AnswerLost and left < SHORT
            if permit.trial or not own_impatience:
                await self._tell_failed(permit, error)
            raise
        except (CallRefused, KeyRejected):
            await self._tell_answered(permit, sent_at)
            raise
        except BaseException:
            await self._leave_unsent(permit)
            raise
        await self._tell_answered(permit, sent_at)
        return answer

    def snapshot(self) -> Snapshot:
        """How things stand, as far as this process knows."""
        now, pace = self._clock.now(), self._traffic.pace
        closed = pace.circuit is Circuit.CLOSED
        return Snapshot(
            calls_per_second=sent(pace, self._unasked, now).flow,
            limit=rate(pace, self._limits, now),
            paused_until=pace.paused_until if pace.paused_until > now else None,
            circuit=pace.circuit,
            trial_at=None if closed else opens_at(pace, now, urgent=False),
            waiting=len(self._line),
        )

    async def look(self) -> Snapshot:
        """How things stand, asked of the shared state."""
        await self._change(self._asking(()))
        return self.snapshot()

    # --- in ---------------------------------------------------------------------------------

    async def _enter(self, operation: str, urgent: bool, timeout: float, now: float) -> Permit:
        if now - self._seen_at >= REFRESH:
            self._seen_at = now  # those who come meanwhile needn't ask as well
            await self._change(self._asking(()))
        if self._calm:
            self._unasked += 1
            return Permit(self._traffic.pace.cuts)
        waiter = Waiter(
            rank=rank_of(urgent=urgent, priority=guard.priority.get()),
            order=next(self._order),
            operation=operation,
            latest=now + min(PATIENCE, timeout / 2),
            useless_from=now + timeout / 2,
            permit=asyncio.get_running_loop().create_future(),
        )
        turn = self._turn(waiter.rank, bisect(self._line, waiter), now)
        if turn > waiter.latest:
            raise self._sent_away(waiter, turn, now)
        insort(self._line, waiter)
        self._look_over_at = min(self._look_over_at, waiter.useless_from)
        self._keep_asking()
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            await self._give_back(waiter)
            raise

    async def _give_back(self, waiter: Waiter) -> None:
        """A caller that is cancelled leaves the line; a permit it had got goes to the next."""
        if waiter in self._line:
            self._line.remove(waiter)
        if not waiter.permit.done() or waiter.permit.cancelled() or waiter.permit.exception():
            return
        permit = waiter.permit.result()
        for other in self._line:
            if not other.permit.done() and not permit.trial:
                other.permit.set_result(permit)
                self._line.remove(other)
                return
        await self._leave_unsent(permit)

    def _turn(self, rank: Rank, ahead: int, now: float) -> float:
        """When it is the turn of a call that has so many before it."""
        pace = self._traffic.pace
        opens = max(opens_at(pace, now, urgent=rank.is_urgent), now)
        if pace.circuit is not Circuit.CLOSED:
            return opens if ahead == 0 else opens + PATIENCE
        token_from = self._token_from.get(rank, 0.0)
        if token_from <= opens == now:
            return now  # there may be tokens for all of them: the bucket knows
        begins = max(opens, token_from)
        limit = rate(pace, self._limits, begins)
        return begins if limit is None else begins + ahead / limit

    def _sent_away(self, waiter: Waiter, turn: float, now: float) -> NotSent:
        pace = self._traffic.pace
        outage = pace.circuit is not Circuit.CLOSED
        limit = rate(pace, self._limits, turn)
        if outage or limit is None:
            limit = max(LEAST_RATE, AFTER_OUTAGE * pace.goal)
        seconds = self._return.after(turn, rank=waiter.rank, rate=limit, now=now)
        _log.debug("call_held_back", operation=waiter.operation, seconds=round(seconds, 3))
        return sent_away(waiter.operation, seconds, outage=outage)

    # --- the line ---------------------------------------------------------------------------

    def _keep_asking(self) -> None:
        if self._pump is None or self._pump.done():
            self._arrived = asyncio.Event()
            self._pump = asyncio.get_running_loop().create_task(self._ask_for_the_line())
        else:
            self._arrived.set()

    async def _ask_for_the_line(self) -> None:
        """Ask for everybody in line until nobody is; whatever goes wrong is theirs."""
        try:
            while self._line:
                self._send_away(now := self._clock.now())
                if not self._line:
                    break
                first = min(self._turn(rank, 0, now) for rank in {w.rank for w in self._line})
                if first > now:
                    self._arrived.clear()
                    seconds = max(min(first, self._look_over_at) - now, 0.001)
                    await self._clock.wait(seconds, self._arrived)
                if self._clock.now() >= first:
                    asked = self._line[:BATCH]
                    verdict = await self._change(self._asking(tuple(w.rank for w in asked)))
                    self._token_from = verdict.free_from
                    await self._admit([asked[n] for n in verdict.admitted], verdict)
                    if self._calm:
                        self._let_everybody_through()
        except BaseException as error:
            line, self._line = self._line, []
            for waiter in line:
                if isinstance(error, Exception) and not waiter.permit.done():
                    waiter.permit.set_exception(error)
                else:
                    waiter.permit.cancel()
            if not isinstance(error, Exception):
                raise

    async def _admit(self, admitted: list[Waiter], verdict: Verdict) -> None:
        permit = Permit(verdict.traffic.pace.cuts, verdict.trial)
        for waiter in admitted:
            if waiter.permit.done():  # cancelled while its permit was fetched
                await self._leave_unsent(permit)
            else:
                waiter.permit.set_result(permit)
                self._line.remove(waiter)

    def _let_everybody_through(self) -> None:
        """Nothing is limited: nobody has to stand in line to hear that."""
        line, self._line = self._line, []
        for waiter in line:
            if not waiter.permit.done():
                self._unasked += 1
                waiter.permit.set_result(Permit(self._traffic.pace.cuts))

    def _send_away(self, now: float) -> None:
        pace = self._traffic.pace
        slowed = (pace.cuts, pace.paused_until, pace.circuit)
        if now < self._look_over_at and slowed == self._slowed:
            return
        staying: list[Waiter] = []
        for waiter in self._line:
            turn = self._turn(waiter.rank, len(staying), now)
            if waiter.permit.done():
                continue
            # Where only the shared state is slow to answer, it is nobody's turn to come back later.
            if turn > max(now, waiter.latest) or now > waiter.useless_from:
                waiter.permit.set_exception(self._sent_away(waiter, turn, now))
            else:
                staying.append(waiter)
        self._line, self._slowed = staying, slowed
        self._look_over_at = min([now + LOOK_OVER, *(w.useless_from for w in staying)])

    # --- out --------------------------------------------------------------------------------

    async def _tell_answered(self, permit: Permit, sent_at: float) -> None:
        """Nothing to tell, mostly: that one was answered is news only after outages."""
        self._served.note(sent_at)
        if permit.trial or self._traffic.pace.outages:
            await self._change(
                shared.tell_answered(trial=permit.trial, limits=self._limits, at=self._clock.now())
            )

    async def _tell_failed(self, permit: Permit, error: AnswerLost | PlatformUnreachable) -> None:
        before = self._traffic.pace.circuit
        verdict = await self._change(
            shared.tell_failed(
                retry_after=error.retry_after,
                trial=permit.trial,
                already_sent=self._take_unasked(),
                limits=self._limits,
                at=self._clock.now(),
            )
        )
        pace = verdict.traffic.pace
        if before is not Circuit.OPEN and pace.circuit is Circuit.OPEN:
            _log.warning(
                "platform_out_of_order",
                operation=error.operation,
                reason=error.code,
                seconds=round(pace.turn_at - self._clock.now(), 3),
            )

    async def _tell_rate_limited(self, permit: Permit, error: RateLimited, sent_at: float) -> None:
        at = self._clock.now()
        self._served.turned_away(sent_at)
        verdict = await self._change(
            shared.tell_rate_limited(
                retry_after=error.retry_after,
                cuts=permit.cuts,
                trial=permit.trial,
                already_sent=self._take_unasked(),
                limits=self._limits,
                at=at,
                sent_at=sent_at,
                served=self._served.per_second(sent_at, window(error.retry_after)),
            )
        )
        seconds = round(verdict.traffic.pace.paused_until - at, 3)
        _log.warning("rate_limited", operation=error.operation, seconds=seconds)

    async def _leave_unsent(self, permit: Permit) -> None:
        """A permit that led to no call, or to none that anybody saw the end of."""
        if permit.trial:
            await self._change(shared.tell_given_up(trial=permit.trial, at=self._clock.now()))

    # --- the shared state -------------------------------------------------------------------

    def _asking(self, calls: tuple[Rank, ...]) -> Change:
        return shared.ask(
            calls,
            already_sent=self._take_unasked(),
            limits=self._limits,
            at=self._clock.now(),
        )

    def _take_unasked(self) -> int:
        calls, self._unasked = self._unasked, 0
        return calls

    async def _change(self, change: Change) -> Verdict:
        number = next(self._changes)
        try:
            verdict = await self._state.change(self._name, change)
        except StoreError as error:
            _log.warning("traffic_not_shared", reason=error.code)
            _, verdict = change(shared.written(self._traffic))
        if number > self._newest:
            self._newest = number
            before, self._traffic = self._traffic.pace, verdict.traffic
            self._seen_at = self._clock.now()
            self._calm = is_calm(verdict.traffic.pace, self._limits, self._seen_at)
            self._arrived.set()
            await self._add_what_was_served(before.cuts, verdict.traffic.pace)
        return verdict

    async def _add_what_was_served(self, known_cuts: int, pace: Pace) -> None:
        """To what another process was served before it met a 429, once."""
        served = self._served.before_others(pace.met_at, pace.met_over)
        if pace.cuts != known_cuts and served > 0:
            await self._change(shared.tell_served(cuts=pace.cuts, served=served))
