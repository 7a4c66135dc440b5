"""A plan as plain values: the same for ``relaunch reset --dry-run --json`` and for the service."""

from __future__ import annotations

from typing import Any

from orchestrator.batch import foreseeing, selection
from orchestrator.batch.foreseeing import PlannedRow
from orchestrator.batch.planning import Plan
from orchestrator.batch.selection import Skipped
from orchestrator.plain import to_plain

#: Why a lab or a learner is left out, in plain words.
SKIPPED = selection.REASONS | foreseeing.REASONS


def plain_plan(plan: Plan) -> dict[str, Any]:
    """As plain values: every learner, whatever is shown to people."""
    return {
        "selection": plan.description,
        "launch": plan.policy.launch,
        "displace": plan.policy.displace,
        "rows": [_plain_row(plan, row) for row in plan.rows],
        "skipped": [_plain_skip(skip) for skip in plan.skipped],
        "total": len(plan.to_carry_out),
        "estimate": to_plain(plan.estimate),
        "notes": list(plan.notes),
        "api_calls": plan.api_calls,
    }


def _plain_row(plan: Plan, row: PlannedRow) -> dict[str, Any]:
    return {
        "user_id": row.row.user_id,
        "lab_profile_id": row.row.lab_profile_id,
        "lab_profile_name": plan.lab_names.get(row.row.lab_profile_id),
        "displace_instance_id": row.row.displace_instance_id,
        "line": row.line,
        "carried_out": not plan.is_left_alone(row),
        "certainty": row.certainty,
        "would_end": [
            {"lab_instance_id": entry.instance_id, "lab_profile_id": entry.lab_profile_id}
            for entry in row.would_end
        ],
        "would_launch": row.launches,
        "protected": row.protected,
        "note": row.note,
    }


def _plain_skip(skip: Skipped) -> dict[str, Any]:
    return {
        "reason": skip.reason,
        "message": SKIPPED.get(skip.reason, skip.reason),
        "user_id": skip.user_id,
        "lab_profile_id": skip.lab_profile_id,
        "lab_instance_id": skip.instance_id,
    }
