"""What the pictures share: the frame with its name for those who don't see it, patterns, the axis.

Inline SVG, as text. Colours are classes of the page's style, so that they follow its look; every
phase has a pattern of its own, too, so that none is told by colour alone. Only attributes are used
and no ``style``, which the page's content security policy forbids.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from orchestrator.batch.report.axis import Axis
from orchestrator.batch.report.elements import safe
from orchestrator.batch.report.spans import Phase
from orchestrator.batch.report.wording import colon, length

WIDTH = 960
#: From here on an axis counts in hours.
_HOURS = 3 * 3600

#: What each phase is called: in a legend, and in a sentence about one learner.
NAMES: dict[Phase, str] = {
    Phase.QUEUE: "waiting its turn",
    Phase.LOOK: "looking and trying, before anything is ended",
    Phase.TEARDOWN: "ending the old lab, and its teardown",
    Phase.LAUNCH: "launching the new lab",
    Phase.HELD: "held up: waiting for the platform",
    Phase.UNDER_WAY: "under way, not over yet",
}
SHORT: dict[Phase, str] = {
    Phase.QUEUE: "waited its turn",
    Phase.LOOK: "looked",
    Phase.TEARDOWN: "teardown",
    Phase.LAUNCH: "launched",
    Phase.HELD: "held up",
    Phase.UNDER_WAY: "under way",
}

#: The patterns, once for the whole page; ``c-`` classes are the plain colours.
PATTERNS = """\
<svg class="defs" width="0" height="0" aria-hidden="true" focusable="false"><defs>
<pattern id="p-look" width="4" height="4" patternUnits="userSpaceOnUse">\
<path class="c-look" d="M0 0h4v4H0z"/><circle class="ink-look" cx="2" cy="2" r=".9"/></pattern>
<pattern id="p-teardown" width="6" height="6" patternUnits="userSpaceOnUse" \
patternTransform="rotate(45)"><path class="c-teardown" d="M0 0h6v6H0z"/>\
<path class="ink-teardown" d="M0 0h1.6v6H0z"/></pattern>
<pattern id="p-held" width="4" height="4" patternUnits="userSpaceOnUse">\
<path class="c-held" d="M0 0h4v4H0z"/><path class="ink-held" d="M0 0h1.5v4H0z"/></pattern>
<pattern id="p-under_way" width="8" height="4" patternUnits="userSpaceOnUse">\
<path class="c-under_way" d="M0 0h4v4H0z"/></pattern>
<pattern id="p-not_ok" width="5" height="5" patternUnits="userSpaceOnUse" \
patternTransform="rotate(-45)"><path class="c-not_ok" d="M0 0h5v5H0z"/>\
<path class="ink-not_ok" d="M0 0h1.5v5H0z"/></pattern>
</defs></svg>
"""


def number(value: float) -> str:
    """A coordinate, as short as it can be said."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def picture(name: str, title: str, description: str, height: float, parts: Iterator[str]) -> str:
    """A whole SVG; ``name`` is its id on the page."""
    return (
        f'<svg id="{name}" class="picture" viewBox="0 0 {WIDTH} {number(height)}" '
        f'width="{WIDTH}" height="{number(height)}" role="img" '
        f'aria-labelledby="{name}-t" aria-describedby="{name}-d">\n'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>\n{"".join(parts)}</svg>\n'
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text; its baseline is at ``y``."""
    cls = f' class="{kind}"' if kind else ""
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text{cls} x="{number(x)}" y="{number(y)}"{place}>{safe(words)}</text>'


def box(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A filled box of a kind (a phase, say)."""
    return (
        f'<path class="f-{kind}" d="M{number(x)} {number(y)}h{number(width)}v{number(height)}'
        f'h-{number(width)}z"/>'
    )


def time_axis(axis: Axis, top: float, bottom: float) -> Iterator[str]:
    """Lines through the picture at each tick, its time above; and where pauses were cut out."""
    for x, seconds in axis.ticks():
        yield f'<path class="grid" d="M{number(x)} {number(top)}V{number(bottom)}"/>'
        yield text(x, top - 5, clock_label(seconds, axis.end - axis.start), "tick", "middle")
    for cut in axis.cuts:
        left = axis.x(cut.start)
        middle = left + axis.GAP / 2
        yield (
            f'<path class="cut" d="M{number(left)} {number(top)}h{number(axis.GAP)}'
            f'V{number(bottom)}h-{number(axis.GAP)}z"/>'
        )
        yield (
            f'<text class="tick" transform="translate({number(middle + 4)} '
            f'{number(bottom - 4)}) rotate(-90)">'
            f"{escape(f'{length(cut.end - cut.start)} pause' if bottom - top > 90 else '')}</text>"
        )


def clock_label(seconds: float, whole: float) -> str:
    """A tick's time, in the :func:`unit` of an axis of ``whole`` seconds."""
    if whole < 300:
        return colon(seconds)
    if whole < _HOURS:
        return f"{seconds / 60:g}"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min" if minutes else "0"
    return f"{hours} h {minutes:02}" if minutes else f"{hours} h"


def unit(whole: float) -> str:
    """What the ticks' numbers are."""
    if whole < 300:
        return "minutes:seconds"
    return "minutes" if whole < _HOURS else "hours and minutes"
