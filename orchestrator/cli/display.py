"""Progress on stderr: a live line on a terminal, plain lines elsewhere. Never a made-up bar.

A bar is drawn only where somebody knows how long the teardown takes: the demo's sandbox does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from orchestrator.progress import Outcome, Progress

if TYPE_CHECKING:
    # Imported late below: most runs have no terminal, and rich takes a while to load.
    from rich.progress import Progress as Live
    from rich.progress import TaskID


class Display(Protocol):
    """Shows progress as it comes."""

    def show(self, progress: Progress) -> None:
        """Show one step."""


class PlainDisplay:
    """One line for each step."""

    def show(self, progress: Progress) -> None:
        """Print the line."""
        print(f"{progress.elapsed_seconds:7.1f} s  {progress.message}", file=sys.stderr)


class LiveDisplay:
    """One line that changes, on a terminal."""

    def __init__(self, live: Live, task: TaskID, teardown_seconds: float | None) -> None:
        self._live = live
        self._task = task
        self._teardown_seconds = teardown_seconds

    def show(self, progress: Progress) -> None:
        """Change the line."""
        bar = self._teardown_seconds if progress.phase in ("tearing_down", "looking") else None
        self._live.update(self._task, description=progress.message, of=bar)


@contextmanager
def display(*, teardown_seconds: float | None = None) -> Iterator[Display]:
    """The display that fits where stderr goes."""
    if not sys.stderr.isatty():
        yield PlainDisplay()
        return
    from rich.console import Console
    from rich.progress import Progress as Live
    from rich.progress import ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    class TeardownColumn(ProgressColumn):
        """The part of the teardown that is over, where its length is known."""

        began: float | None = None

        def render(self, task: Task) -> ProgressBar | Text:
            seconds = task.fields.get("of")
            if not seconds:
                return Text("")
            if self.began is None:
                self.began = time.monotonic()
            return ProgressBar(seconds, min(seconds, time.monotonic() - self.began), width=30)

    columns = (
        SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), TeardownColumn()
    )  # fmt: skip
    with Live(*columns, console=Console(stderr=True), transient=True) as live:
        yield LiveDisplay(live, live.add_task("Beginning.", total=None, of=None), teardown_seconds)


def summary(outcome: Outcome) -> str:
    """The result for people: the sentence, then the way in."""
    lines = [outcome.message]
    if outcome.url:
        lines.append(f"URL: {outcome.url}")
    lines.append(f"{outcome.waited_seconds:.1f} s, {outcome.api_calls} API calls.")
    return "\n".join(lines)


def time_line(outcome: Outcome) -> str:
    """What happened when."""
    lines = [f"{e.elapsed_seconds:7.2f} s  {e.phase:<20} {e.message}" for e in outcome.events]
    return "\n".join(lines)
