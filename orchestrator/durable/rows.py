"""Runs and journals as the rows that a database keeps: one form for every database.

A column is what the database has to find or compare; everything else of a run is in its stored
form, ``run``: JSON, kept as *text* (never as a JSON type), because a step that is recorded again is
known by it, byte for byte. Texts that come from outside become columns through :func:`as_key`,
since no database takes every text that Python has.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from orchestrator.durable.store import Entry, Signals, Step, StoredRun
from orchestrator.errors import LeaseLost, StoreIncompatible
from orchestrator.machine.run import Run
from orchestrator.plain import from_plain
from orchestrator.progress import Progress
from orchestrator.requests import Priority

#: What :func:`stored_of` reads, in this order.
STORED = (
    "run", "version", "epoch", "owner", "due_at", "api_calls", "idempotency_key", "priority",
    "admitted", "hints", "hinted", "abort_requested", "hints_seen", "updated_at", "finished_at",
)  # fmt: skip

#: What :func:`new_row` gives, in this order; every other column begins with its default.
NEW = (
    "consumer", "relaunch_id", "user_id", "idempotency_key", "priority", "created_at",
    "deadline_at", "run_schema", "state", "target", "run", "epoch", "owner", "due_at", "updated_at",
)  # fmt: skip

#: What :func:`step_row` gives, in this order. A run that has ended has no owner any more, either.
STEP = (
    "run_schema", "state", "target", "run", "version", "due_at", "api_calls", "hints_seen",
    "updated_at", "finished_at",
)  # fmt: skip

_NOTHING = Signals()
_encode = json.JSONEncoder(separators=(",", ":")).encode
# The version has a column of its own; what stands for "nothing" is left out.
_PROGRESS = tuple(f.name for f in fields(Progress) if f.name != "sequence")


def as_key(text: str) -> str:
    """The text as a column: different for different texts, without NUL or lone surrogates."""
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    escaped = text.replace("\\", "\\\\").replace("\0", "\\0")
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def from_key(column: str) -> str:
    """The text that :func:`as_key` made the column of."""
    if "\\" not in column:
        return column
    parts = column.split("\\\\")
    return "\\".join(_unescaped(part) for part in parts)


def new_row(consumer: str, stored: StoredRun) -> tuple[Any, ...]:
    """The columns :data:`NEW` of a run that is stored for the first time."""
    run = stored.run
    return (
        consumer, as_key(run.relaunch_id), as_key(run.user_id),
        None if stored.key is None else as_key(stored.key), int(stored.priority), run.created_at,
        run.deadline_at, run.schema, run.state.value, run.target, run.to_json(), stored.epoch,
        stored.owner, stored.due_at, stored.updated_at,
    )  # fmt: skip


def step_row(step: Step) -> tuple[Any, ...]:
    """The columns :data:`STEP` of a transition."""
    run, progress = step.run, step.entry.progress
    ended = run.state.is_terminal
    return (
        run.schema, run.state.value, run.target, run.to_json(), progress.sequence,
        None if ended else step.due_at, step.api_calls, step.hints_seen, progress.at,
        progress.at if ended else None,
    )  # fmt: skip


def stored_of(row: Sequence[Any]) -> StoredRun:
    """The run of a row of the columns :data:`STORED`.

    Raises ``ValueError`` if its stored form is not one that this program reads.
    """
    (
        run, version, epoch, owner, due_at, api_calls, key, priority,
        admitted, hints, hinted, abort_requested, hints_seen, updated_at, finished_at,
    ) = row  # fmt: skip
    return StoredRun(
        run=Run.from_json(run),
        version=version,
        epoch=epoch,
        owner=owner,
        due_at=due_at,
        api_calls=api_calls,
        key=None if key is None else from_key(key),
        priority=Priority(priority),
        admitted=bool(admitted),
        signals=signals_of(hints, hinted, abort_requested),
        hints_seen=hints_seen,
        updated_at=updated_at,
        finished_at=finished_at,
    )


def readable(found: Iterable[Sequence[Any]]) -> Iterator[StoredRun]:
    """The runs of those rows of the columns :data:`STORED` that this program can read."""
    for row in found:
        with contextlib.suppress(ValueError):
            yield stored_of(row)


def signals_of(hints: int, hinted: int | None, abort_requested: object) -> Signals:
    """The signals of a row."""
    if not hints and not abort_requested:
        return _NOTHING
    return Signals(hints=hints, hinted=hinted, abort_requested=bool(abort_requested))


def entry_text(entry: Entry) -> str:
    """A journal entry as JSON, without what it says nothing about; its version is not in it."""
    progress = entry.progress
    held = {name: value for name in _PROGRESS if (value := getattr(progress, name)) is not None}
    held["event"] = entry.event
    if entry.tag is not None:
        held["tag"] = entry.tag
    return _encode(held)


def entry_of(version: int, text: str) -> Entry:
    """The journal entry of a run's version. Raises ``ValueError`` if it can't be read."""
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(data.get("event"), str):
        raise ValueError("event: a journal entry must name one")
    progress = from_plain(Progress, {**data, "sequence": version})
    return Entry(event=data["event"], progress=progress, tag=data.get("tag"))


def lease_lost(relaunch_id: str) -> LeaseLost:
    """What whoever records without being the holder is told."""
    return LeaseLost(
        f"Relaunch {relaunch_id} is driven by another process now, or has ended. Nothing was "
        "recorded, and nothing more may be called for it here."
    )


def unreadable(relaunch_id: str) -> StoreIncompatible:
    """What whoever asks for a run of a newer program is told."""
    return StoreIncompatible(
        f"Relaunch {relaunch_id} was stored by a newer version of this program and was left as it "
        "is. That version goes on with it; to see it here, upgrade this program."
    )


def _unescaped(part: str) -> str:
    # No real backslash is left in it, so each one begins a NUL or a lone surrogate.
    first, *rest = part.split("\\")
    return first + "".join(
        "\0" + r[1:] if r[0] == "0" else chr(int(r[1:5], 16)) + r[5:] for r in rest
    )
