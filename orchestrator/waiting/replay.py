"""Old waits under another schedule: what would they have cost?

When the slot became free is known only to lie between two looks; each moment is taken to be where
in its bracket the learned law expects it. A schedule that learns begins with nothing, and learns
from each wait before the next, in the order in which they happened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.ports import Schedule
from orchestrator.waiting.knowledge import Waited
from orchestrator.waiting.law import Law

#: A schedule that would look more often than this within one wait is cut off there.
MOST_LOOKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Averages over ``waits``: looks and idle seconds, and what both cost together (seconds)."""

    waits: int
    looks: float
    idle: float
    cost: float


def moments(waits: Sequence[Waited], law: Law) -> list[float]:
    """When the slot became free in each wait (seconds), ``math.inf`` where it never did."""
    return [law.mean_between(w.low, w.high) if w.low < w.high < math.inf else w.high for w in waits]


def wait_for(time: float, schedule: Schedule, deadline: float) -> tuple[float, int]:
    """One wait for a slot that becomes free at ``time``, learned from: idle seconds and looks."""
    elapsed, attempt = 0.0, 0
    while attempt < MOST_LOOKS:
        attempt += 1
        low, elapsed = elapsed, min(elapsed + schedule.next_delay(elapsed, attempt), deadline)
        if time <= elapsed:
            schedule.observe(low, elapsed)
            return elapsed - time, attempt
        if elapsed >= deadline:
            schedule.observe(elapsed, math.inf)
            break
    return 0.0, attempt


def replay(
    times: Sequence[float], schedule: Schedule, *, cost_per_look: float, deadline: float
) -> Replayed:
    """Wait for each of ``times`` again; :func:`moments` gives them."""
    looks, idle = 0, 0.0
    for time in times:
        idle_then, looks_then = wait_for(time, schedule, deadline)
        idle += idle_then
        looks += looks_then
    waits = max(1, len(times))
    return Replayed(
        waits=len(times),
        looks=looks / waits,
        idle=idle / waits,
        cost=(idle + cost_per_look * looks) / waits,
    )
