"""``--report FILE``: where a batch's report goes is looked at first, and it is written last.

The suffix says the format. A file is replaced as a whole or not at all, so that a report from
yesterday is not half overwritten by one that fails.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from orchestrator.cli.lines import Lines
from orchestrator.durable.batches import BatchStore
from orchestrator.errors import InvalidRequest

if TYPE_CHECKING:
    # Imported late below: most commands write no report.
    from orchestrator.batch.report import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file that a report is to go to."""

    path: Path
    format: Format


def places_of(files: Iterable[Path]) -> tuple[Place, ...]:
    """The places, each writable as far as can be told; the error names the one that is not."""
    return tuple(_place(file) for file in files)


async def write_reports(
    places: Iterable[Place], batches: BatchStore, batch_id: str, *, at: float, where: str
) -> bool:
    """Write each, and say so on stderr; whether all could be written.

    ``where``: the flags that lead another command to the same store.
    """
    from orchestrator.batch.report import stored_report

    lines, good = Lines(sys.stderr), True
    for place in places:
        try:
            with _replacing(place.path) as file:
                async for text in stored_report(batches, batch_id, format=place.format, at=at):
                    file.write(text)
        except OSError as error:
            good = False
            lines.write(
                f"The report {place.path} could not be written: {error.strerror}. "
                f"`relaunch batch show {batch_id} --report FILE{where}` writes it again."
            )
        else:
            lines.write(f"Report: {place.path}")
    return good


def _place(file: Path) -> Place:
    from orchestrator.batch.report import format_of

    try:
        format = format_of(file)
    except InvalidRequest as error:
        raise typer.BadParameter(f"--report: {error.problem}") from None
    # What is a file is replaced, for which its folder is what must be writable.
    target = file if file.exists() and not file.is_file() else file.parent
    if file.is_dir():
        problem = "is a folder"
    elif not file.parent.is_dir():
        problem = f"there is no folder {file.parent}"
    elif not os.access(target, os.W_OK):
        problem = f"{target} may not be written to"
    else:
        return Place(path=file, format=format)
    raise typer.BadParameter(f"--report {file}: {problem}; nothing was touched.")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes the place of the one that is there, once all of it is written."""
    if path.exists() and not path.is_file():
        # A pipe or a device has no contents that could be kept.
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
