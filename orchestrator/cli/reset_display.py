"""A batch while it is carried out: a live picture on a terminal, plain lines elsewhere.

All of it goes to stderr; what a program reads goes to stdout, past this. Nothing here knows more
than the standing that it is shown, so an hour that nobody can foretell is not foretold.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.batch.outcomes import ItemOutcome, Standing
from orchestrator.cli.batch_words import (
    doing,
    ended_line,
    ended_words,
    learners,
    pace_words,
    status_line,
)
from orchestrator.cli.durations import roughly
from orchestrator.cli.lines import Lines, printable

if TYPE_CHECKING:
    # Imported late below: most batches have no terminal, and rich takes a while to load.
    from rich.console import RenderableType
    from rich.live import Live

#: Seconds between two looks at how the batch stands.
TICK = 0.5
#: Seconds between two lines that say so, where there is no terminal.
SAY_SO = 10.0
#: So many of the last failures stay in sight.
_IN_SIGHT = 5
#: The bar's width, where there is room.
_BAR = 60


class BatchDisplay(Protocol):
    """Shows a batch as it goes on; ``covers_stdout``: what goes there must go by :meth:`say`."""

    covers_stdout: bool

    def ended(self, outcome: ItemOutcome) -> None:
        """A learner's relaunch has ended."""

    def tick(self, standing: Standing) -> None:
        """How it stands, every :data:`TICK` seconds."""

    def say(self, text: str) -> None:
        """A line beside the rest."""

    def leave(self) -> None:
        """Leave the terminal as it was found; harmless more than once."""


class PlainDisplay:
    """A line for each learner that has ended (``each``), and one now and then for all."""

    covers_stdout = False

    def __init__(self, lines: Lines, *, each: bool) -> None:
        self._lines = lines
        self._each = each
        self._ended = 0
        self._said_at: float | None = None
        self._obstacle: str | None = None

    def ended(self, outcome: ItemOutcome) -> None:
        """Print its line."""
        self._ended += 1
        if self._each or not outcome.ok:
            self._lines.write(ended_line(outcome, self._ended))

    def tick(self, standing: Standing) -> None:
        """Print how it stands if that was long ago, or if something new is in the way."""
        obstacle = None if standing.obstacle is None else standing.obstacle.code
        new, self._obstacle = obstacle != self._obstacle, obstacle
        if self._said_at is None:
            self._said_at = standing.at
        if (new and obstacle) or standing.at - self._said_at >= SAY_SO:
            self._said_at = standing.at
            self._lines.write(status_line(standing))

    def say(self, text: str) -> None:
        """Print it."""
        self._lines.write(text)

    def leave(self) -> None:
        """There is nothing to be put back."""


class LiveDisplay:
    """A picture that changes in place."""

    def __init__(self, live: Live, *, covers_stdout: bool) -> None:
        self.covers_stdout = covers_stdout
        self._live = live
        self._failures: deque[str] = deque(maxlen=_IN_SIGHT)

    def ended(self, outcome: ItemOutcome) -> None:
        """Keep it in sight if it failed; the rest is counted."""
        if not outcome.ok:
            self._failures.append(outcome.result.message)

    def tick(self, standing: Standing) -> None:
        """Draw it anew."""
        # A terminal that is gone is told to the process by a signal, if it is to end.
        with contextlib.suppress(OSError):
            self._live.update(picture(standing, self._failures), refresh=True)

    def say(self, text: str) -> None:
        """Print it above the picture."""
        from rich.text import Text

        with contextlib.suppress(OSError):
            self._live.console.print(Text(printable(text)), soft_wrap=True)

    def leave(self) -> None:
        """Take the picture away, and give the cursor back."""
        with contextlib.suppress(OSError):
            self._live.stop()


@contextlib.contextmanager
def batch_display(*, each: bool) -> Iterator[BatchDisplay]:
    """The display that fits where stderr goes; ``each``: without a terminal, a line for each."""
    if not sys.stderr.isatty():
        yield PlainDisplay(Lines(sys.stderr), each=each)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    # Drawn from the event loop alone: what is drawn changes there.
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
    with live, _log_above():
        display = LiveDisplay(live, covers_stdout=sys.stdout.isatty())
        try:
            yield display
        finally:
            display.leave()


@contextlib.contextmanager
def _log_above() -> Iterator[None]:
    """Let the log's lines go above the picture instead of into it."""
    handlers = [
        h for h in logging.getLogger("orchestrator").handlers if type(h) is logging.StreamHandler
    ]
    before: list[tuple[logging.StreamHandler[Any], Any]] = [(h, h.stream) for h in handlers]
    for handler in handlers:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler, stream in before:
            handler.setStream(stream)


def picture(standing: Standing, failures: Iterable[str] = ()) -> RenderableType:
    """What is seen of a standing."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done, total = standing.ok + standing.not_ok, standing.batch.total
    rows: list[RenderableType] = [
        Text(printable(failure), style="red", no_wrap=True, overflow="ellipsis")
        for failure in failures
    ]
    told = [f"{done:,} of {learners(total)}", f"{100 * done // total if total else 100} %"]
    told += [roughly(standing.elapsed_seconds), pace_words(standing)]
    rows.append(ProgressBar(total, done, width=_BAR))
    rows.append(Text("   ".join(filter(None, told)), no_wrap=True, overflow="ellipsis"))
    table = Table.grid(padding=(0, 2))
    for word, count in doing(standing.phases).items():
        table.add_row(Text(f"{count:>7,}", style="cyan"), Text(word))
    if standing.waiting:
        table.add_row(Text(f"{standing.waiting:>7,}", style="dim"), Text("not begun", style="dim"))
    for word, count in ended_words(standing.ended).items():
        table.add_row(Text(f"{count:>7,}", style="bold"), Text(word))
    rows.append(table)
    if standing.obstacle is not None:
        rows.append(Text(printable(standing.obstacle.message), style="yellow"))
    return Group(*rows)
