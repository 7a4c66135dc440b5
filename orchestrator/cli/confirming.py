"""One question before anything is touched, on a terminal; elsewhere ``--yes`` has to be said.

It is asked on stderr, so that what goes to stdout is the result alone.
"""

from __future__ import annotations

import sys

import typer


def needs_yes(*, reads_stdin: bool) -> str | None:
    """Why nobody can be asked here, so that ``--yes`` is needed; ``None`` if somebody can."""
    if reads_stdin:
        return "the rows come from stdin, so nobody can be asked there"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "there is no terminal to ask at"
    return None


def confirmed(question: str) -> bool:
    """Ask, with "no" as what silence means."""
    return typer.confirm(question, default=False, err=True)
