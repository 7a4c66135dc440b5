"""How many learners were in which phase at each moment, in constant memory however many there are.

Each level is kept as its steps, in :data:`BINS` bins of equal width; when the time grows beyond
them, two bins become one. A step within a bin is shared with the next, so that each bin holds the
level's mean over it, exactly. So a batch is read once, and its length need not be known before.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BINS = 4096


class Levels(Generic[K]):
    """Counts that step up and down in time, by kind. Times count from ``origin``."""

    def __init__(self, origin: float) -> None:
        self.origin = origin
        self.width = 1.0
        self._steps: dict[K, list[float]] = {}

    def step(self, kind: K, at: float, by: float) -> None:
        """From ``at`` on, the level of ``kind`` is higher ``by`` so much."""
        since = max(0.0, at - self.origin)
        while since >= self.width * (BINS - 1):
            self._widen()
        steps = self._steps.get(kind)
        if steps is None:
            steps = self._steps[kind] = [0.0] * BINS
        n, share = divmod(since / self.width, 1)
        steps[int(n)] += by * (1 - share)
        steps[int(n) + 1] += by * share

    def span(self, kind: K, start: float, end: float | None) -> None:
        """One more from ``start`` until ``end``, or for good."""
        self.step(kind, start, 1)
        if end is not None:
            self.step(kind, end, -1)

    def means(self, kind: K, until: float) -> list[float]:
        """The mean level in each bin up to ``until``, which lies in the last of them."""
        bins = min(BINS, int(max(0.0, until - self.origin) / self.width) + 1)
        steps = self._steps.get(kind)
        if steps is None:
            return [0.0] * bins
        return list(accumulate(steps[:bins]))

    def _widen(self) -> None:
        self.width *= 2
        for kind, steps in self._steps.items():
            means = list(accumulate(steps))
            half = [(a + b) / 2 for a, b in zip(means[::2], means[1::2], strict=True)]
            half += [means[-1]] * (BINS - len(half))
            self._steps[kind] = [half[0], *(b - a for a, b in pairwise(half))]
