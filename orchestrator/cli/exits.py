"""The exit codes, in one table."""

from __future__ import annotations

LAUNCHED, FAILED, USAGE, REFUSED, DEADLINE, UNREACHABLE, IN_FLIGHT = 0, 1, 2, 3, 4, 5, 6
INTERRUPTED = 130

#: Exit code -> when
EXITS: dict[int, str] = {
    LAUNCHED: "launched or reused (or the page to choose on was handed out)",
    FAILED: "failed",
    USAGE: "usage or configuration error",
    REFUSED: "refused to end a lab (protected)",
    DEADLINE: "the deadline passed",
    UNREACHABLE: "the platform cannot be reached",
    IN_FLIGHT: "another relaunch is in flight for the learner",
    INTERRUPTED: "interrupted",
}

_BY_OUTCOME = {
    "launched": LAUNCHED,
    "reused": LAUNCHED,
    "choose": LAUNCHED,
    "refused": REFUSED,
    "timed_out": DEADLINE,
    "aborted": INTERRUPTED,
    "interrupted": INTERRUPTED,
}

#: Reasons of a failure that mean that no usable answer ever came.
NO_ANSWER = frozenset(
    {"not_sent", "platform_unreachable", "platform_unavailable", "answer_lost", "answer_unreadable"}
)


def exit_code(outcome: str, reason: str | None) -> int:
    """The exit code of an outcome."""
    if outcome == "failed" and reason in NO_ANSWER:
        return UNREACHABLE
    if reason == "relaunch_in_flight":
        return IN_FLIGHT
    return _BY_OUTCOME.get(outcome, FAILED)


def exits_help() -> str:
    """The table as text for ``--help``."""
    return "Exit codes: " + "; ".join(f"{code} {when}" for code, when in EXITS.items()) + "."
