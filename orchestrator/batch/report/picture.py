"""The time line of a batch: a bar for each learner, and for many learners what all of them did.

Bars come :data:`CHUNK` to a picture, each with an axis of its own, so that a print has whole ones
on every page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.batch.report.axis import Axis
from orchestrator.batch.report.drawing import (
    NAMES,
    SHORT,
    WIDTH,
    box,
    number,
    picture,
    text,
    time_axis,
    unit,
)
from orchestrator.batch.report.elements import SIGNS, safe
from orchestrator.batch.report.spans import Phase
from orchestrator.batch.report.tally import BUSY, Bar, Fate, Tally
from orchestrator.batch.report.wording import iso, length

CHUNK = 40
ROW = 18
#: How much of a word has room after a line.
_MOST = 31
_LEFT, _RIGHT, _TOP = 150.0, 200.0, 22.0


def time_axis_of(tally: Tally) -> Axis:
    """The axis of the learners' lines."""
    return Axis(
        tally.batch.created_at,
        tally.horizon,
        left=_LEFT,
        length=WIDTH - _LEFT - _RIGHT,
        cuts=tally.cuts(),
    )


def time_lines(tally: Tally) -> Iterator[str]:
    """The learners' lines, as many pictures as they need."""
    bars, axis = tally.bars(), time_axis_of(tally)
    chunks = [bars[n : n + CHUNK] for n in range(0, len(bars), CHUNK)]
    for n, chunk in enumerate(chunks, 1):
        part = f", part {n} of {len(chunks)}" if len(chunks) > 1 else ""
        bottom = _TOP + ROW * len(chunk)
        yield picture(
            f"line{n}",
            f"Time line of {len(chunk)} learners{part}",
            f"Time in {unit(axis.end - axis.start)} since {iso(tally.batch.created_at)}. "
            "The numbers are in the table of everybody below.",
            bottom + 4,
            _bars(chunk, axis, bottom),
        )


def _bars(bars: Sequence[Bar], axis: Axis, bottom: float) -> Iterator[str]:
    yield from time_axis(axis, _TOP, bottom)
    for n, bar in enumerate(bars):
        yield from _bar(bar, axis, _TOP + ROW * n)


def _bar(bar: Bar, axis: Axis, top: float) -> Iterator[str]:
    item = bar.stored.item
    parts = [
        f"{SHORT[span.phase]} {length(span.end - span.start)}"
        if span.end is not None
        else SHORT[span.phase]
        for span in bar.spans
    ]
    again = f", attempt {bar.stored.attempt}" if bar.stored.attempt > 1 else ""
    told = f"{item.user_id}, lab {item.lab_profile_id}: {'; '.join(parts)}; {bar.word}{again}"
    yield f"<g><title>{safe(told)}</title>"
    yield text(_LEFT - 8, top + 13, short(item.user_id, 20), "name", "end")
    end = axis.left
    for span in bar.spans:
        start = axis.x(span.start)
        end = axis.x(axis.end if span.end is None else span.end)
        if span.phase is Phase.QUEUE:
            dash = " open" if span.end is None else ""
            line = f"M{number(start)} {number(top + 9)}H{number(end)}"
            yield f'<path class="queue{dash}" d="{line}"/>'
        elif span.phase is Phase.UNDER_WAY:
            yield (
                f'<path class="f-under_way edge" d="M{number(start)} {number(top + 4)}'
                f'H{number(max(start, end - 6))}l6 5l-6 5H{number(start)}z"/>'
            )
        else:
            # What is there can be seen, however short it was.
            yield box(span.phase, start, top + 4, max(1.0, end - start), 10)
    took = f" {length(bar.seconds)}" if bar.seconds is not None and bar.fate is Fate.OK else ""
    again = " (again)" if bar.stored.attempt > 1 else ""
    word = bar.word if bar.fate is not Fate.OK else ""
    line = short(f"{SIGNS[bar.fate]}{took} {word}".rstrip(), _MOST - len(again)) + again
    yield text(WIDTH - _RIGHT + 10, top + 13, line, f"end-{bar.fate}")
    yield "</g>\n"


def bands(tally: Tally) -> str:
    """What everybody did, moment by moment: how many had ended, and what was under way."""
    axis = Axis(
        tally.batch.created_at,
        tally.horizon,
        left=56.0,
        length=WIDTH - 56.0 - 20.0,
        cuts=tally.cuts(),
    )
    return picture(
        "bands",
        "Everybody, moment by moment",
        f"Above: how many of {tally.total} had come to their end. Below: how many were in which "
        f"phase. Time in {unit(axis.end - axis.start)} since {iso(tally.batch.created_at)}.",
        388,
        _panels(tally, axis),
    )


