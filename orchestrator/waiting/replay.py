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
    return [
        math.inf if w.high == math.inf else law.mean_between(w.low, w.high) if w.low < w.high
        else w.high
        for w in waits
    ]  # fmt: skip


def replay(
    times: Sequence[float], schedule: Schedule, *, cost_per_look: float, deadline: float
) -> Replayed:
    """Wait for each of ``times`` again; :func:`moments` gives them."""
    looks, idle = 0, 0.0
    for time in times:
        elapsed, low, attempt = 0.0, 0.0, 0
        while attempt < MOST_LOOKS:
            attempt += 1
            elapsed = min(elapsed + schedule.next_delay(elapsed, attempt), deadline)
            if time <= elapsed:
                idle += elapsed - time
                schedule.observe(low, elapsed)
                break
            low = elapsed
            if elapsed >= deadline:
                schedule.observe(low, math.inf)
                break
        looks += attempt
    waits = max(1, len(times))
    return Replayed(
        waits=len(times),
        looks=looks / waits,
        idle=idle / waits,
        cost=(idle + cost_per_look * looks) / waits,
    )
