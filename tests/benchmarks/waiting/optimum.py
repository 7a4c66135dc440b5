"""The bounds: what nobody can beat, computed exactly, and the cost of any list of looks.

Cost = idle seconds (from the end of the teardown to the look that finds it) + c for each look. A
stuck teardown costs the looks until the deadline.
"""

from __future__ import annotations

import numpy as np

from tests.benchmarks.waiting.families import DEADLINE, Floats


def optimal_looks(times: Floats, c: float) -> Floats:
    """The looks with the least expected cost if ``times`` are equally likely (Barlow, Hunter,
    Proschan 1963). A look pays only at one of the times, so dynamic programming is exact."""
    ends, counts = np.unique(times[np.isfinite(times)], return_counts=True)
    n = len(ends)
    stuck = len(times) - counts.sum()
    below = np.concatenate([[0], np.cumsum(counts)]).astype(float)
    moment = np.concatenate([[0.0], np.cumsum(counts * ends)])
    best = np.zeros(n + 1)
    follow = np.zeros(n + 1, dtype=int)
    # best[i]: expected cost times len(times), having found it busy after the i earliest times.
    for i in range(n - 1, -1, -1):
        j = np.arange(i + 1, n + 1)
        idle = ends[j - 1] * (below[j] - below[i]) - (moment[j] - moment[i])
        cost = c * (below[n] - below[i] + stuck) + idle + best[j]
        k = int(np.argmin(cost))
        best[i], follow[i] = cost[k], j[k]
    looks, i = [], 0
    while i < n:
        i = int(follow[i])
        looks.append(ends[i - 1])
    return np.array(looks)


def costs(looks: Floats, times: Floats, c: float) -> tuple[float, float, float]:
    """Mean cost, mean idle seconds and mean number of looks for equally likely ``times``."""
    first = np.searchsorted(looks, times, side="left")
    found = first < len(looks)
    idle = np.where(found, looks[np.minimum(first, len(looks) - 1)] - times, 0.0)
    # What the last look missed is found at the deadline, or never.
    missed = ~found & np.isfinite(times)
    idle = np.where(missed, DEADLINE - np.where(missed, times, 0.0), idle)
    number = np.where(found, first + 1, len(looks))
    return float(np.mean(idle + c * number)), float(np.mean(idle)), float(np.mean(number))
