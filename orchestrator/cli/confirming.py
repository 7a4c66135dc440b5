"""One question before anything is touched, on a terminal; elsewhere ``--yes`` has to be said.

It is asked on stderr, so that what goes to stdout is the result alone.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import typer


def unasked(*, reads_stdin: bool) -> str | None:
    """Why nobody can be asked here; ``None`` if somebody can."""
    if reads_stdin:
        return "the learners come from stdin, so nobody can be asked there"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "there is no terminal to ask at"
    return None


def confirmed(question: str) -> bool:
    """Ask, with "no" as what silence means; Ctrl-C is ``typer.Abort``."""
    with _interruptible():
        return typer.confirm(question, default=False, err=True)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the question: an event loop would only note it, and go on asking."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