def _panels(tally: Tally, axis: Axis) -> Iterator[str]:
    columns = _columns(tally, axis)
    ended = [_levels(tally, fate, columns) for fate in (Fate.OK, Fate.NOT_OK)]
    under_way = [_levels(tally, phase, columns) for phase in (*BUSY, Phase.UNDER_WAY)]
    yield text(56, 14, f"Ended, of {tally.total:,}{_otherwise(tally)}", "caption")
    yield from _stack(("ok", "not_ok"), ended, columns, 180, 140, float(tally.total))
    yield from _scale(180, 140, float(tally.total), axis)
    yield from time_axis(axis, 40, 180)
    most = max(1.0, *(sum(levels) for levels in zip(*under_way, strict=True)))
    yield text(56, 214, "Under way at a time, by phase", "caption")
    names = [phase.value for phase in (*BUSY, Phase.UNDER_WAY)]
    yield from _stack(names, under_way, columns, 380, 140, most)
    yield from _scale(380, 140, most, axis)
    yield from time_axis(axis, 240, 380)


def _otherwise(tally: Tally) -> str:
    return " (hatched: without success)" if tally.fates[Fate.NOT_OK] else ""


def _columns(tally: Tally, axis: Axis) -> list[tuple[int, int, float, float]]:
    """Columns about two pixels wide: which bins, and from where to where."""
    bins = len(tally.levels.means("", tally.horizon))
    width, origin = tally.levels.width, tally.levels.origin
    columns: list[tuple[int, int, float, float]] = []
    first, left = 0, axis.x(origin)
    for n in range(bins):
        right = axis.x(origin + (n + 1) * width)
        if right - left >= 2 or n == bins - 1:
            columns.append((first, n + 1, left, right))
            first, left = n + 1, right
    return columns


def _levels(
    tally: Tally, kind: str, columns: Sequence[tuple[int, int, float, float]]
) -> list[float]:
    means = tally.levels.means(kind, tally.horizon)
    return [max(0.0, sum(means[a:b]) / (b - a)) for a, b, _, _ in columns]


def _stack(
    names: Sequence[str],
    levels: Sequence[Sequence[float]],
    columns: Sequence[tuple[int, int, float, float]],
    bottom: float,
    height: float,
    most: float,
) -> Iterator[str]:
    below = [0.0] * len(columns)
    for name, level in zip(names, levels, strict=True):
        above = [a + b for a, b in zip(below, level, strict=True)]
        if max(level) > 1e-6:
            there = _edge(above, columns, bottom, height / most)
            back = _edge(below, columns, bottom, height / most)
            line = "L".join([*there, *reversed(back)])
            yield f'<path class="f-{name}" d="M{line}z"/>'
        below = above


def _edge(
    levels: Sequence[float],
    columns: Sequence[tuple[int, int, float, float]],
    bottom: float,
    scale: float,
) -> list[str]:
    points: list[tuple[float, float]] = []
    for level, (_, _, left, right) in zip(levels, columns, strict=True):
        y = bottom - level * scale
        points += [(left, y), (right, y)]
    flat = [
        point
        for n, point in enumerate(points)
        if n in (0, len(points) - 1) or not points[n - 1][1] == point[1] == points[n + 1][1]
    ]
    return [f"{number(x)} {number(y)}" for x, y in flat]


def _scale(bottom: float, height: float, most: float, axis: Axis) -> Iterator[str]:
    step = next(
        size * 10**power
        for power in range(9)
        for size in (1, 2, 5)
        if most / (size * 10**power) <= 5
    )
    values = [step * n for n in range(int(most // step) + 1)]
    for value in values:
        y = bottom - value / most * height
        # The first tick of time stands just above.
        yield text(50, max(y + 4, bottom - height + 10), f"{value:,}", "tick", "end")
        yield f'<path class="grid" d="M56 {number(y)}H{number(axis.left + axis.length)}"/>'


def legend(phases: Sequence[Phase]) -> str:
    """What the patterns mean."""
    entries = "".join(f"<li>{_sample(phase)} {NAMES[phase]}</li>" for phase in phases)
    return f'<ul class="legend">{entries}</ul>\n'


def _sample(phase: Phase) -> str:
    shape = (
        '<path class="queue" d="M0 6H26"/>' if phase == Phase.QUEUE else box(phase, 0, 1, 26, 10)
    )
    return f'<svg width="26" height="12" aria-hidden="true" focusable="false">{shape}</svg>'


def phases_of(bars: Sequence[Bar]) -> list[Phase]:
    """The phases that occur, in the order in which they come."""
    there = {span.phase for bar in bars for span in bar.spans}
    return [phase for phase in Phase if phase in there]


def short(words: str, most: int) -> str:
    """Not more than so many characters."""
    return words if len(words) <= most else f"{words[: most - 1]}…"
