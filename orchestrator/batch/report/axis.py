"""The axis of time under every picture: where a moment lies, and which moments get a tick.

A batch that was stopped at night and resumed in the morning has hours in which nothing happened;
such a pause is cut out, and said where it was, so that what happened stays visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

#: Lengths that people count in, in seconds.
ROUND = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800,
)  # fmt: skip
#: A pause is cut out if it is longer than this, and than this share of all the rest.
PAUSE_SECONDS = 300.0
PAUSE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Cut:
    """A pause from ``start`` to ``end`` that the axis leaves out."""

    start: float
    end: float


def round_length(seconds: float) -> float:
    """The shortest length that people count in, of at least so many seconds."""
    for length in ROUND:
        if length >= seconds:
            return float(length)
    weeks = 1
    while weeks * ROUND[-1] < seconds:
        weeks *= 2
    return float(weeks * ROUND[-1])


def pauses(busy: Sequence[bool], width: float, origin: float) -> tuple[Cut, ...]:
    """The pauses to cut out, where ``busy`` says of each bin whether anything went on in it."""
    runs: list[Cut] = []
    start: int | None = None
    for n, is_busy in enumerate([*busy, True]):
        if not is_busy:
            start = n if start is None else start
        elif start is not None:
            runs.append(Cut(origin + start * width, origin + n * width))
            start = None
    active = sum(busy) * width
    longest = max(PAUSE_SECONDS, PAUSE_SHARE * active)
    return tuple(cut for cut in runs if cut.end - cut.start > longest)


class Axis:
    """Moments from ``start`` to ``end`` on ``length`` pixels that begin at ``left``."""

    #: Pixels that a cut takes.
    GAP = 26.0

    def __init__(
        self, start: float, end: float, *, left: float, length: float, cuts: Iterable[Cut] = ()
    ) -> None:
        self.start, self.end = start, max(end, start + 1.0)
        self.left, self.length = left, length
        self.cuts = tuple(
            Cut(max(cut.start, start), min(cut.end, self.end))
            for cut in cuts
            if cut.end > start and cut.start < self.end
        )
        shown = self.end - self.start - sum(cut.end - cut.start for cut in self.cuts)
        self.seconds = max(shown, 1e-9)
        self._scale = max(0.0, length - self.GAP * len(self.cuts)) / self.seconds

    def x(self, at: float) -> float:
        """Where a moment lies; those outside lie on the edge."""
        at = min(max(at, self.start), self.end)
        x, since = self.left, self.start
        for cut in self.cuts:
            if at <= cut.start:
                break
            x += (cut.start - since) * self._scale
            within = min(1.0, (at - cut.start) / (cut.end - cut.start))
            x += within * self.GAP
            since = cut.end
            if at <= cut.end:
                return x
        return x + (at - since) * self._scale

    def ticks(self, most: int = 10) -> Iterator[tuple[float, float]]:
        """``(x, seconds since the start)`` of each tick, none within a cut."""
        step = round_length(self.seconds / most)
        room = 0.7 * step * self._scale
        last = float("-inf")
        for start, end in self._shown():
            n = int(-(-(start - self.start) // step))
            while self.start + n * step <= end:
                x = self.x(self.start + n * step)
                if x - last >= room:
                    last = x
                    yield x, n * step
                n += 1

    def _shown(self) -> Iterator[tuple[float, float]]:
        since = self.start
        for cut in self.cuts:
            yield since, cut.start
            since = cut.end
        yield since, self.end
