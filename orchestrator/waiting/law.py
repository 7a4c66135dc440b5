"""How likely each teardown time is, learned from looks that only ever bracket it.

A look that finds the slot busy and a later one that finds it free say: T fell between the two. Such
brackets are counted on a grid of times. Three things have to be settled to make a law of them.

* *Where in its bracket did T fall?* As the law says at present: each bracket's weight is shared out
  among its cells in proportion to their probability, which gives the next law, and so on. (Turnbull
  1976; as an algorithm it is expectation-maximisation, one round whenever the law is renewed.)
* *How far does one observation speak for the times beside it, and how fast does it age?* No answer
  suits every lab, so several estimates are kept: the counts as they are and smoothed over ever
  wider stretches of the grid, each with a long and a short memory; a single bell; and what is known
  without any observation of this lab. Each foretells every bracket before it is learned; the better
  it has done that (the logarithm of the probability that it gave, summed, older ones fading), the
  more it weighs in the average.
* *Where must the grid be fine?* Cells are 0.25 s wide, then 3 % of the time; a cell that holds much
  of the probability is halved, again and again: teardown by a timer needs hundredths of a second.

Whatever has been seen, the law of what is known beforehand keeps a small weight: a time that never
occurred is unlikely, not impossible. Beforehand means the law of the lab's relatives, blurred, for
they are like it but not the same; without any, the chance that T is later than t is 60/(t + 60).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, compress, pairwise
from operator import add, mul
from typing import Any

from orchestrator.waiting.inspection import interpolated

#: What remains of a weight after one more observation: the long and the short memory.
MEMORIES = (0.998, 0.95)
#: Smoothing reaches so many cells to either side, twice over.
WIDTHS = (0, 1, 3, 9, 22)
#: The weight of the law beforehand, in observations.
BEFOREHAND = 0.3
#: How much of an old success in foretelling counts after one more.
RENOWN = 0.98
#: Cells with more probability than this are halved, down to a twentieth of a second.
HEAVY, FINEST = 0.1, 0.08
#: So many different brackets are kept; the one with the least weight goes.
BRACKETS = 150
#: The grid is looked over after so many observations, and then every 32.
GRID_RENEWALS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32)
#: An estimate that weighs less is passed over until the next full renewal.
NEGLIGIBLE = 0.02

Cells = list[float]


class Law:
    """See the module's docstring. Times in seconds; ``relatives`` is the law known beforehand."""

    def __init__(self, deadline: float, relatives: Law | None = None) -> None:
        self.deadline = deadline
        self.relatives = relatives
        self.observations = 0
        self._base = _base_times(deadline)
        #: The grid, and at each of its times the probability that T is not later.
        self.times = self._base
        self.cdf = self._known_beforehand()
        # For each different bracket its weight in each memory, in units that grow instead of all
        # the weights fading.
        self._brackets: dict[tuple[float, float], list[float]] = {}
        self._units = [1.0] * len(MEMORIES)
        self._places: dict[tuple[float, float], tuple[int, int]] = {}
        self._renown = [0.0] * (len(MEMORIES) * len(WIDTHS) + 2)
        self._foretold: list[Cells] = []
        self._since_renewal = 0
        self._surprised = False
        self._renewals = 0
        self._relatives_knew = 0

    @property
    def informed(self) -> bool:
        """Whether anything was ever observed, here or among the relatives."""
        return self.observations > 0 or (self.relatives is not None and self.relatives.informed)

    @property
    def due(self) -> bool:
        """Whether enough was observed since the last renewal to make the next one worth while."""
        if self._since_renewal > 0:
            return self._surprised or self._since_renewal >= min(self.observations, 64) // 8
        # The less is known here, the more the relatives count.
        learned = 0 if self.relatives is None else self.relatives.observations
        return self.observations < 10 and learned > 1.2 * self._relatives_knew

    def observe(self, low: float, high: float) -> None:
        """T fell between ``low`` and ``high``; ``math.inf``: later than ``low``, or never."""
        bracket = self._on_grid(low, high)
        i, j = self._position(bracket)
        for k, cdf in enumerate(self._foretold):
            foretold = math.log(max(_chance(cdf, i, j), 1e-4))
            self._renown[k] = RENOWN * self._renown[k] + foretold
        self._surprised = self._surprised or _chance(self.cdf, i, j) < 0.05
        self._units = [u / m for u, m in zip(self._units, MEMORIES, strict=True)]
        weights = self._brackets.setdefault(bracket, [0.0] * len(MEMORIES))
        for k, unit in enumerate(self._units):
            weights[k] += unit
        if len(self._brackets) > BRACKETS:
            least = min(self._brackets, key=lambda b: self._brackets[b][0])
            del self._brackets[least]
            self._places.pop(least, None)
        if self._units[-1] > 1e100:
            self._use_plain_units()
        self.observations += 1
        self._since_renewal += 1

    def renew(self) -> None:
        """Work the observations since the last renewal into the law."""
        if self.relatives is not None:
            if self.relatives.due:
                self.relatives.renew()
            self._relatives_knew = self.relatives.observations
        if self.observations == 0:
            self.cdf = self._known_beforehand()
            return
        if self._renewals == 0 and self.relatives is not None and self.relatives.informed:
            # What is known of the relatives counts as much as all the estimates from a few waits.
            self._renown[-1] += math.log(len(self._renown))
        if self.observations in GRID_RENEWALS or self.observations % 32 < self._since_renewal:
            self._renew_grid()
        prior = _masses(self._known_beforehand())
        best = max(self._renown)
        shares = [math.exp(r - best) for r in self._renown]
        total = sum(shares)
        counts = [share > NEGLIGIBLE * total for share in shares]
        everybody = not self._foretold or self._renewals % 8 == 0
        estimates = self._estimates(prior, [everybody or one for one in counts])
        law = [0.0] * len(prior)
        for estimate, share in compress(zip(estimates, shares, strict=True), counts):
            if estimate is not None:
                law = list(map(add, law, [share * mass for mass in estimate]))
        used = sum(compress(shares, counts))
        self.cdf = [0.0, *accumulate(mass / used for mass in law)]
        self._foretold = [
            self._foretold[k] if estimate is None else [0.0, *accumulate(estimate)]
            for k, estimate in enumerate(estimates)
        ]
        self._renewals += 1
        self._since_renewal = 0
        self._surprised = False

    def quantile(self, share: float) -> float:
        """The time by which ``share`` (0 to 1) of the teardowns are over; ``math.inf``: never."""
        k = bisect_left(self.cdf, share)
        if k >= len(self.cdf):
            return math.inf
        if k == 0:
            return self.times[0]
        below, above = self.cdf[k - 1], self.cdf[k]
        part = (share - below) / (above - below)
        return self.times[k - 1] + part * (self.times[k] - self.times[k - 1])

    def mean_between(self, low: float, high: float) -> float:
        """Where in the bracket T is to be expected."""
        inner = [t for t in self.times if low < t < high]
        ends = [low, *inner, min(high, self.times[-1])]
        cdf = interpolated(self.times, self.cdf, ends)
        mass = cdf[-1] - cdf[0]
        if mass <= 0:
            return (low + ends[-1]) / 2
        weighted = zip(pairwise(cdf), pairwise(ends), strict=True)
        return sum((b - a) * (s + t) / 2 for (a, b), (s, t) in weighted) / mass

    def resolved(self, low: float, high: float) -> float:
        """The weight of what was seen well inside the bracket: how well it is known there."""
        enough = 0.75 * (high - low)
        weights = (
            kept[0]
            for (start, end), kept in self._brackets.items()
            if low <= start and end <= high and end - start < enough
        )
        return sum(weights) / self._units[0]

    # Brackets and the grid.

    def _on_grid(self, low: float, high: float) -> tuple[float, float]:
        """The nearest times of the grid, at least one cell apart."""
        last = len(self.times) - 1
        if high == math.inf:
            return self.times[min(self._nearest(low), last)], math.inf
        if low >= high:
            # A webhook told the moment itself.
            k = min(max(bisect_left(self.times, high), 1), last)
            return self.times[k - 1], self.times[k]
        i = min(self._nearest(low), last - 1)
        return self.times[i], self.times[min(max(self._nearest(high), i + 1), last)]

    def _nearest(self, t: float) -> int:
        k = bisect_left(self.times, t)
        if 0 < k < len(self.times) and t - self.times[k - 1] < self.times[k] - t:
            return k - 1
        return min(k, len(self.times) - 1)

    def _position(self, bracket: tuple[float, float]) -> tuple[int, int]:
        """The numbers of the bracket's ends; one beyond the last stands for "never"."""
        if bracket in self._places:
            return self._places[bracket]
        low, high = bracket
        last = len(self.times) - 1
        i = self._nearest(low)
        if high == math.inf:
            place = i, last + 1
        else:
            i = min(i, last - 1)
            place = i, max(self._nearest(high), i + 1)
        self._places[bracket] = place
        return place

    def _renew_grid(self) -> None:
        times = [0.0]

        def halve(start: float, end: float, below: float, above: float) -> None:
            if end - start > FINEST and above - below > HEAVY:
                middle = (start + end) / 2
                (half,) = interpolated(self.times, self.cdf, [middle])
                halve(start, middle, below, half)
                halve(middle, end, half, above)
            else:
                times.append(end)

        known = interpolated(self.times, self.cdf, self._base)
        for (start, end), (below, above) in zip(pairwise(self._base), pairwise(known), strict=True):
            halve(start, end, below, above)
        if times != self.times:
            self._foretold = [interpolated(self.times, cdf, times) for cdf in self._foretold]
            self.cdf = interpolated(self.times, self.cdf, times)
            self.times = times
            self._places = {}

    # The estimates.

    def _known_beforehand(self) -> Cells:
        if self.relatives is None or not self.relatives.informed:
            return [t / (t + 60.0) for t in self.times]
        return interpolated(self._base, self.relatives.blurred(), self.times)

    def blurred(self) -> Cells:
        """The law for somebody like this one, on the base grid: the same, give or take a tenth."""
        masses = _masses(interpolated(self.times, self.cdf, self._base))
        return [0.0, *accumulate(_smoothed(masses, WIDTHS[-3]))]

    def _estimates(self, prior: Cells, wanted: Sequence[bool]) -> list[Cells | None]:
        """The masses that each estimate gives to the cells, in the order of ``_renown``."""
        placed = [(*self._position(b), weights) for b, weights in self._brackets.items()]
        found: list[Cells | None] = []
        bell: Cells | None = None
        for memory, unit in enumerate(self._units):
            of_memory = wanted[len(found) : len(found) + len(WIDTHS)]
            if not any(of_memory) and not (memory == 0 and wanted[-2]):
                found += [None] * len(WIDTHS)
                continue
            counts, total = self._shared_out(placed, memory, unit)
            if memory == 0 and wanted[-2]:
                bell = _bell(self.times, counts, total, prior)
            scale = 1 / (total + BEFOREHAND)
            rest = [BEFOREHAND * scale * mass for mass in prior]
            for width, is_wanted in zip(WIDTHS, of_memory, strict=True):
                if is_wanted:
                    smooth = _smoothed(counts, width)
                    found.append([scale * n + r for n, r in zip(smooth, rest, strict=True)])
                else:
                    found.append(None)
        return [*found, bell, prior]

    def _shared_out(
        self, placed: Iterable[tuple[int, int, list[float]]], memory: int, unit: float
    ) -> tuple[Cells, float]:
        """The weights of all brackets on the cells, and their sum with those beyond the last."""
        cdf = [*self.cdf, 1.0]
        rates = [0.0] * (len(cdf) + 1)
        for i, j, weights in placed:
            mass = cdf[j] - cdf[i]
            if mass > 0:
                rate = weights[memory] / unit / mass
                rates[i] += rate
                rates[j] -= rate
        rates = list(accumulate(rates))
        counts = list(map(mul, rates, _masses(self.cdf)))
        beyond = rates[len(counts)] * (1 - self.cdf[-1])
        return counts, sum(counts) + beyond

    def _use_plain_units(self) -> None:
        for weights in self._brackets.values():
            for k, unit in enumerate(self._units):
                weights[k] /= unit
        self._units = [1.0] * len(MEMORIES)

    # The stored form.

    def to_plain(self) -> dict[str, Any]:
        """Everything that was learned, as JSON data of less than 8 kB."""
        self._use_plain_units()
        return {
            "deadline": self.deadline,
            "observations": self.observations,
            "brackets": [
                [round(low, 3), None if high == math.inf else round(high, 3),
                 *(float(f"{w:.4g}") for w in weights)]
                for (low, high), weights in self._brackets.items()
            ],
            "renown": [round(r, 3) for r in self._renown],
            "halved": [round(t, 4) for t in sorted(set(self.times) - set(self._base))],
            "cdf": [round(p, 5) for p in self.cdf],
        }  # fmt: skip

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], relatives: Law | None = None) -> Law:
        """Take up what :meth:`to_plain` gave. Raises ``ValueError`` if it doesn't fit together."""
        law = cls(float(data["deadline"]), relatives)
        law.observations = int(data["observations"])
        times = sorted({*law._base, *(float(t) for t in data["halved"])})
        cdf = [float(p) for p in data["cdf"]]
        renown = [float(r) for r in data["renown"]]
        if len(cdf) != len(times) or len(renown) != len(law._renown):
            raise ValueError("law: its parts do not fit together")
        if any(a > b for a, b in pairwise(cdf)) or not 0 <= cdf[0] <= cdf[-1] <= 1:
            raise ValueError("cdf: does not rise from 0 to 1")
        law.times, law.cdf, law._renown = times, cdf, renown
        for low, high, *weights in data["brackets"]:
            bracket = float(low), math.inf if high is None else float(high)
            if len(weights) != len(MEMORIES) or not 0 <= bracket[0] < bracket[1]:
                raise ValueError("brackets: one is no bracket")
            # Rounding may have made one bracket of two.
            kept = law._brackets.setdefault(law._on_grid(*bracket), [0.0] * len(MEMORIES))
            for k, weight in enumerate(weights):
                kept[k] += float(weight)
        law._since_renewal = law._renewals = min(law.observations, 1)
        law._surprised = law.observations > 0
        return law


