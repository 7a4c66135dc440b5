"""What is asked for becomes a batch: rows are checked at the door, ids and fingerprint derived.

* Everything wrong is told at once, each problem with the row and field that it is in; then nothing
  is stored.
* The fingerprint is of what is asked for: the learners, their labs and launch parameters, whether
  labs are launched and how they are ended; not how fast, nor by which rules. The same request has
  the same fingerprint, and so the same id, unless one is given.
* A relaunch's id follows from the batch, the item and the attempt. It is its idempotency key too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.durable.batches import Batch, Item, Origin, Pace
from orchestrator.errors import InvalidBatch, InvalidRequest
from orchestrator.labs import LaunchParameters
from orchestrator.machine.run import Policy
from orchestrator.plain import to_plain
from orchestrator.requests import Options, new_run

#: How many learners a batch takes.
MOST_ITEMS = 100_000
#: At a time, and a minute: more would only be a slip of the finger.
MOST_AT_A_TIME, MOST_PER_MINUTE = 100_000, 1_000_000.0

_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
#: Ids as short as can be typed, and long enough to be told apart.
_ID_LENGTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One learner of a request; see :class:`~orchestrator.durable.batches.Item`."""

    user_id: str
    lab_profile_id: int
    displace_instance_id: int | None = None
    parameters: LaunchParameters = field(default_factory=LaunchParameters, repr=False)


def batch_of(
    rows: Iterable[Row],
    *,
    policy: Policy,
    consumer: str,
    at: float,
    batch_id: str | None = None,
    note: str | None = None,
    pace: Pace | None = None,
    origin: Origin = "library",
    selection: str | None = None,
) -> tuple[Batch, tuple[Item, ...]]:
    """The batch that is asked for, and its items; nothing is stored yet.

    With a ``selection`` (in plain words: by what the rows were selected) the fingerprint is that
    of the selection, since another time it finds others. Raises
    :class:`~orchestrator.errors.InvalidBatch`.
    """
    rows, pace = tuple(rows), pace or Pace()
    problems = [*_batch_problems(rows, batch_id, pace), *_row_problems(rows, policy, note, at)]
    if problems:
        raise InvalidBatch(problems)
    items = tuple(
        Item(
            number=number,
            user_id=row.user_id,
            lab_profile_id=row.lab_profile_id,
            displace_instance_id=row.displace_instance_id,
            parameters=row.parameters,
        )
        for number, row in enumerate(rows, 1)
    )
    fingerprint = fingerprint_of(rows if selection is None else selection, policy, consumer)
    derived = fingerprint[:_ID_LENGTH]
    if selection is not None:
        derived += _hash(repr(at))[: _ID_LENGTH // 2]
    batch = Batch(
        batch_id=batch_id or derived,
        fingerprint=fingerprint,
        total=len(items),
        created_at=at,
        started_at=at,
        policy=policy,
        note=note,
        pace=pace,
        origin=origin,
        selection=selection,
    )
    return batch, items


def fingerprint_of(asked_for: Sequence[Row] | str, policy: Policy, consumer: str) -> str:
    """The fingerprint of rows, or of a selection; see the module's docstring."""
    if isinstance(asked_for, str):
        told: object = asked_for
    else:
        told = [
            [row.user_id, row.lab_profile_id, row.displace_instance_id, to_plain(row.parameters)]
            for row in asked_for
        ]
    return _hash(json.dumps([consumer, policy.launch, policy.displace, told], sort_keys=True))


def relaunch_id_of(batch: Batch, consumer: str, number: int, attempt: int) -> str:
    """The id of an item's relaunch, the same whoever begins it, and however often."""
    return _hash(json.dumps([consumer, batch.batch_id, batch.created_at, number, attempt]))[:32]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _batch_problems(
    rows: Sequence[Row], batch_id: str | None, pace: Pace
) -> Iterable[tuple[str, str]]:
    if batch_id is not None and not _BATCH_ID.fullmatch(batch_id):
        yield "batch_id", "takes 1 to 40 letters, digits, '-' and '_'."
    if not rows:
        yield "items", "there are none."
    if len(rows) > MOST_ITEMS:
        yield "items", f"are {len(rows):,}; a batch takes {MOST_ITEMS:,}. Split it."
    yield from pace_problems(pace)


def pace_problems(pace: Pace) -> Iterable[tuple[str, str]]:
    """What is wrong with a pace: (field, problem)."""
    if type(pace.concurrency) is not int or not 1 <= pace.concurrency <= MOST_AT_A_TIME:
        yield "concurrency", f"takes a whole number from 1 to {MOST_AT_A_TIME:,}."
    if pace.per_minute is not None and not 0 < pace.per_minute <= MOST_PER_MINUTE:
        yield "per_minute", "must be a number above 0."
    if pace.wait_seconds is not None and not 0 < pace.wait_seconds < float("inf"):
        yield "wait_seconds", "must be a number of seconds above 0."
    if pace.on_error not in ("continue", "stop"):
        yield "on_error", "is 'continue' or 'stop'."


def _row_problems(
    rows: Sequence[Row], policy: Policy, note: str | None, at: float
) -> Iterable[tuple[str, str]]:
    first: dict[tuple[str, int, int | None], int] = {}
    for position, row in enumerate(rows[:MOST_ITEMS]):
        where = f"items[{position}]"
        options = Options(parameters=row.parameters, relaunch_id="checked", note=note)
        try:
            new_run(row.user_id, row.lab_profile_id, policy, options, at)
        except InvalidRequest as error:
            # A note is every row's: told once.
            if error.field != "note" or position == 0:
                prefix = "" if error.field == "note" else f"{where}."
                yield f"{prefix}{error.field}", error.problem
            continue
        named = row.displace_instance_id
        if named is not None and (type(named) is not int or named <= 0):
            yield f"{where}.displace_instance_id", f"{named!r} is not a lab instance id."
            continue
        key = (row.user_id, row.lab_profile_id, named)
        if key in first:
            yield where, f"asks for the same as items[{first[key]}]."
        first.setdefault(key, position)
