"""What a batch tells while it is carried out: each item's outcome, and how the whole stands.

Plain values; :func:`plain_outcome` and :func:`plain_standing` make JSON of them, the same for the
command line, the service and the reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.durable.batches import Batch, Item, ItemResult, StoredItem


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """An item has come to its end.

    ``url`` enters the lab; single use, and told only where the batch is carried out: it is not
    kept with the item, and in no report.
    """

    batch_id: str
    item: Item
    attempt: int
    relaunch_id: str | None
    result: ItemResult
    begun_at: float | None
    ended_at: float
    url: str | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the learner has what was asked for: a lab, or a free slot."""
        return self.result.ok


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why no new item is begun for now, or any more: a stable ``code``, and a plain word."""

    code: str
    message: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a batch stands at ``at``.

    ``ended`` counts by outcome, ``phases`` the items in flight by the machine's state.
    ``per_minute`` is how many end a minute of late, ``eta_seconds`` how long the rest will take
    at that pace; both ``None`` until enough have ended to say so.
    """

    batch: Batch
    at: float
    waiting: int
    in_flight: int
    ok: int
    not_ok: int
    ended: Mapping[str, int]
    phases: Mapping[str, int]
    elapsed_seconds: float
    api_calls: int
    per_minute: float | None = None
    eta_seconds: float | None = None
    obstacle: Obstacle | None = None


def outcome_of_stored(batch_id: str, stored: StoredItem) -> ItemOutcome:
    """The outcome of an item that has ended; ``ValueError`` if it has not."""
    if stored.result is None or stored.ended_at is None:
        raise ValueError(f"item {stored.item.number} of batch {batch_id} has not ended")
    return ItemOutcome(
        batch_id=batch_id,
        item=stored.item,
        attempt=stored.attempt,
        relaunch_id=stored.relaunch_id,
        result=stored.result,
        begun_at=stored.begun_at,
        ended_at=stored.ended_at,
    )


def plain_outcome(outcome: ItemOutcome) -> dict[str, Any]:
    """One flat object for an item: who, which lab, and what has come of it."""
    item, result = outcome.item, outcome.result
    return {
        "batch_id": outcome.batch_id,
        "number": item.number,
        "user_id": item.user_id,
        "lab_profile_id": item.lab_profile_id,
        "outcome": result.outcome,
        "reason": result.reason,
        "message": result.message,
        "lab_instance_id": result.lab_instance_id,
        "url": outcome.url,
        "cancelled_instance_ids": list(result.cancelled_instance_ids),
        "saved_instance_ids": list(result.saved_instance_ids),
        "relaunch_id": outcome.relaunch_id,
        "attempt": outcome.attempt,
        "begun_at": outcome.begun_at,
        "ended_at": outcome.ended_at,
        "waited_seconds": result.waited_seconds,
        "api_calls": result.api_calls,
    }


def plain_batch(batch: Batch) -> dict[str, Any]:
    """A batch for people and programs that look at it, without its policy's small print."""
    return {
        "batch_id": batch.batch_id,
        "state": batch.state.value,
        "reason": batch.reason,
        "total": batch.total,
        "launch": batch.policy.launch,
        "selection": batch.selection,
        "origin": batch.origin,
        "created_at": batch.created_at,
        "started_at": batch.started_at,
        "ended_at": batch.ended_at,
    }


def plain_standing(standing: Standing) -> dict[str, Any]:
    """One object for how a batch stands."""
    obstacle = standing.obstacle
    return {
        **plain_batch(standing.batch),
        "at": standing.at,
        "waiting": standing.waiting,
        "in_flight": standing.in_flight,
        "ok": standing.ok,
        "not_ok": standing.not_ok,
        "ended": dict(standing.ended),
        "phases": dict(standing.phases),
        "elapsed_seconds": round(standing.elapsed_seconds, 3),
        "per_minute": standing.per_minute,
        "eta_seconds": standing.eta_seconds,
        "api_calls": standing.api_calls,
        "obstacle": None
        if obstacle is None
        else {"code": obstacle.code, "message": obstacle.message},
    }
