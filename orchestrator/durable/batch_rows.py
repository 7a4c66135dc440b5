"""Batches and their items as the rows that a database keeps: one form for every database.

As with runs (:mod:`orchestrator.durable.rows`) a column is what the database has to find, compare
or count; everything else is in a stored form, JSON kept as text. What a change makes of a batch is
said here, too, so that every store means the same by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.durable.batches import Batch, BatchState, Item, Pace
from orchestrator.machine.run import Policy

#: The states in which a batch has come to its end.
FINAL = frozenset({BatchState.ENDED, BatchState.ABORTED})


def check(batch: Batch, items: Sequence[Item]) -> None:
    """Raise ``ValueError`` unless these are the items that the batch says it has."""
    if len(items) != batch.total:
        raise ValueError(f"batch {batch.batch_id} is of {batch.total} items, not {len(items)}")
    for number, item in enumerate(items, 1):
        if item.number != number:
            raise ValueError(f"batch {batch.batch_id}: item {number} is numbered {item.number}")


def numbered(number: int, total: int) -> int:
    """The index of an item among so many. Raises ``ValueError`` if there is none."""
    if not 1 <= number <= total:
        raise ValueError(f"item {number}: there is none with this number")
    return number - 1


def changed(
    batch: Batch,
    state: BatchState,
    *,
    at: float,
    reason: str | None,
    pace: Pace | None,
    policy: Policy | None,
) -> Batch:
    """The batch in another state."""
    return replace(
        batch,
        state=state,
        reason=reason,
        pace=batch.pace if pace is None else pace,
        policy=batch.policy if policy is None else policy,
        started_at=at if state is BatchState.RUNNING else batch.started_at,
        ended_at=at if state in FINAL else None,
    )


def held(batch: Batch, holder: str, *, at: float, until: float) -> Batch:
    """The batch after ``holder`` asked to carry it out."""
    by_another = batch.holder not in (None, holder)
    if by_another and batch.held_until is not None and batch.held_until > at:
        return batch
    return replace(batch, holder=holder, held_until=until)
