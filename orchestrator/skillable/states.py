"""The platform's ``State`` texts, sorted by what each means for the learner's slot.

The texts are documented; new ones occur, so whatever is not in the table reads as unknown.
"""

from __future__ import annotations

from orchestrator.labs import Phase

_PHASES: dict[str, Phase] = {
    "off": Phase.GONE,
    "saved": Phase.GONE,
    "moving (saved)": Phase.GONE,
    "tearing down": Phase.ENDING,
    "saving": Phase.SAVING,
    "scoring": Phase.SCORING,
    "provisioning storage": Phase.ALIVE,
    "building": Phase.ALIVE,
    "building (displayable)": Phase.ALIVE,
    "starting": Phase.ALIVE,
    "running": Phase.ALIVE,
    "resuming": Phase.ALIVE,
    "creating snapshot": Phase.ALIVE,
    "applying snapshot": Phase.ALIVE,
    "updating lab profile": Phase.ALIVE,
    "cloning": Phase.ALIVE,
    "creating as clone": Phase.ALIVE,
    "moving (running)": Phase.ALIVE,
    "creating new lab profile": Phase.ALIVE,
    "scheduled": Phase.ALIVE,
}

_SUBMITTED = frozenset({"submitted for grading", "grading in progress"})


def phase_of(state: str | None) -> Phase:
    """What a ``State`` text means for the slot."""
    return _PHASES.get(_folded(state), Phase.UNKNOWN)


def is_submitted(completion_status: str | None) -> bool:
    """Whether a ``CompletionStatus`` text says that somebody grades, or will grade, this lab."""
    return _folded(completion_status) in _SUBMITTED


def _folded(value: str | None) -> str:
    return " ".join((value or "").split()).lower()
