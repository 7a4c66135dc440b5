"""The exit codes: one table for what is done for one learner, one for batches."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.durable.batches import OK, Batch, BatchState

LAUNCHED, FAILED, USAGE, REFUSED, DEADLINE, UNREACHABLE, IN_FLIGHT = 0, 1, 2, 3, 4, 5, 6
INTERRUPTED = 130

#: Exit code -> when
EXITS: dict[int, str] = {
    LAUNCHED: "launched, reused or freed (or the page to choose on was handed out)",
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
    "freed": LAUNCHED,
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


ALL_WELL, SOME_FAILED, STOPPED, TIME_OVER = 0, 1, 3, 4

#: Exit code of a batch -> when
BATCH_EXITS: dict[int, str] = {
    ALL_WELL: "all well (or nothing to do)",
    SOME_FAILED: "some failed",
    USAGE: "wrong usage, input or configuration; nothing was touched",
    STOPPED: "stopped for what concerns every learner",
    TIME_OVER: "some were still tearing down when the time was over",
    INTERRUPTED: "interrupted, or stopped or aborted by somebody",
}

#: A batch stopped for these at somebody's word; for every other reason, but the two that have a
#: code of their own, it was for what concerns every learner.
_BY_SOMEBODY = frozenset({"interrupted", "stopped"})


def batch_exit_code(batch: Batch, ended: Mapping[str, int]) -> int:
    """The exit code of a batch that is not carried out any more; ``ended`` counts by outcome.

    Why it stopped goes before how its learners ended, and a failure before a time that was over.
    """
    if batch.state is BatchState.ABORTED:
        return INTERRUPTED
    if batch.state is BatchState.STOPPED and batch.reason != "on_error":
        if batch.reason in _BY_SOMEBODY:
            return INTERRUPTED
        return TIME_OVER if batch.reason == "batch_wait" else STOPPED
    bad = {outcome for outcome, count in ended.items() if count and outcome not in OK}
    if bad == {"timed_out"}:
        return TIME_OVER
    return SOME_FAILED if bad else ALL_WELL


def exit_code(outcome: str, reason: str | None) -> int:
    """The exit code of an outcome."""
    if outcome == "failed" and reason in NO_ANSWER:
        return UNREACHABLE
    if reason == "relaunch_in_flight":
        return IN_FLIGHT
    return _BY_OUTCOME.get(outcome, FAILED)


def exits_help(exits: Mapping[int, str] = EXITS) -> str:
    """A table as text for ``--help``."""
    return "Exit codes: " + "; ".join(f"{code} {when}" for code, when in exits.items()) + "."
