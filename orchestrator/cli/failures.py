"""The JSON object of what has no relaunch to tell of: the same fields as an outcome's."""

from __future__ import annotations

from typing import Any


def no_relaunch(outcome: str, reason: str, message: str, **known: Any) -> dict[str, Any]:
    """An object with every field that scripts may read; ``known`` are those that are known."""
    return {
        "outcome": outcome,
        "reason": reason,
        "message": message,
        "relaunch_id": None,
        "user_id": None,
        "lab_profile_id": None,
        "lab_instance_id": None,
        "url": None,
        "cancelled_instance_ids": [],
        "waited_seconds": 0.0,
        "api_calls": 0,
        "joined": False,
        "events": [],
        **known,
    }
