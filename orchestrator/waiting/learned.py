"""The schedule that learns when a teardown is usually over, and looks when a look pays.

In one paragraph, for somebody who has never heard of inspection theory. Nobody says when the
teardown ends; one can only look, and a look costs something (an API call: ``cost_per_look``, in
seconds of waiting that it is worth). Looking often wastes calls, looking seldom wastes the
learner's time. If old teardowns of this lab took 40 to 50 seconds, it would be foolish to look
after 10 seconds, wise to look a few times between 40 and 50, and after 60 it is anybody's guess
again. So two questions are answered, one after the other:

1. *How likely is each teardown time?* From what the looks of earlier waits have shown, in
   :mod:`orchestrator.waiting.law`.
2. *Given that, which looks cost least on average?* The sum of the idle seconds and of
   ``cost_per_look`` for each look is smallest for the schedule of Barlow, Hunter and Proschan
   (1963), in :mod:`orchestrator.waiting.inspection`.

As a rule of thumb for where the looks fall, Keller (1974): their number per second at time t is
about sqrt(h(t) / 2c), where c is the cost of a look and h(t) the hazard, the chance per second that
a teardown ends now if it has not ended yet. Where the end is likely, looks are dense; where it is
not, they are rare; and a look that costs four times as much is taken half as often.

Before anything is known, the looks are at c, 4c, 9c, ... seconds: Keller's rule for a hazard that
falls like 1/t, and never worse than 3 sqrt(c T) + 2c for a teardown of T seconds. While little is
known, a look is taken to be cheaper than it is, for it also teaches; and now and then a wait has a
look more, a scout, in a long gap of which nobody knows where in it the ends fall. Beyond everything
ever seen, looks become rarer, up to a cap. Where webhooks announce the end, a look is needed only
in case one stays away (:mod:`orchestrator.waiting.arrivals`).

What bounds it: the optimum knows the law, this has to learn it from brackets. A first wait can't be
good where the teardown time is nearly fixed (one look would do, had one known), and two peaks close
together are told apart only by looks between them, each of which costs.
"""

from __future__ import annotations

import json
import math
import threading
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from orchestrator.errors import InvalidRequest
from orchestrator.waiting.arrivals import Arrivals
from orchestrator.waiting.inspection import best_looks, interpolated, square_root_looks, thinned
from orchestrator.waiting.law import Law

#: Version of the stored form.
SCHEMA = 1
#: Beyond everything ever seen, no two looks are further apart (seconds).
LONGEST = 120.0
#: Looks closer together than this are one look (seconds).
SHORTEST = 0.04

#: With so many observations, a gap whose idle seconds may cost as much as so many looks is scouted
#: until so many waits have ended inside, at these parts of it in turn.
SCOUTS_FROM, SCOUTED_GAP, SCOUTS, SCOUTED_PARTS = 25, 6.0, 3.0, (0.3, 0.7, 0.5)
SCOUTED_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Typical:
    """How long teardowns of a lab profile take: 10, 50 and 90 % are over after so many seconds.

    ``math.inf`` where that is later than the deadline. ``observations``: of this lab profile.
    """

    observations: int
    p10: float
    p50: float
    p90: float


