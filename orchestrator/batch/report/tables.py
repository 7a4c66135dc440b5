"""A batch as a table for spreadsheets (CSV), and as one object for programs (JSON).

Both tell of each item what :func:`orchestrator.batch.outcomes.plain_outcome` tells, without the
URL, and how long its teardown took if that is over.

The CSV is made to be opened by a double click:

* It begins with a byte order mark. Excel takes a file without one for the local code page, and
  garbles every id that is not ASCII; other programs skip the mark (Python: ``utf-8-sig``).
* A text that begins with ``=``, ``+``, ``-``, ``@``, tab, CR, LF or NUL (or a full-width form) gets
  a ``'`` before it: a spreadsheet would calculate it otherwise, and a user id is anybody's choice.
  Numbers are ours and stay. Programs that read the ids back had better take the JSON.
* Times are ISO 8601 in UTC, lists are joined by spaces, cells by commas, and lines end in CRLF.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.batch.outcomes import ItemOutcome, plain_batch, plain_outcome
from orchestrator.batch.report.kept import KeptText
from orchestrator.batch.report.spans import teardown_of
from orchestrator.batch.report.tally import Fate, Tally
from orchestrator.batch.report.wording import iso, without_urls
from orchestrator.durable.batches import Batch, ItemResult, StoredItem

#: Columns of the CSV, in this order; new ones only ever come last.
COLUMNS = (
    "batch_id", "number", "user_id", "lab_profile_id", "outcome", "reason", "message",
    "lab_instance_id", "cancelled_instance_ids", "saved_instance_ids", "relaunch_id", "attempt",
    "begun_at", "ended_at", "waited_seconds", "api_calls", "teardown_seconds",
)  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")  # noqa: RUF001
_UNDER_WAY = ItemResult(outcome="under_way", reason=None, message="Under way.")
_WAITING = ItemResult(outcome="waiting", reason=None, message="Not begun.")


class CsvWriter:
    """One row for each item, as it comes."""

    def __init__(self, batch: Batch, *, at: float) -> None:
        self._batch_id = batch.batch_id
        self._text = io.StringIO()
        self._rows = csv.DictWriter(self._text, COLUMNS, lineterminator="\r\n")
        self._text.write("\ufeff")
        self._rows.writeheader()

    def add(self, stored: StoredItem) -> str:
        """The item's row (and what stands before the first)."""
        row = _plain(self._batch_id, stored)
        for column in ("begun_at", "ended_at"):
            row[column] = None if row[column] is None else iso(row[column])
        self._rows.writerow({column: _cell(row[column]) for column in COLUMNS})
        return self._taken()

    def end(self) -> Iterator[str]:
        """The rest: of a batch without items, the names of the columns."""
        yield self._taken()

    def _taken(self) -> str:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text


class JsonWriter:
    """One object: the batch, counts, teardown times, then every item, one to a line."""

    def __init__(self, batch: Batch, *, at: float) -> None:
        self._batch = batch
        self._tally = Tally(batch, at=at)
        self._learners = KeptText()

    def add(self, stored: StoredItem) -> str:
        """Nothing yet: the counts come first."""
        self._tally.add(stored)
        row = _plain(self._batch.batch_id, stored)
        result = stored.result
        row["marks"] = [] if result is None else [[m.phase, round(m.at, 3)] for m in result.marks]
        lead = ",\n" if self._tally.total > 1 else "\n"
        self._learners.add(lead + json.dumps(row))
        return ""

    def end(self) -> Iterator[str]:
        """The whole."""
        tally, fates = self._tally, self._tally.fates
        head: Mapping[str, Any] = {
            "batch": plain_batch(self._batch),
            "at": tally.at,
            "counts": {
                "total": tally.total,
                "waiting": fates[Fate.WAITING],
                "in_flight": fates[Fate.UNDER_WAY],
                "ok": fates[Fate.OK],
                "not_ok": fates[Fate.NOT_OK],
                "ended": dict(sorted(tally.ended.items())),
                "retried": tally.retried,
                "api_calls": tally.api_calls,
            },
            "teardown": {
                **tally.times.plain(),
                "by_lab": {str(lab): tally.labs[lab].plain() for lab in sorted(tally.labs)},
            },
        }
        yield json.dumps(head, indent=1)[:-2] + ',\n "learners": ['
        yield from self._learners.chunks()
        yield "\n]}\n"


def _plain(batch_id: str, stored: StoredItem) -> dict[str, Any]:
    unfinished = _UNDER_WAY if stored.attempt else _WAITING
    outcome = ItemOutcome(
        batch_id=batch_id,
        item=stored.item,
        attempt=stored.attempt,
        relaunch_id=stored.relaunch_id,
        result=stored.result or unfinished,
        begun_at=stored.begun_at,
        ended_at=stored.ended_at or 0.0,
    )
    row = plain_outcome(outcome)
    del row["url"]
    row["message"] = without_urls(row["message"])
    if stored.result is None:
        row.update(ended_at=None, waited_seconds=None, api_calls=None)
    teardown = teardown_of(stored)
    over = teardown is not None and teardown.over
    row["teardown_seconds"] = round(teardown.seconds, 3) if teardown and over else None
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return f"'{text}" if text.startswith(_FORMULA) else text
    return value
