"""``--report FILE``: where a batch's report goes is looked at first, and it is written last.

The suffix says the format. A file is replaced as a whole or not at all, so that a report from
yesterday is not half overwritten by one that fails.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.durable.batches import Batch, StoredItem
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


def write_reports(
    places: Iterable[Place], batch: Batch, items: Sequence[StoredItem], *, at: float
) -> Iterator[tuple[str, bool]]:
    """Write each: a plain word about it, and whether it is written."""
    from orchestrator.batch.report import report

    for place in places:
        try:
            _write(place.path, report(batch, items, format=place.format, at=at))
        except OSError as error:
            word = (
                f"The report {place.path} could not be written: {error.strerror}. "
                f"`relaunch batch show {batch.batch_id} --report FILE` writes it again."
            )
            yield word, False
        else:
            yield f"Report: {place.path}", True


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


def _write(path: Path, pieces: Iterable[str]) -> None:
    if path.exists() and not path.is_file():
        # A pipe or a device has no contents that could be kept.
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
