"""The schedules that need no knowledge. They learn nothing, so ``observe`` does nothing.

``next_delay(elapsed, attempt)`` gives the seconds from now to look number ``attempt`` (1, 2, ...),
``elapsed`` seconds into the wait. The driver caps it by the deadline and stretches it to what the
platform asked for (``Retry-After``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base

from orchestrator.errors import InvalidRequest


class FixedSchedule:
    """Look every ``seconds``."""

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise InvalidRequest("seconds", f"{seconds!r} is not above 0.")
        self.seconds = seconds

    def next_delay(self, elapsed: float, attempt: int) -> float:
        """Always the same."""
        return self.seconds

    def observe(self, low: float, high: float) -> None:
        """Nothing to learn."""


class SequenceSchedule:
    """Wait the given seconds, one after the other; the last one again and again."""

    def __init__(self, seconds: Sequence[float]) -> None:
        if not seconds or min(seconds) <= 0:
            raise InvalidRequest("seconds", f"{seconds!r} is no list of numbers above 0.")
        self.seconds = tuple(seconds)

    def next_delay(self, elapsed: float, attempt: int) -> float:
        """The number for this attempt."""
        return self.seconds[min(attempt, len(self.seconds)) - 1]

    def observe(self, low: float, high: float) -> None:
        """Nothing to learn."""


class SquareRootSchedule:
    """Look at c, 4c, 9c, ... seconds: the best guess when nothing is known.

    With ``cost_per_look`` = c, the seconds of waiting that one call is worth, a wait of T seconds
    costs about sqrt(T / c) looks and at most 2 sqrt(c T) + c idle seconds, for every T. It is what
    Keller's inspection density (1974), looks per second = sqrt(hazard / 2c), gives when nothing is
    known of T but that long waits get ever less likely. ``longest`` caps the gap between two looks.
    """

    def __init__(self, cost_per_look: float = 2.0, longest: float = 120.0) -> None:
        if not cost_per_look > 0:
            raise InvalidRequest("cost_per_look", f"{cost_per_look!r} is not above 0.")
        if not longest > 0:
            raise InvalidRequest("longest", f"{longest!r} is not above 0.")
        self.cost_per_look = cost_per_look
        self.longest = longest

    def next_delay(self, elapsed: float, attempt: int) -> float:
        """To the next square after ``elapsed``, whatever kept the driver from looking earlier."""
        done = math.floor(math.sqrt(max(0.0, elapsed) / self.cost_per_look) + 1e-6)
        gap = self.cost_per_look * (done + 1) ** 2 - elapsed
        return min(max(gap, self.cost_per_look / 2), self.longest)

    def observe(self, low: float, high: float) -> None:
        """Nothing to learn."""


class TenacitySchedule:
    """Any ``tenacity`` wait strategy as a schedule, such as ``wait_random_exponential(max=60)``."""

    def __init__(self, wait: wait_base) -> None:
        self.wait = wait
        self._retrying = Retrying()

    def next_delay(self, elapsed: float, attempt: int) -> float:
        """What the strategy says for this attempt."""
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = attempt
        state.start_time, state.outcome_timestamp = 0.0, max(0.0, elapsed)
        return float(self.wait(state))

    def observe(self, low: float, high: float) -> None:
        """Nothing to learn."""