def _base_times(deadline: float) -> list[float]:
    times = [0.0]
    while (following := times[-1] + max(0.25, 0.03 * times[-1])) < deadline:
        times.append(following)
    return [*times, deadline]


def _chance(cdf: Sequence[float], i: int, j: int) -> float:
    """The probability of a bracket by the numbers of its ends; see ``Law._position``."""
    return (cdf[j] if j < len(cdf) else 1.0) - cdf[i]


def _masses(cdf: Sequence[float]) -> Cells:
    return [b - a for a, b in pairwise(cdf)]


def _smoothed(masses: Cells, width: int) -> Cells:
    """The running mean over ``width`` cells to either side, twice; what leaves is thrown back."""
    if width == 0:
        return masses
    span, reach = 2 * width + 1, 2 * width
    extended = [*reversed(masses[:reach]), *masses, *reversed(masses[-reach:])]
    # The mean of means is a second difference of sums of sums.
    sums = [0.0, 0.0, *accumulate(accumulate(extended))]
    scale = 1 / span**2
    return [
        (left - 2 * middle + right) * scale
        for left, middle, right in zip(sums, sums[span:], sums[2 * span :], strict=False)
    ]


def _bell(times: Sequence[float], counts: Cells, total: float, prior: Cells) -> Cells:
    """One bell over log(1 + t), wide while little is known, and a trace of the law beforehand."""
    body = sum(counts)
    middles = [math.log1p((s + t) / 2) for s, t in pairwise(times)]
    mean = sum(map(mul, counts, middles)) / max(body, 1e-9)
    spread = sum(n * (u - mean) ** 2 for n, u in zip(counts, middles, strict=True))
    variance = (spread + 0.25) / (body + 1) * (1 + 1 / (body + 1))
    scale = 1 / math.sqrt(2 * variance)
    cdf = [0.5 * math.erf((math.log1p(t) - mean) * scale) for t in times]
    trace = 0.2 / (1 + body)
    share = (1 - trace) * body / total
    return [share * (b - a) + trace * p for (a, b), p in zip(pairwise(cdf), prior, strict=True)]
