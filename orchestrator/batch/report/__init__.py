"""The report of a batch, for whoever was not there: CSV, JSON, or a page with pictures of the run.

:func:`report` makes it of items at hand, :func:`stored_report` of a store's, page by page; either
reads the items once, in order of number, and gives the text in chunks, so that 100,000 learners
need little memory. What no report contains: ways into labs, launch parameters (names, email), and
whatever addresses the platform may have put into its messages.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import PurePath
from typing import Literal, Protocol, get_args

from orchestrator.batch.report.page import PageWriter
from orchestrator.batch.report.tables import CsvWriter, JsonWriter
from orchestrator.durable.batches import Batch, BatchStore, StoredItem
from orchestrator.errors import InvalidRequest

Format = Literal["csv", "json", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)

#: What each format is to HTTP and mail.
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}

#: So many items are read from a store at a time.
PAGE = 200


class _Writer(Protocol):
    def add(self, stored: StoredItem) -> str: ...
    def end(self) -> Iterator[str]: ...


def report(
    batch: Batch, items: Iterable[StoredItem], *, format: Format, at: float
) -> Iterator[str]:
    """The report as text, to be written in UTF-8 with line ends as they are; ``at`` is now."""
    writer = _writer(batch, format, at)
    for stored in items:
        if text := writer.add(stored):
            yield text
    yield from writer.end()


async def stored_report(
    store: BatchStore, batch_id: str, *, format: Format, at: float
) -> AsyncIterator[str]:
    """:func:`report` of a batch in a store.

    Raises :class:`~orchestrator.errors.UnknownBatch` before anything is given.
    """
    writer = _writer(await store.load(batch_id), format, at)
    after = 0
    while page := await store.items(batch_id, after=after, limit=PAGE):
        after = page[-1].item.number
        if text := "".join(map(writer.add, page)):
            yield text
    for text in writer.end():
        yield text


def format_of(file: PurePath | str) -> Format:
    """The format that a file's name ends in. Raises ``InvalidRequest``, naming those there are."""
    ending = PurePath(file).suffix.lower().removeprefix(".")
    for known in FORMATS:
        if ending == known:
            return known
    raise InvalidRequest(
        "report",
        f"{str(file)!r} ends in none of .csv, .json and .html, so its format is not known.",
    )


def file_name(batch: Batch, format: Format) -> str:
    """A name for the report's file, safe on every system."""
    return f"batch-{batch.batch_id}.{format}"


def _writer(batch: Batch, format: Format, at: float) -> _Writer:
    match format:
        case "csv":
            return CsvWriter(batch, at=at)
        case "json":
            return JsonWriter(batch, at=at)
        case "html":
            return PageWriter(batch, at=at)