class LearnedSchedule:
    """Looks when a look pays, and learns from every wait. From any thread.

    ``cost_per_look`` is how many seconds of waiting one look is worth, ``deadline`` the longest
    wait (seconds). ``relatives`` is the schedule whose law stands in where this one knows little;
    what is observed here, it learns too. Same observations, same looks.
    """

    def __init__(
        self,
        cost_per_look: float = 2.0,
        deadline: float = 900.0,
        *,
        relatives: LearnedSchedule | None = None,
    ) -> None:
        for name, value in (("cost_per_look", cost_per_look), ("deadline", deadline)):
            if not 0 < value < math.inf:
                raise InvalidRequest(name, f"{value!r} is not a number of seconds above 0.")
        self.cost_per_look = cost_per_look
        self.deadline = deadline
        self.relatives = relatives
        self.law: Law = Law(deadline, relatives.law if relatives else None)
        # Webhooks are set up for all lab profiles of an API consumer, or for none.
        self.arrivals: Arrivals = relatives.arrivals if relatives else Arrivals()
        self._looks: list[float] = []
        self._looks_without_scout: list[float] = []
        self._scouts = 0
        self._relied_on = 0.0
        # A law may be renewed on behalf of a relative's: one lock for the whole family.
        self._lock: threading.RLock = relatives._lock if relatives else threading.RLock()

    def next_delay(self, elapsed: float, attempt: int) -> float:
        """Seconds from now to the next look, ``elapsed`` seconds into the wait."""
        with self._lock:
            # A plan holds for a wait: later looks of the same wait only read it.
            if not self._looks or (attempt <= 1 and self._due):
                self._plan()
            position = bisect_right(self._looks, elapsed + SHORTEST / 2)
            if position == len(self._looks):
                return LONGEST
            return self._looks[position] - elapsed

    def observe(self, low: float, high: float) -> None:
        """Learn that the slot became free between ``low`` and ``high`` seconds into a wait.

        ``math.inf``: it never did. ``low == high``: a webhook announced it just then.
        """
        if not 0 <= low <= high or low == math.inf:
            raise InvalidRequest("low", f"({low!r}, {high!r}) is no stretch of time.")
        with self._lock:
            if low == high:
                self.arrivals.arrived(0.0, math.inf)
                low = high = max(0.0, high - self.arrivals.delay)
            elif high < math.inf:
                self.arrivals.stayed_away()
            # One scout for each plan: the waits that follow under it go without.
            self._looks = self._looks_without_scout
            learner: LearnedSchedule | None = self
            while learner is not None:
                learner.law.observe(low, high)
                learner = learner.relatives

    def announced_late(self, at_least: float, at_most: float) -> None:
        """A webhook came after a look had found the end: so many seconds after the end itself."""
        with self._lock:
            self.arrivals.came_after_all(at_least, at_most)

    def looks(self) -> tuple[float, ...]:
        """When the next wait will be looked at (seconds), as far as is known now."""
        with self._lock:
            if not self._looks or self._due:
                self._plan()
            return tuple(self._looks)

    def typical(self) -> Typical | None:
        """How long teardowns take, or ``None`` before anything is known."""
        with self._lock:
            if not self.law.informed:
                return None
            if self.law.due:
                self._plan()
            p10, p50, p90 = (self.law.quantile(share) for share in (0.1, 0.5, 0.9))
            return Typical(observations=self.law.observations, p10=p10, p50=p50, p90=p90)

    @property
    def _due(self) -> bool:
        return self.law.due or abs(self.arrivals.expected - self._relied_on) > 0.1

    def _plan(self) -> None:
        if not self.law.informed:
            self._looks = square_root_looks(self.cost_per_look, self.deadline)
            self._looks_without_scout = self._looks
            return
        if self.law.due or not self._looks:
            self.law.renew()
        self._relied_on = self.arrivals.expected
        # A look also teaches, and that is worth the more the less is known.
        cost = self.cost_per_look * (1 - 0.5 / (1 + self.law.observations / 20))
        times, cdf = thinned(self.law.times, self.law.cdf)
        looks, to_pay = best_looks(times, cdf, cost)
        if self._relied_on:
            fewer, to_pay_then = best_looks(times, cdf, cost, self._relied_on)
            # Webhooks that come too late to be worth waiting for are not waited for.
            if to_pay_then + self._relied_on * self.arrivals.delay < to_pay:
                looks = fewer
        self._looks_without_scout = self._capped(looks)
        self._looks = self._capped(self._with_a_scout(looks))

    def _with_a_scout(self, looks: list[float]) -> list[float]:
        """One look more, in the costliest gap, if hardly any wait has shown what happens inside.

        Two peaks that one gap has swallowed would otherwise never be told apart: no look between
        them seems to pay, as long as nobody knows that there are two.
        """
        if self.law.observations < SCOUTS_FROM:
            return looks
        shares = interpolated(self.law.times, self.law.cdf, looks)
        gaps = zip([0.0, *looks], looks, [0.0, *shares], shares, strict=False)
        seen = self._longest_seen()
        costly = sorted(
            ((above - below) * (high - low), low, high)
            for low, high, below, above in gaps
            if low < seen and above - below > SCOUTED_SHARE
        )
        for cost, low, high in reversed(costly):
            if cost < SCOUTED_GAP * self.cost_per_look:
                break
            if self.law.resolved(low, high) < SCOUTS:
                self._scouts += 1
                scout = low + SCOUTED_PARTS[self._scouts % len(SCOUTED_PARTS)] * (high - low)
                return sorted([*looks, scout])
        return looks

    def _capped(self, looks: list[float]) -> list[float]:
        """The same looks, none further than the cap from the last beyond what was ever seen."""
        seen = self._longest_seen()
        capped = [0.0]
        for look in looks:
            while look - max(capped[-1], seen) > LONGEST:
                capped.append(max(capped[-1], seen) + LONGEST)
            capped.append(look)
        return capped[1:]

    def _longest_seen(self) -> float:
        return self.law.quantile(0.97 * self.law.cdf[-1])

    def to_plain(self) -> dict[str, Any]:
        """What was learned, as JSON data."""
        with self._lock:
            return {
                "schema": SCHEMA,
                "cost_per_look": self.cost_per_look,
                "arrivals": {k: round(v, 6) for k, v in asdict(self.arrivals).items()},
                "law": self.law.to_plain(),
            }

    @classmethod
    def from_plain(
        cls, state: Mapping[str, Any], *, relatives: LearnedSchedule | None = None
    ) -> Self:
        """Take up what :meth:`to_plain` gave. Raises ``ValueError`` if it can't be read."""
        try:
            if state["schema"] != SCHEMA:
                raise ValueError(f"schema: not a schedule of stored version {SCHEMA}")
            law = Law.from_plain(state["law"], relatives.law if relatives else None)
            schedule = cls(float(state["cost_per_look"]), law.deadline, relatives=relatives)
            if relatives is None:
                schedule.arrivals = Arrivals(**{k: float(v) for k, v in state["arrivals"].items()})
        except (TypeError, KeyError, AttributeError, InvalidRequest) as error:
            raise ValueError(f"no stored schedule: {error!r}") from None
        schedule.law = law
        return schedule

    def to_json(self) -> str:
        """The stored form, less than 8 kB."""
        return json.dumps(self.to_plain(), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, relatives: LearnedSchedule | None = None) -> Self:
        """Take up a stored schedule. Raises ``ValueError`` if it can't be read."""
        return cls.from_plain(json.loads(text), relatives=relatives)
