"""Batches and their items as the rows that a database keeps: one form for every database.

As with runs (:mod:`orchestrator.durable.rows`) a column is what the database has to find, compare,
change by itself or count; everything else is in a stored form, JSON kept as text. An item's
``standing`` is ``waiting``, ``in flight``, or ``ended: `` and its outcome.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from orchestrator.durable.batches import (
    Batch,
    BatchState,
    Counts,
    Item,
    ItemResult,
    Pace,
    StoredItem,
)
from orchestrator.durable.rows import as_key, from_key
from orchestrator.errors import StoreIncompatible
from orchestrator.machine.run import Policy
from orchestrator.plain import from_plain, to_plain

T = TypeVar("T")

#: Version of the stored forms. A batch holds a run's policy: raised whenever the run's is.
SCHEMA = 1

#: The states in which a batch has come to its end.
FINAL = frozenset({BatchState.ENDED, BatchState.ABORTED})

#: What :func:`batch_row` gives and :func:`batch_of` reads, in this order.
BATCH = (
    "batch_schema", "batch_id", "fingerprint", "total", "created_at", "started_at", "ended_at",
    "state", "reason", "holder", "held_until", "policy", "pace", "about",
)  # fmt: skip

#: What :func:`item_of` reads, in this order.
ITEM = (
    "number", "item", "attempt", "relaunch_id", "begun_at", "ended_at", "result",
)  # fmt: skip

#: What :func:`change_row` gives, in this order.
CHANGED = ("state", "reason", "started_at", "ended_at", "policy", "pace")

WAITING = "waiting"
IN_FLIGHT = "in flight"
_ENDED = "ended: "

# The fields that are in ``about``; all others of a batch have columns of their own.
_ABOUT = ("note", "origin", "selection")

_encode = json.JSONEncoder(separators=(",", ":")).encode


def check(batch: Batch, items: Sequence[Item]) -> None:
    """Raise ``ValueError`` unless these are the items that the batch says it has."""
    if len(items) != batch.total:
        raise ValueError(f"batch {batch.batch_id} is of {batch.total} items, not {len(items)}")
    for number, item in enumerate(items, 1):
        if item.number != number:
            raise ValueError(f"batch {batch.batch_id}: item {number} is numbered {item.number}")


def no_item(batch_id: str, number: int) -> ValueError:
    """What whoever names an item is told that the batch does not have."""
    return ValueError(f"batch {batch_id} has no item {number}")


def check_attempt(attempt: int) -> None:
    """Raise ``ValueError`` for what is no attempt."""
    if attempt < 1:
        raise ValueError(f"attempt {attempt}: attempts count from 1")


def text_of(value: object) -> str:
    """A policy, a pace or a result as it is stored."""
    return _encode(to_plain(value))


def batch_row(batch: Batch) -> tuple[Any, ...]:
    """The columns :data:`BATCH` of a batch."""
    about = {name: getattr(batch, name) for name in _ABOUT}
    return (
        SCHEMA, as_key(batch.batch_id), as_key(batch.fingerprint), batch.total, batch.created_at,
        batch.started_at, batch.ended_at, batch.state.value, _key(batch.reason),
        _key(batch.holder), batch.held_until, text_of(batch.policy), text_of(batch.pace),
        _encode(about),
    )  # fmt: skip


def batch_of(row: Sequence[Any]) -> Batch:
    """The batch of a row of the columns :data:`BATCH`.

    Raises ``ValueError`` if it is not one that this program reads.
    """
    (
        schema, batch_id, fingerprint, total, created_at, started_at, ended_at,
        state, reason, holder, held_until, policy, pace, about,
    ) = row  # fmt: skip
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than {SCHEMA}")
    known = json.loads(about)
    return Batch(
        batch_id=from_key(batch_id),
        fingerprint=from_key(fingerprint),
        total=total,
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        state=BatchState(state),
        reason=_text(reason),
        holder=_text(holder),
        held_until=held_until,
        policy=_read(Policy, policy),
        pace=_read(Pace, pace),
        **{name: known[name] for name in _ABOUT},
    )


def readable(found: Iterable[Sequence[Any]]) -> Iterator[Batch]:
    """The batches of those rows of the columns :data:`BATCH` that this program can read."""
    for row in found:
        with contextlib.suppress(ValueError):
            yield batch_of(row)


def read_batch(row: Sequence[Any], batch_id: str) -> Batch:
    """The batch of a row of the columns :data:`BATCH`, or ``StoreIncompatible``."""
    try:
        return batch_of(row)
    except ValueError as error:
        raise StoreIncompatible(
            f"Batch {batch_id} was stored by a newer version of this program and was left as it "
            "is. That version goes on with it; to see it here, upgrade this program."
        ) from error


def change_row(
    state: BatchState, *, at: float, reason: str | None, pace: Pace | None, policy: Policy | None
) -> tuple[Any, ...]:
    """The columns :data:`CHANGED`; ``None`` for ``started_at``, policy and pace: as it was."""
    return (
        state.value, _key(reason), at if state is BatchState.RUNNING else None,
        at if state in FINAL else None, None if policy is None else text_of(policy),
        None if pace is None else text_of(pace),
    )  # fmt: skip


def item_text(item: Item) -> str:
    """An item as it is stored; its number has a column."""
    held = to_plain(item)
    del held["number"]
    return _encode(held)


def item_of(row: Sequence[Any]) -> StoredItem:
    """The item of a row of the columns :data:`ITEM`."""
    number, item, attempt, relaunch_id, begun_at, ended_at, result = row
    return StoredItem(
        item=from_plain(Item, {**json.loads(item), "number": number}),
        attempt=attempt,
        relaunch_id=_text(relaunch_id),
        begun_at=begun_at,
        ended_at=ended_at,
        result=None if result is None else _read(ItemResult, result),
    )


def standing_of(result: ItemResult) -> str:
    """The standing of an item with this result."""
    return _ENDED + as_key(result.outcome)


def counts_of(found: Iterable[tuple[str, int, int]]) -> Counts:
    """The counts of a batch, from how many items there are of a standing, and their API calls."""
    items: dict[str, int] = {}
    calls = 0
    for standing, count, api_calls in found:
        items[standing] = count
        calls += api_calls
    return Counts(
        waiting=items.pop(WAITING, 0),
        in_flight=items.pop(IN_FLIGHT, 0),
        ended={from_key(standing.removeprefix(_ENDED)): n for standing, n in items.items()},
        api_calls=calls,
    )


def standings(*, begun: bool | None, ended: bool | None) -> tuple[str, ...] | None:
    """The standings that such items have; ``None`` if they are told apart otherwise.

    (Of those that have ended there are many standings. None that ended was not begun.)
    """
    if begun is False:
        return (WAITING,) if not ended else ("nothing is both",)
    if ended is False:
        return (IN_FLIGHT,) if begun else (WAITING, IN_FLIGHT)
    return None


def _read(kind: type[T], text: str) -> T:
    return from_plain(kind, json.loads(text))


def _key(text: str | None) -> str | None:
    return None if text is None else as_key(text)


def _text(column: str | None) -> str | None:
    return None if column is None else from_key(column)
