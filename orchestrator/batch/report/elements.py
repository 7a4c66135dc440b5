"""The small parts of the page: a text from elsewhere, a moment, a table's head, a command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from orchestrator.batch.report.tally import Fate
from orchestrator.batch.report.wording import iso, moment

_COMMAND = re.compile("`([^`]+)`")

#: A sign of each fate, so that none is told by its colour alone.
SIGNS = {Fate.OK: "✓", Fate.NOT_OK: "✗", Fate.UNDER_WAY: "→", Fate.WAITING: "·"}


def safe(text: object) -> str:
    """A text from elsewhere, as HTML that shows it and does nothing; no control character."""
    seen = "".join(c if c >= " " or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return escape(seen.encode("utf-8", "replace").decode())


def time_element(at: float) -> str:
    """A moment for people, and exactly for programs and whoever points at it."""
    return f'<time datetime="{iso(at)}" title="{iso(at)}">{moment(at)}</time>'


def table(label: str, kind: str, columns: Sequence[str]) -> str:
    """The beginning of a table in a frame that scrolls, for those who have no mouse, too."""
    heads = "".join(f'<th scope="col">{escape(column)}' for column in columns)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-labelledby="{label}">\n'
        f'<table class="{kind}"><thead><tr>{heads}</thead>\n'
    )


def with_commands(sentence: str) -> str:
    """A sentence of ours; what is in backticks in it is a command that one can copy."""
    return _COMMAND.sub(r"<code>\1</code>", escape(sentence))


def again(attempt: int) -> str:
    """Says so if an item was tried more than once."""
    return f", attempt {attempt}" if attempt > 1 else ""
