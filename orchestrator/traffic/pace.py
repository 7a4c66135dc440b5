"""How fast the API consumer may call just now: the rate in force, pauses and the circuit. Pure.

All processes of a consumer share one :class:`Pace`; each transition takes it and gives the next.
No clock, no I/O and no random number: ``at`` is Unix epoch seconds, jitter is the caller's.

* A 429 pauses everybody. If the platform served many calls right before it, their number is the
  limit: the rate stays a little below it for :data:`HOLD`, then rises, and is lifted in the end or
  meets the limit again. So does a rate in force that had been good for a while.
* A 429 that comes soon after another, or that these calls don't explain, halves the rate in force,
  or where none is, what was sent of late (multiplicative decrease). From the end of the pause on it
  rises steadily (additive increase), up to a little less than it was, or the configured limit, or
  until it is lifted where there is neither.
* Outages in a row open the circuit: nothing is sent. After a while one trial call in the whole
  fleet is let through. Its answer closes the circuit, with a low rate that rises; its failure opens
  it for longer, up to :data:`LONGEST_OPEN`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

#: Seconds over which the calls "of late" are averaged.
MEMORY = 5.0
#: Seconds of pause after a 429 that names no time; and the bounds of what a 429 may ask for, so
#: that a header gone wrong doesn't stop a fleet for a day.
PAUSE, SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 1.0, 900.0
#: What a 429 leaves of the rate.
DECREASE = 0.5
#: Seconds in which a rate would rise from nothing to its goal.
RECOVERY = 60.0
#: Below a limit that was met, calls are sent at this share of it, and at so many a second less at
#: least: they don't arrive as evenly as they are sent.
CLOSE, LEAST_GAP = 0.96, 2.5
#: What is left of the goal when a rate that was thought to be good meets a 429 soon, and later.
SOON, LATER = 0.9, 0.95
#: Seconds for which a rate below a limit that was met is not raised.
HOLD = 900.0
#: Seconds over which a platform counts, at least and at most, as far as it shows.
SHORTEST_WINDOW, LONGEST_WINDOW = 1.0, 60.0
#: More calls per second than anybody sends.
ANY = 1e9
#: Calls per second that a 429 leaves at least, and at which a limit is lifted at the earliest.
LEAST_RATE, LEAST_GOAL = 1.0, 10.0
#: The share of the goal at which calls begin again after an outage.
AFTER_OUTAGE = 0.1
#: Outages further apart than this (in seconds) are not "in a row".
IN_A_ROW = 60.0
#: Seconds for which the circuit opens at first, and at most; doubled in between.
FIRST_OPEN, LONGEST_OPEN = 5.0, 120.0
#: A circuit that opens again so soon (in seconds) after it was closed has not recovered.
CALM = 60.0
#: Seconds after which a trial that nobody has told the end of is tried again.
TRIAL = 30.0
#: For so many seconds the trial is kept for a poll; then a launch or a cancel may be it.
POLLS_FIRST = 2.0
#: Seconds after which to ask how the trial went.
NEWS = 1.0


class Circuit(StrEnum):
    """Whether calls are let through; ``TRIAL``: one is, and all else waits for how it ends."""

    CLOSED = "closed"
    OPEN = "open"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is configured. ``calls_per_second`` of the whole consumer, ``None``: no limit.

    ``burst`` calls may be sent at once after a calm time; polls leave the share ``reserve`` of them
    to what is urgent: launches, cancels and their like; bulk runs leave a little more to those at a
    button. ``outages`` in a row open the circuit.
    """

    calls_per_second: float | None = None
    burst: int = 10
    reserve: float = 0.3
    outages: int = 5

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        rate = self.calls_per_second
        if rate is not None and not 0.001 <= rate <= 100_000:
            raise ValueError("calls_per_second must be between 0.001 and 100,000, or None")
        if self.burst < 1 or self.outages < 1:
            raise ValueError("burst and outages must be at least 1")
        if not 0.0 <= self.reserve < 1.0:
            raise ValueError("reserve must be a share from 0 to less than 1")

    @property
    def reserved(self) -> int:
        """Calls of the burst that polls leave alone; a burst of one has none to leave."""
        return min(math.ceil(self.reserve * self.burst), self.burst - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """See the module's docstring.

    ``flow``: calls per second that the fleet has sent of late, as of ``flow_at``. ``taught``: the
    limit that the platform taught, as of ``taught_at``; it rises to ``goal``, stays there until
    ``held_until``, rises again, and is lifted at twice the goal (at the goal if it is not held).
    ``met``: calls per second that the platform served in the ``met_over`` seconds before it turned
    away the call of ``met_at``, as far as processes have told; the goal is below that, and never
    above ``most``. ``cuts`` counts the times that the rate was lowered. ``outages`` are those in a
    row, the last one ``failed_at``; ``openings`` those of the circuit since it was calm.
    ``turn_at`` is when an open circuit lets a trial through, when a trial is given up, or since
    when it is closed.
    """

    flow: float = 0.0
    flow_at: float = 0.0
    taught: float | None = None
    taught_at: float = 0.0
    goal: float = 0.0
    held_until: float = 0.0
    met: float = 0.0
    met_at: float = 0.0
    met_over: float = SHORTEST_WINDOW
    most: float = ANY
    cuts: int = 0
    paused_until: float = 0.0
    circuit: Circuit = Circuit.CLOSED
    outages: int = 0
    failed_at: float = 0.0
    openings: int = 0
    turn_at: float = 0.0
    trials: int = 0


def rate(pace: Pace, limits: Limits, at: float) -> float | None:
    """Calls per second that may be sent now; ``None``: as many as there are."""
    taught, slope = pace.taught, pace.goal / RECOVERY
    if taught is not None:
        taught += max(0.0, at - pace.taught_at) * slope
        lifted_at = pace.goal
        if pace.held_until > 0:
            taught = min(taught, pace.goal) + max(0.0, at - pace.held_until) * slope
            lifted_at = 2 * pace.goal
        if taught >= lifted_at:
            taught = None
    rates = [r for r in (taught, limits.calls_per_second) if r is not None]
    return min(rates, default=None)


def in_force(pace: Pace, limits: Limits, at: float) -> Limits:
    """The limits, with a burst that a limit which was met leaves room for above the rate."""
    limit = rate(pace, limits, at)
    if limit is None or pace.taught is None or pace.held_until <= at:
        return limits
    room = max(2.0, limit * (1 / CLOSE - 1))
    fitting = (replace(limits, burst=burst) for burst in range(limits.burst, 1, -1))
    return next((x for x in fitting if x.burst - x.reserved - 1 <= room), limits)


def is_calm(pace: Pace, limits: Limits, at: float) -> bool:
    """Whether calls need no permit at all."""
    closed = pace.circuit is Circuit.CLOSED and pace.paused_until <= at
    return closed and rate(pace, limits, at) is None


def sent(pace: Pace, calls: int, at: float) -> Pace:
    """Count calls that were sent."""
    age = max(0.0, at - pace.flow_at)
    flow = pace.flow * math.exp(-age / MEMORY) + calls / MEMORY
    return replace(pace, flow=flow, flow_at=max(at, pace.flow_at))


def rate_limited(
    pace: Pace,
    limits: Limits,
    at: float,
    *,
    retry_after: float | None,
    cuts: int,
    trial: int = 0,
    sent_at: float = 0.0,
    served: float = 0.0,
) -> Pace:
    """A call met a 429. ``cuts``: how many there had been when it was sent, at ``sent_at``.
    ``served``: calls per second that whoever tells was served in the :func:`window` before.

    Those that were sent before the last cut prolong the pause, but don't lower the rate again.
    A trial that is told to slow down has shown that the platform is there.
    """
    pace = answered(pace, limits, at, trial=trial)
    pause = PAUSE if retry_after is None else retry_after
    until = at + min(max(pause, SHORTEST_PAUSE), LONGEST_PAUSE)
    pace = replace(pace, paused_until=max(pace.paused_until, until))
    if cuts < pace.cuts and pace.taught is not None:
        return replace(pace, taught_at=max(pace.taught_at, pace.paused_until))
    limit, flow = rate(pace, limits, at), sent(pace, 0, at).flow
    before = flow if limit is None else limit
    was_good = limit is not None and flow > limit / 2
    slower = max(_least(limits), DECREASE * before)
    most, is_soon = ANY, pace.taught is not None and at < pace.taught_at + RECOVERY
    if is_soon:
        most = SOON * pace.goal
    elif was_good:
        most = LATER * before
    pace = replace(
        pace,
        taught=slower,
        taught_at=pace.paused_until,
        goal=limits.calls_per_second or max(2 * before, LEAST_GOAL),
        held_until=0.0,
        cuts=pace.cuts + 1,
        met=served,
        met_at=sent_at,
        met_over=window(retry_after),
        most=most,
    )
    if was_good:
        goal = max(slower, most)
        until = pace.paused_until + HOLD
        pace = replace(pace, taught=slower if is_soon else goal, goal=goal, held_until=until)
    return _held_below_what_was_met(pace)


def also_served(pace: Pace, *, cuts: int, served: float) -> Pace:
    """Another process tells what it was served in the window before the last cut."""
    if cuts != pace.cuts:
        return pace
    return _held_below_what_was_met(replace(pace, met=pace.met + served))


def window(retry_after: float | None) -> float:
    """Over how many seconds a platform may count its calls, by its ``Retry-After``."""
    return min(max(SHORTEST_WINDOW, retry_after or 0.0), LONGEST_WINDOW)


def answered(pace: Pace, limits: Limits, at: float, *, trial: int = 0) -> Pace:
    """The platform answered a call, with whatever; if that was the trial, the circuit closes."""
    if pace.circuit is Circuit.CLOSED:
        return replace(pace, outages=0) if pace.outages else pace
    if not _is_the_trial(pace, trial):
        return pace  # a late answer to a call from before the outage proves nothing
    return replace(
        pace,
        circuit=Circuit.CLOSED,
        outages=0,
        turn_at=at,
        taught=max(_least(limits), AFTER_OUTAGE * pace.goal),
        taught_at=at,
        cuts=pace.cuts + 1,
        met_at=0.0,
    )


def failed(
    pace: Pace, limits: Limits, at: float, *, retry_after: float | None = None, trial: int = 0
) -> Pace:
    """A call met an outage: no connection, no answer, or an HTTP 5xx."""
    if pace.circuit is not Circuit.CLOSED:
        return _open(pace, at, retry_after) if _is_the_trial(pace, trial) else pace
    in_a_row = pace.outages if at - pace.failed_at <= IN_A_ROW else 0
    pace = replace(pace, outages=in_a_row + 1, failed_at=at)
    if pace.outages < limits.outages:
        return pace
    if at - pace.turn_at > CALM:
        pace = replace(pace, openings=0)
    is_held = pace.taught is not None and pace.held_until > at
    if rate(pace, limits, at) is None or (limits.calls_per_second is not None and not is_held):
        usual = max(sent(pace, 0, at).flow, LEAST_GOAL)
        pace = replace(pace, goal=limits.calls_per_second or usual)
    return _open(pace, at, retry_after)


def begin_trial(pace: Pace, at: float) -> Pace:
    """Let one call through; its number is ``trials`` of what comes back."""
    return replace(pace, circuit=Circuit.TRIAL, trials=pace.trials + 1, turn_at=at + TRIAL)


def give_up_trial(pace: Pace, at: float, *, trial: int) -> Pace:
    """The trial's caller went away without a call, or without an answer: the next one may."""
    if not _is_the_trial(pace, trial):
        return pace
    return replace(pace, circuit=Circuit.OPEN, turn_at=at)


def opens_at(pace: Pace, at: float, *, urgent: bool) -> float:
    """From when on a call may go at all, as far as pause and circuit are concerned."""
    if pace.circuit is Circuit.CLOSED:
        return pace.paused_until
    if pace.circuit is Circuit.TRIAL and pace.turn_at > at:
        return at + NEWS  # most likely it is over by then, one way or the other
    return max(pace.turn_at + (POLLS_FIRST if urgent else 0.0), pace.paused_until)


def _open(pace: Pace, at: float, retry_after: float | None) -> Pace:
    seconds = min(FIRST_OPEN * 2.0 ** min(pace.openings, 20), LONGEST_OPEN)
    if retry_after is not None:
        seconds = min(max(seconds, retry_after), LONGEST_PAUSE)
    return replace(
        pace, circuit=Circuit.OPEN, openings=pace.openings + 1, turn_at=at + seconds, outages=0
    )


def _is_the_trial(pace: Pace, trial: int) -> bool:
    return pace.circuit is Circuit.TRIAL and trial == pace.trials


def _held_below_what_was_met(pace: Pace) -> Pace:
    if pace.met < LEAST_GOAL or pace.taught is None:
        return pace
    goal = min(CLOSE * pace.met, pace.met - LEAST_GAP, pace.most)
    at_once = pace.taught >= pace.goal or pace.most == ANY
    taught = goal if at_once else min(pace.taught, goal)
    return replace(pace, taught=taught, goal=goal, held_until=pace.paused_until + HOLD)


def _least(limits: Limits) -> float:
    configured = limits.calls_per_second
    return LEAST_RATE if configured is None else min(LEAST_RATE, configured / 4)
