"""When to look, if it is known how likely each time is: the optimal inspection schedule.

The slot becomes free at an unknown moment T. A look costs ``c`` seconds' worth; and from T to the
first look at or after it the learner waits for nothing ("idle"). Wanted are the looks with the
least

    expected cost = E[ idle seconds + c * number of looks ].

Barlow, Hunter and Proschan (1963; Barlow and Proschan 1965) solved this for a known law of T. Here
T falls into cells between the times S[0] = 0 < S[1] < ... < S[m], and looks happen at those times.
F[i] is the chance that T <= S[i], M[i] the part of the mean that lies below S[i]. Let V[i] be what
is still to be paid from S[i] on, in the cases where T is later than S[i]. If the next look is at
S[j], then

* it is made in all those cases: c * (1 - F[i]);
* if T lies between the two, the learner idles until S[j]: S[j] * (F[j] - F[i]) - (M[j] - M[i]);
* otherwise all goes on from there: V[j].

The best j gives V[i]; from the last time backwards, all V follow, and the looks with them. Seen
from i, each j is a straight line in F[i] with the slope -S[j]. The lowest of many lines is found
without trying each one: the slopes come in order, and so do the F[i], so a line that has once been
overtaken never comes back. That makes the work proportional to the number of cells.

Where a webhook announces the end with probability p, the look at S[j] is not made if T came before
and was announced; and then nobody idles until S[j] either. So the first term loses
c * p * (F[j] - F[i]), the second keeps only its part 1 - p, and the lines stay straight.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

#: Cells with less probability together are taken for one, unless it would be this much longer.
NEGLIGIBLE, LONGER = 0.001, 1.1


def square_root_looks(cost_per_look: float, until: float) -> list[float]:
    """The looks for somebody who knows nothing: c, 4c, 9c, ... and ``until`` (seconds).

    They cost at most 3 sqrt(c T) + 2c for every T, and no schedule with fewer looks keeps to that.
    """
    looks, k = [], 1
    while cost_per_look * k * k < until:
        looks.append(cost_per_look * k * k)
        k += 1
    return [*looks, until]


def best_looks(
    times: Sequence[float], cdf: Sequence[float], cost_per_look: float, announced: float = 0.0
) -> tuple[list[float], float]:
    """The looks (seconds, ascending, the last at ``times[-1]``) with the least expected cost.

    Returned with that cost (seconds). ``cdf[i]`` is the probability that T <= ``times[i]``; what is
    missing to 1 comes later than all of them, or never. ``announced`` is the probability, below 1,
    that a webhook tells of the end at once.
    """
    c, alone = cost_per_look, 1 - announced
    last = len(times) - 1
    steps = zip(cdf, cdf[1:], times, times[1:], strict=False)
    moments = [0.0, *accumulate([(b - a) * (s + t) / 2 for a, b, s, t in steps])]
    following = [last] * (last + 1)
    to_pay = 0.0
    slopes: list[float] = []
    heights: list[float] = []
    owners: list[int] = []
    lowest = 0
    for i in range(last - 1, -1, -1):
        j = i + 1
        slope = alone * times[j]
        height = slope * cdf[j] - alone * moments[j] - c * announced * cdf[j] + to_pay
        while len(owners) > 1 and (height - heights[-1]) * (slopes[-1] - slopes[-2]) >= (
            heights[-1] - heights[-2]
        ) * (slope - slopes[-1]):
            slopes.pop()
            heights.pop()
            owners.pop()
        slopes.append(slope)
        heights.append(height)
        owners.append(j)
        x = cdf[i]
        if lowest >= len(owners):
            lowest = len(owners) - 1
        best = heights[lowest] - slopes[lowest] * x
        while lowest + 1 < len(owners):
            other = heights[lowest + 1] - slopes[lowest + 1] * x
            if other > best:
                break
            lowest, best = lowest + 1, other
        to_pay = best + alone * moments[i] + c * (1 - alone * x)
        following[i] = owners[lowest]
    looks, i = [], 0
    while i < last:
        i = following[i]
        looks.append(times[i])
    return looks, to_pay


def thinned(times: Sequence[float], cdf: Sequence[float]) -> tuple[list[float], list[float]]:
    """The same law on fewer times: where next to nothing happens, steps may be longer."""
    kept_times, kept_cdf = [times[0]], [cdf[0]]
    for time, share, following in zip(times[1:-1], cdf[1:-1], cdf[2:], strict=True):
        if following - kept_cdf[-1] > NEGLIGIBLE or time > LONGER * kept_times[-1] + 1:
            kept_times.append(time)
            kept_cdf.append(share)
    return [*kept_times, times[-1]], [*kept_cdf, cdf[-1]]


def interpolated(
    times: Sequence[float], values: Sequence[float], at: Sequence[float]
) -> list[float]:
    """``values`` at other times, on straight lines between the known ones and level outside."""
    found = []
    for t in at:
        k = bisect_left(times, t)
        if k == len(times):
            found.append(values[-1])
        elif k == 0 or times[k] == t:
            found.append(values[k])
        else:
            part = (t - times[k - 1]) / (times[k] - times[k - 1])
            found.append(values[k - 1] + part * (values[k] - values[k - 1]))
    return found
