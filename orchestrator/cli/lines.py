"""Lines to whoever may stop to listen: a reader that goes away ends the telling, not the work.

``| head -1`` or a terminal that is closed is no reason to leave a class half done, and none for a
traceback. What is written to somebody who is gone goes nowhere, and that is said once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO


class Lines:
    """Whole lines to a stream, each as soon as it is there; ``gone`` is called once, if ever."""

    def __init__(self, stream: TextIO, *, gone: Callable[[], object] = lambda: None) -> None:
        self._stream = stream
        self._gone = gone
        self._listens = True

    def write(self, text: str) -> None:
        """Write a line (or several), unless nobody listens any more."""
        if not self._listens:
            return
        text = printable(text)
        if self._stream.encoding:
            text = text.encode(self._stream.encoding, "replace").decode(self._stream.encoding)
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._listens = False
            _discard(self._stream)
            self._gone()


def printable(text: str) -> str:
    """The text without what could make a terminal do something."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _discard(stream: TextIO) -> None:
    """Whatever is still in its buffer goes nowhere, instead of failing when the process ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return  # it is no file
