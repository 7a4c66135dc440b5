"""How long a batch will take and how many API calls it makes, from what was learned: two bounds.

The model, for each item: so many calls whatever happens, and for each lab that is ended its
teardown with the looks at it. At least, each teardown is as quick (and looked at as seldom) as the
best tenth of those known, and nothing is ended that may not have to be; at most, it is as slow as
the worst tenth, and all is ended. Then, for all items together, whichever is slowest of

* the work: all seconds of all items, shared by as many as are in flight at a time,
* the beginning: so many items a minute,
* the traffic: all calls at the rate that may be sent,

and at least the longest item; at most, that comes on top, since it may be the last to begin, with
the run-up of a batch that begins gently. A lab profile that was never waited for is taken to be as
the others are, and where nothing is known at all, to take from ten seconds to ten minutes.

Left out, since nobody can know it: other people's traffic, the platform's refusals and outages,
and whoever takes a freed slot.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.durable.batches import Pace
from orchestrator.machine.run import DisplaceBy
from orchestrator.session import ENOUGH
from orchestrator.traffic.pace import Limits
from orchestrator.waiting import Knowledge, Row, Subject

#: Calls of an item that ends no lab: to launch (list, launch, check) or not (list); of one refused.
LAUNCHING, FREEING, REFUSED = 3, 1, 3
#: Calls for each lab that is ended besides the looks: the cancel, and what tells that it is gone.
ENDING = 2
#: Seconds that a call takes, at least and at most.
CALL_LOW, CALL_HIGH = 0.1, 1.0
#: A teardown of which nothing is known (seconds).
QUICKEST, SLOWEST = 10.0, 600.0
#: Seconds that the beginning is drawn out to, and those between two items at least.
RUN_UP, GAP = 2.0, 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What an item will come to, as far as its calls go.

    ``ends`` are the lab profiles whose labs it ends: those it will for sure, and those that it may
    have to (``may_end``); ``looked_at`` is how many labs it looks at before it ends one.
    """

    ends: tuple[int | None, ...] = ()
    may_end: tuple[int | None, ...] = ()
    looked_at: int = 0
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Two bounds of the seconds and of the API calls.

    ``learned`` if all of the lab profiles in question were waited for before; without it the
    bounds are wide.
    """

    seconds_low: float
    seconds_high: float
    api_calls_low: int
    api_calls_high: int
    learned: bool


@dataclass(frozen=True, slots=True)
class _Teardown:
    """Bounds for one teardown: seconds, and looks."""

    low: float
    high: float
    looks_low: float
    looks_high: float
    learned: bool


def estimate(
    efforts: Iterable[Effort],
    *,
    launch: bool,
    step: DisplaceBy,
    pace: Pace,
    deadline_seconds: float,
    knowledge: Knowledge,
    calls_per_second: float | None = None,
) -> Estimate:
    """The bounds; see the module's docstring. ``calls_per_second`` is the limit of the traffic."""
    known = _Known(knowledge, step, deadline_seconds)
    work_low = work_high = longest_low = longest_high = 0.0
    calls_low = calls_high = 0.0
    learned, count = True, 0
    for effort in efforts:
        count += 1
        sure = [known.of(profile) for profile in effort.ends]
        maybe = sure + [known.of(profile) for profile in effort.may_end]
        learned = learned and all(teardown.learned for teardown in maybe)
        base = REFUSED if effort.refused else LAUNCHING if launch else FREEING
        fixed = ENDING + effort.looked_at
        low = base + sum(fixed + t.looks_low for t in sure)
        high = base + sum(fixed + t.looks_high for t in maybe)
        seconds_low = sum(t.low for t in sure) + CALL_LOW * (base + fixed * len(sure))
        seconds_high = sum(t.high for t in maybe) + CALL_HIGH * (base + fixed * len(maybe))
        seconds_high = min(seconds_high, deadline_seconds)
        seconds_low = min(seconds_low, seconds_high)
        calls_low, calls_high = calls_low + low, calls_high + high
        work_low, work_high = work_low + seconds_low, work_high + seconds_high
        longest_low = max(longest_low, seconds_low)
        longest_high = max(longest_high, seconds_high)
    if not count:
        return Estimate(
            seconds_low=0.0, seconds_high=0.0, api_calls_low=0, api_calls_high=0, learned=True
        )
    at_a_time = min(pace.concurrency, count)
    begun = 0.0 if pace.per_minute is None else (count - 1) * 60.0 / pace.per_minute
    rate = calls_per_second or math.inf
    # The bucket is full at first: so many calls are sent at once.
    sent_later = max(0.0, calls_low - Limits().burst)
    least = max(work_low / at_a_time, begun, sent_later / rate, longest_low)
    most = max(work_high / at_a_time, begun, calls_high / rate)
    return Estimate(
        seconds_low=least,
        seconds_high=most + longest_high + RUN_UP + GAP * count,
        api_calls_low=math.floor(calls_low),
        api_calls_high=math.ceil(calls_high),
        learned=learned,
    )


class _Known:
    """What is known of teardowns, by lab profile."""

    def __init__(self, knowledge: Knowledge, step: DisplaceBy, deadline: float) -> None:
        # A subject's name tells its step; saving takes another time than cancelling.
        names = {row.name: row for row in knowledge.rows() if row.typical.observations >= ENOUGH}
        self._step: DisplaceBy = step
        self._cost = knowledge.cost_per_look
        self._deadline = deadline
        self._rows: Mapping[str, Row] = names
        saved = [name for name in names if name.endswith(" save")]
        alike = [names[n] for n in names if (n in saved) == (step == "save")]
        self._knowledge = knowledge
        self._others = self._bounds(alike, learned=False)
        self._of: dict[int | None, _Teardown] = {}

    def of(self, lab_profile_id: int | None) -> _Teardown:
        """The bounds of a lab profile."""
        if lab_profile_id not in self._of:
            subject = Subject(lab_profile_id=lab_profile_id, step=self._step)
            row = self._rows.get(subject.name)
            bounds = self._others if row is None else self._bounds([row], learned=True)
            self._of[lab_profile_id] = bounds
        return self._of[lab_profile_id]

    def _bounds(self, rows: list[Row], *, learned: bool) -> _Teardown:
        if not rows:
            return _Teardown(
                min(QUICKEST, self._deadline),
                min(SLOWEST, self._deadline),
                1.0,
                # As many looks as the schedule of those who know nothing takes.
                math.sqrt(SLOWEST / self._cost) + 1.0,
                False,
            )
        idle = max(row.idle for row in rows)
        quick = min(rows, key=lambda row: row.typical.p10)
        slow = max(rows, key=lambda row: row.typical.p90)
        return _Teardown(
            min(quick.typical.p10, self._deadline),
            min(slow.typical.p90 + idle, self._deadline),
            self._looks(quick.name, quick.typical.p10),
            self._looks(slow.name, min(slow.typical.p90, self._deadline)) + 1,
            learned,
        )

    def _looks(self, name: str, seconds: float) -> int:
        """How many looks a wait of so many seconds has, as far as is known now."""
        return bisect_left(self._knowledge.learned(name).looks(), seconds) + 1
