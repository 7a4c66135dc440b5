"""Who waits at the gate, in which order, and what those are told whose turn is too far away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import HeldBack, PlatformPaused
from orchestrator.traffic.rank import Rank

#: Those who are sent away come back over so many seconds more, at random.
SPREAD = 2.0
#: Nobody is told to come back later than this (in seconds) after calls may be made again.
LATEST = 60.0


@dataclass(frozen=True, slots=True)
class Permit:
    """``cuts`` of the rate had been known when it was given; ``trial``: its number, if it is."""

    cuts: int
    trial: int = 0


@dataclass(slots=True, order=True)
class Waiter:
    """A call in line, which is by rank, then by the order of coming.

    It is held for a turn up to ``latest``; from ``useless_from`` on it would have too little time
    left (both in Unix epoch seconds).
    """

    rank: Rank
    order: int
    operation: str = field(compare=False)
    latest: float = field(compare=False)
    useless_from: float = field(compare=False)
    permit: asyncio.Future[Permit] = field(compare=False)


class Return:
    """Tells those who are sent away when to come back: one by one, and not on the same moment.

    All share the rate: a place that one of them books is taken for those of the same rank and of
    lower ones, and those of higher ranks book as if it were free.
    ``jitter`` gives numbers from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._booked = dict.fromkeys(Rank, 0.0)

    def after(self, turn: float, *, rank: Rank, rate: float, now: float) -> float:
        """Seconds from now; ``turn`` is when the first could go, ``rate`` how many a second."""
        moment = max(turn, self._booked[rank])
        if moment > turn + LATEST:
            moment = turn + LATEST * self._jitter()
        else:
            for other in Rank:
                if other >= rank:
                    self._booked[other] = max(turn, self._booked[other]) + 1 / rate
        return moment - now + SPREAD * self._jitter()


def sent_away(operation: str, seconds: float, *, outage: bool) -> HeldBack:
    """The error for a call that was not sent."""
    what = f"{operation} was not sent, nothing was done. Try again in {seconds:.0f} s."
    if outage:
        text = f"The platform is out of order: {what}"
        return PlatformPaused(text, operation=operation, retry_after=seconds)
    text = f"Too many calls for now: {what}"
    return HeldBack(text, operation=operation, retry_after=seconds)
