"""Who waits at the gate, in which order, and what those are told whose turn is too far away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import HeldBack, PlatformPaused

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
    """A call in line. ``rank``: polls behind the urgent, priority, order of coming.

    It is held for a turn up to ``latest``; from ``useless_from`` on it would have too little time
    left (both in Unix epoch seconds).
    """

    rank: tuple[bool, int, int]
    operation: str = field(compare=False)
    latest: float = field(compare=False)
    useless_from: float = field(compare=False)
    permit: asyncio.Future[Permit] = field(compare=False)

    @property
    def urgent(self) -> bool:
        """Whether it goes before polls, and may use their reserve."""
        return not self.rank[0]


class Return:
    """Tells those who are sent away when to come back: one by one, and not on the same moment.

    ``jitter`` gives numbers from 0 to 1.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._booked = {True: 0.0, False: 0.0}

    def after(self, turn: float, *, urgent: bool, rate: float, now: float) -> float:
        """Seconds from now; ``turn`` is when the first could go, ``rate`` how many a second."""
        moment = max(turn, self._booked[urgent])
        if moment > turn + LATEST:
            moment = turn + LATEST * self._jitter()
        else:
            self._booked[urgent] = moment + 1 / rate
        return moment - now + SPREAD * self._jitter()


def sent_away(operation: str, seconds: float, *, outage: bool) -> HeldBack:
    """The error for a call that was not sent."""
    what = f"{operation} was not sent, nothing was done. Try again in {seconds:.0f} s."
    if outage:
        text = f"The platform is out of order: {what}"
        return PlatformPaused(text, operation=operation, retry_after=seconds)
    text = f"Too many calls for now: {what}"
    return HeldBack(text, operation=operation, retry_after=seconds)
