"""How a stored batch is shown: whoever carries it out, and whichever replica is asked."""

from __future__ import annotations

from typing import Any

from orchestrator.batch.outcomes import (
    Standing,
    outcome_of_stored,
    plain_outcome,
    plain_standing,
)
from orchestrator.batch.plain_plans import plain_plan
from orchestrator.batch.planning import Plan
from orchestrator.durable.batches import Batch, BatchState, Counts, StoredItem


def standing_of(batch: Batch, counts: Counts, *, at: float, here: Standing | None) -> Standing:
    """How the batch stands by the store; ``here``: as the process knows that carries it out."""
    is_going_on = here is not None and batch.state is BatchState.RUNNING
    return Standing(
        batch=batch,
        at=at,
        waiting=counts.waiting,
        in_flight=counts.in_flight,
        ok=counts.ok,
        not_ok=counts.not_ok,
        ended=counts.ended,
        phases=here.phases if here is not None else {},
        elapsed_seconds=max(0.0, (batch.ended_at or at) - batch.started_at),
        api_calls=counts.api_calls,
        per_minute=here.per_minute if here is not None else None,
        eta_seconds=here.eta_seconds if here is not None and is_going_on else None,
        obstacle=here.obstacle if here is not None and is_going_on else None,
    )


def shown_learner(batch_id: str, stored: StoredItem) -> dict[str, Any]:
    """A :class:`~orchestrator.service.batches.representations.BatchLearner`, as plain data."""
    if stored.result is None or stored.ended_at is None:
        return {
            "number": stored.item.number,
            "user_id": stored.item.user_id,
            "lab_profile_id": stored.item.lab_profile_id,
            "outcome": None,
            "reason": None,
            "message": None,
            "lab_instance_id": None,
            "cancelled_instance_ids": [],
            "saved_instance_ids": [],
            "relaunch_id": stored.relaunch_id,
            "attempt": stored.attempt,
            "begun_at": stored.begun_at,
            "ended_at": None,
            "waited_seconds": None,
            "api_calls": None,
        }
    told = plain_outcome(outcome_of_stored(batch_id, stored))
    # The way in is not kept with the item; whoever may enter asks for it anew.
    del told["batch_id"], told["url"]
    return told


def shown_plan(planned: Plan, *, batch_id: str | None, known: Standing | None) -> dict[str, Any]:
    """A :class:`~orchestrator.service.batches.representations.Plan`, as plain data."""
    batch = None if known is None else plain_standing(known)
    return {"batch_id": batch_id, "batch": batch, **plain_plan(planned)}
