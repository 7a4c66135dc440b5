"""The spread of teardown times: how many took how long, with the median and the tenths marked.

One picture for each lab profile that was ended, on the same axis. Teardowns that nobody saw the end
of are counted beside it, and not in it: they took longer than was seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.batch.report.axis import round_length
from orchestrator.batch.report.drawing import WIDTH, clock_label, number, picture, text, unit
from orchestrator.batch.report.tally import Tally, Times
from orchestrator.batch.report.wording import length

#: So many lab profiles get a picture, those with the most teardowns; the table names all.
MOST_LABS = 6
_LEFT, _RIGHT, _HEIGHT, _TOP = 56.0, 120.0, 90.0, 40.0
_COLUMNS = 40
_FEW = 5


def spreads(tally: Tally) -> Iterator[str]:
    """The pictures; none if no teardown was over."""
    if not tally.times.over:
        return
    # A few that took very long would press all others into one column.
    usual = tally.times.quantile(0.95) * 1.5
    longest = min(max(tally.times.over), max(usual, 5.0))
    width = round_length(longest / _COLUMNS)
    columns = int(longest // width) + 1
    drawn = [lab for lab in largest(tally)[:MOST_LABS] if tally.labs[lab].over]
    counts = {lab: _counted(tally.labs[lab], width, columns) for lab in drawn}
    if not any(count[-1] for count in counts.values()):
        counts = {lab: count[:-1] for lab, count in counts.items()}
    for lab in drawn:
        yield _spread(lab, tally.labs[lab], counts[lab], width, columns)


def largest(tally: Tally) -> list[int]:
    """The lab profiles with teardowns, those with the most first."""
    return sorted(tally.labs, key=lambda lab: (-len(tally.labs[lab].over), lab))


def _counted(times: Times, width: float, columns: int) -> list[int]:
    """How many there are in each column; in the last are those beyond."""
    counts = [0] * (columns + 1)
    for seconds in times.over:
        counts[min(columns, int(seconds // width))] += 1
    return counts


def _spread(lab: int, times: Times, counts: list[int], width: float, columns: int) -> str:
    low, middle, high = (times.quantile(share) for share in (0.1, 0.5, 0.9))
    return picture(
        f"spread{lab}",
        f"Teardown times of lab {lab}",
        f"{len(times.over)} teardowns: half within {length(middle)}, one in ten within "
        f"{length(low)}, nine in ten within {length(high)}, the longest {length(max(times.over))}.",
        _TOP + _HEIGHT + 34,
        _drawn(lab, counts, columns, width, (low, middle, high)),
    )


def _drawn(
    lab: int, counts: list[int], columns: int, width: float, marks: tuple[float, float, float]
) -> Iterator[str]:
    room = (WIDTH - _LEFT - _RIGHT) / len(counts)
    base, most = _TOP + _HEIGHT, max(counts)
    yield text(0, 14, f"Lab {lab}", "caption")
    for n, count in enumerate(counts):
        height = count / most * _HEIGHT
        kind = "beyond" if n == columns else "teardown"
        if count:
            yield (
                f'<path class="f-{kind}" d="M{number(_LEFT + n * room + 0.5)} {number(base)}'
                f'v-{number(max(1.0, height))}h{number(max(0.5, room - 1))}V{number(base)}z">'
                f"<title>{_told(n, count, width, n == columns)}</title></path>"
            )
    yield f'<path class="axis" d="M{number(_LEFT)} {number(base)}H{number(WIDTH - _RIGHT)}"/>'
    yield text(_LEFT - 6, _TOP + 4, f"{most:,}", "tick", "end")
    yield text(_LEFT - 6, base, "0", "tick", "end")
    yield from _ticks(columns, len(counts) > columns, width, room, base)
    edge = _LEFT + len(counts) * room
    low, middle, high = (min(edge, _LEFT + mark / width * room) for mark in marks)
    labels = (
        (low, _TOP - 2, f"10 %: {length(marks[0])}", "end"),
        (high, _TOP - 2, f"90 %: {length(marks[2])}", "start"),
        (middle, _TOP - 18, f"median: {length(marks[1])}", "middle"),
    )
    # Of a few teardowns the tenths say nothing.
    for x, y, words, anchor in labels if sum(counts) >= _FEW else labels[2:]:
        kind = "median" if anchor == "middle" else "tenth"
        yield f'<path class="{kind}" d="M{number(x)} {number(y + 4)}V{number(base)}"/>'
        room_left = 6.5 * len(words)
        if anchor == "end" and x < room_left:
            x, anchor = 0.0, "start"
        if anchor == "middle":
            x = max(x, room_left / 2)
        yield text(x + {"end": -4, "start": 4, "middle": 0}[anchor], y, words, "mark", anchor)


def _ticks(columns: int, more: bool, width: float, room: float, base: float) -> Iterator[str]:
    step = round_length(columns * width / 10)
    seconds = 0.0
    while seconds <= columns * width + 1e-9:
        x = _LEFT + seconds / width * room
        yield f'<path class="axis" d="M{number(x)} {number(base)}v4"/>'
        yield text(x, base + 17, clock_label(seconds, columns * width), "tick", "middle")
        seconds += step
    yield text(WIDTH - _RIGHT + 26, base + 17, unit(columns * width), "tick")
    if more:
        yield text(WIDTH - _RIGHT, base + 31, "longer", "tick", "end")


def _told(n: int, count: int, width: float, beyond: bool) -> str:
    if beyond:
        return f"{count}: {length(n * width)} or longer"
    return f"{count}: {length(n * width)} to {length((n + 1) * width)}"
