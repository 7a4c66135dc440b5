"""How a stored relaunch is shown: from the run to the JSON that the representations describe."""

from __future__ import annotations

from typing import Any

from orchestrator.durable.store import StoredRun
from orchestrator.plain import to_plain
from orchestrator.progress import outcome_of, progress_of
from orchestrator.session import usual_seconds
from orchestrator.waiting import Knowledge


def shown(stored: StoredRun, *, now: float, knowledge: Knowledge) -> dict[str, Any]:
    """A :class:`~orchestrator.service.representations.Relaunch`, as plain data."""
    run = stored.run
    seen_at = stored.finished_at or now
    progress = progress_of(
        run,
        sequence=stored.version,
        at=seen_at,
        calling=None,
        next_look_at=None,
        usual_seconds=usual_seconds(knowledge, run),
    )
    told: dict[str, Any] = {
        "relaunch_id": run.relaunch_id,
        "user_id": run.user_id,
        "lab_profile_id": run.lab_profile_id,
        "phase": progress.phase,
        "sequence": stored.version,
        "message": progress.message,
        "created_at": run.created_at,
        "updated_at": stored.updated_at,
        "deadline_at": run.deadline_at,
        "now": now,
        "elapsed_seconds": progress.elapsed_seconds,
        "usual_seconds": progress.usual_seconds,
        "lab_instance_id": progress.lab_instance_id,
        "ending_instance_id": run.target,
        "outcome": None,
        "reason": None,
        "url": None,
        "expires_at": None,
        "ready_in_seconds": None,
        "cancelled_instance_ids": run.cancelled,
        "saved_instance_ids": run.saved_by_us,
        "waited_seconds": None,
        "api_calls": stored.api_calls,
        "attempts": run.launches,
        "left": None,
    }
    if stored.finished_at is None:
        return told
    outcome = outcome_of(run, at=stored.finished_at, api_calls=stored.api_calls, events=())
    plain = to_plain(outcome)
    return told | {name: plain[name] for name in plain if name in told}
