"""A batch as one page of HTML, to be looked at, printed, and mailed.

* One file: no script, nothing from elsewhere, and a content security policy that allows neither.
  Mail it as an attachment: what a mail shows in its body loses its style, a browser keeps it.
* Small: under 1.5 MB however many learners. Up to :data:`MOST_ROWS` are in the table of everybody
  (end tags that HTML lets one leave out are left out there), up to 250 have a bar; beyond that the
  slowest have one and all are in the picture of everybody, and the page says what it leaves out.
* Everything that comes from elsewhere is escaped, user ids above all, and no address is let in.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import escape
from importlib.resources import files

from orchestrator.batch.report import headline as words
from orchestrator.batch.report.drawing import PATTERNS, box
from orchestrator.batch.report.elements import SIGNS, safe, table, time_element, with_commands
from orchestrator.batch.report.kept import KeptText
from orchestrator.batch.report.sections import left_to_do, row, the_run, the_teardowns
from orchestrator.batch.report.tally import Fate, Tally
from orchestrator.batch.report.wording import clock, iso, length
from orchestrator.durable.batches import Batch, StoredItem

#: So many learners are in the table of everybody.
MOST_ROWS = 5000

_STYLE = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"

_FATE_WORDS = {
    Fate.OK: "done",
    Fate.NOT_OK: "not done",
    Fate.UNDER_WAY: "under way",
    Fate.WAITING: "not begun",
}
_SECTIONS = (
    ("left", "What is left to do"),
    ("run", "The run"),
    ("teardowns", "The teardowns"),
    ("everybody", "Everybody"),
)
_COLUMNS = (
    "No.", "Learner", "Lab", "How it ended", "New instance", "Instance ended", "Begun", "Ended",
    "Took", "Teardown",
)  # fmt: skip


class PageWriter:
    """The page; its table of everybody is kept until all that stands above it is known."""

    def __init__(self, batch: Batch, *, at: float) -> None:
        self._tally = Tally(batch, at=at)
        self._rows = KeptText()

    def add(self, stored: StoredItem) -> str:
        """Nothing yet: the headline comes first."""
        bar = self._tally.add(stored)
        if self._tally.total <= MOST_ROWS:
            self._rows.add(row(bar))
        return ""

    def end(self) -> Iterator[str]:
        """The whole page."""
        tally = self._tally
        sections = ["".join(part(tally)) for part in (left_to_do, the_run, the_teardowns)]
        yield from _top(tally)
        yield _contents(zip(_SECTIONS, [*sections, tally.total], strict=True))
        yield from sections
        yield from self._everybody(tally)
        yield (
            f"<footer><p>Written on {time_element(tally.at)}. All times are in UTC. This page is "
            "one file: it runs no script and loads nothing, so it can be mailed as an attachment."
            "</p>"
            "</footer>\n</main></body></html>\n"
        )

    def _everybody(self, tally: Tally) -> Iterator[str]:
        if tally.total == 0:
            return
        yield '<section><h2 id="everybody">Everybody</h2>\n'
        if tally.total > MOST_ROWS:
            yield (
                f"<p>The first {MOST_ROWS:,} of {tally.total:,}. "
                f"{with_commands(words.whole_list(tally))}</p>\n"
            )
        yield table("everybody", "all", _COLUMNS)
        yield from self._rows.chunks()
        yield (
            '</table></div>\n<p class="note">Times of day are UTC, the whole date is in each '
            "one's tooltip; took and teardown are minutes:seconds.</p></section>\n"
        )


def _top(tally: Tally) -> Iterator[str]:
    batch = tally.batch
    title = f"Batch {batch.batch_id}"
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="robots" content="noindex">\n'
        f"<title>{escape(title)}: {escape(words.headline(tally))}</title>\n"
        f"<style>{_STYLE}</style></head>\n<body>{PATTERNS}<main>\n"
    )
    selected = f"selected by {batch.selection}" if batch.selection else "by a list"
    yield (
        f'<header><p class="what">{escape(words.subject(tally))}, {safe(selected)}</p>\n'
        f'<h1>{escape(title)}</h1>\n<p class="when">Begun {time_element(batch.created_at)}'
        f"{_ended(tally)}</p></header>\n"
    )
    yield f'<p class="headline">{escape(words.headline(tally))}</p>\n'
    yield _share(tally)
    for sentence in words.state_sentences(tally):
        yield f'<p class="state">{with_commands(sentence)}</p>\n'
    yield from _numbers(tally)


def _contents(sections: Iterable[tuple[tuple[str, str], object]]) -> str:
    """The way to each section that there is."""
    links = [f'<a href="#{name}">{title}</a>' for (name, title), there in sections if there]
    return f'<nav aria-label="Contents">{" ".join(links)}</nav>\n' if links else ""


def _ended(tally: Tally) -> str:
    if not (tally.is_through and tally.total):
        return ""
    if iso(tally.last)[:10] != iso(tally.batch.created_at)[:10]:
        return f", ended {time_element(tally.last)}"
    return f', ended at <time datetime="{iso(tally.last)}">{clock(tally.last)}</time>'


def _share(tally: Tally) -> str:
    """The headline as a bar."""
    if tally.total == 0:
        return ""
    x, parts, told = 0.0, [], []
    for fate in Fate:
        if count := tally.fates[fate]:
            width = count / tally.total * 960
            parts.append(box(fate, x, 0, width, 14))
            told.append(f"{count:,} {_FATE_WORDS[fate]}")
            x += width
    return (
        '<svg class="share" viewBox="0 0 960 14" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(", ".join(told))}">{"".join(parts)}</svg>\n'
        f'<p class="shares">{_shares(tally)}</p>\n'
    )


def _shares(tally: Tally) -> str:
    return " ".join(
        f'<span class="end-{fate}">{SIGNS[fate]}&nbsp;{tally.fates[fate]:,}&nbsp;'
        f"{_FATE_WORDS[fate].replace(' ', '&nbsp;')}</span>"
        for fate in Fate
        if tally.fates[fate]
    )


def _numbers(tally: Tally) -> Iterator[str]:
    ended = tally.fates[Fate.OK] + tally.fates[Fate.NOT_OK]
    if not ended:
        return
    rate = words.per_minute(tally)
    told = [("Time", words.duration(tally))]
    if tally.times.over:
        told.append(("A teardown, typically", length(tally.times.quantile(0.5))))
    if rate is not None:
        told.append(("Learners a minute", f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"))
    told.append(("API calls", f"{tally.api_calls:,}, {tally.api_calls / ended:.1f} a learner"))
    if reused := tally.ended["reused"]:
        told.append(("Lab was there already", f"{reused:,}"))
    if tally.retried:
        told.append(("Tried more than once", f"{tally.retried:,}"))
    yield (
        "<dl>"
        + "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in told
        )
        + "</dl>\n"
    )
