"""Words for people who were not there: lengths of time, moments, and how each item ended.

For every outcome and reason there is a short phrase that goes with a number ("2 exams left alone"),
and what to do next. Moments are in UTC, and say so.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from orchestrator.batch.obstacles import SHARED, SILENT
from orchestrator.durable.batches import StoredItem

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

_AGAIN = "<resume> tries them once more, and touches nobody who is done."
_LATER = f"Wait some minutes; then {_AGAIN}"
_RAISE = f"Somebody has to raise that limit, or other labs have to end; then {_AGAIN}"
_LOOK = f"Look at what the learner has (`relaunch labs --user ID`), and settle that; then {_AGAIN}"


@dataclass(frozen=True, slots=True)
class Ending:
    """A way to end without success: for one, for many, and what to do next.

    ``next`` has commands in backticks, and ``<resume>`` for the one that takes up the batch again.
    """

    one: str
    many: str
    next: str

    def of(self, count: int) -> str:
        """The phrase that goes with so many."""
        return self.one if count == 1 else self.many


def _same(phrase: str, next_: str) -> Ending:
    return Ending(phrase, phrase, next_)


_EXAM = (
    "Ending it would destroy a graded attempt, so it was left. Let the learner finish it; or, if "
    "it may be lost, use `relaunch run --user ID --lab LAB --allow-exam`."
)

_BY_REASON: dict[str, Ending] = {
    "protected_exam": Ending("exam left alone", "exams left alone", _EXAM),
    "protected_scoring": Ending(
        "lab that is being scored left alone", "labs that are being scored left alone", _LATER
    ),
    "protected_submitted": Ending(
        "lab submitted for grading left alone", "labs submitted for grading left alone",
        f"It has to be graded first; then {_AGAIN}",
    ),
    "teardown_not_finished": _same("still being torn down", _LATER),
    "slot_not_free": _same("with a slot that is taken, though no lab is listed", _LATER),
    "instance_not_described": _same("with a lab that the platform will not describe", _LATER),
    "already_running": _same(
        "with that lab running already", "It was left as it is, as the policy says."
    ),
    "launch_limit_reached": _same(
        "out of launches of this lab",
        f"Give them more launches of the lab profile on the platform; then {_AGAIN}",
    ),
    "security_review": _same(
        "awaiting a security review",
        f"The platform holds the launch back until it is reviewed; then {_AGAIN}",
    ),
    "user_information_required": _same(
        "asked by the platform for more information", f"The learner has to give it; then {_AGAIN}"
    ),
    "launch_invalid": _same(
        "with a launch that the platform calls invalid",
        "Check the lab profile and the launch parameters, and ask for these in a new batch.",
    ),
    "key_rejected": _same(
        "without a valid API key", f"Check the API key (`relaunch doctor`); then {_AGAIN}"
    ),
    "foreign_instance": _same(
        "with a lab that another API consumer launched",
        f"It can only be ended where it was launched; then {_AGAIN}",
    ),
    "saved_instance_exists": _same("with a saved copy of this lab in the way", _LOOK),
    "save_blocks_launch": _same("whose saved copy would be in the way", _LOOK),
    "ambiguous_instances": _same("with several labs that could make room", _LOOK),
    "none_named": _same("with a lab in the way that was not named", _LOOK),
    "named_instance_not_running": _same("whose named lab instance is not running", _LOOK),
    "not_the_users": _same("with somebody else's lab in the way", _LOOK),
    "slot_taken": _same("whose freed slot somebody else took", _LOOK),
    "new_instance_ended": _same("whose new lab was ended again", _LATER),
    "launch_error": _same("with a launch that the platform answers with an error", _LATER),
    "cancel_refused": _same("whose lab the platform refuses to end", _LOOK),
    "save_refused": _same("whose lab the platform refuses to save", _LOOK),
    "access_url_unavailable": _same("with a lab, but no way into it", _LATER),
    "user_limit": _same("with as many labs as they may have", _LOOK),
    "superseded": _same("overtaken by another request for the learner", _LOOK),
    "relaunch_in_flight": _same("with another relaunch in flight", _LATER),
    "active_labs_page": _same(
        "to choose on the platform which lab to end", "The learner has to choose and end one."
    ),
    **{code: _same("for want of an answer of the platform", _LATER) for code in SILENT},
    **{
        code: _same(f"for want of room: {meaning}", _RAISE) for code, meaning in SHARED.items()
    },
}  # fmt: skip

_BY_OUTCOME: dict[str, Ending] = {
    "aborted": _same("aborted", f"If it was not meant so, {_AGAIN}"),
    "timed_out": _same("out of time", _LATER),
    "refused": _same("refused", _LOOK),
    "failed": _same("failed", _LATER),
    "choose": _BY_REASON["active_labs_page"],
}

#: A launch got no answer, so there may be a lab: that goes before any other advice.
IN_DOUBT = _same(
    "with a launch that got no answer, so there may be a lab",
    "Look first whether the learner has it (`relaunch labs --user ID`); if not, <resume> tries "
    "once more, and takes up the lab if it is there after all.",
)


def ending_of(stored: StoredItem) -> Ending:
    """How to speak of an item that ended without success."""
    result = stored.result
    if result is None:
        raise ValueError(f"item {stored.item.number} has not ended")
    if result.launch_in_doubt:
        return IN_DOUBT
    known = _BY_REASON.get(result.reason or "") or _BY_OUTCOME.get(result.outcome)
    if known is None:
        return _same((result.reason or result.outcome).replace("_", " "), _LOOK)
    if result.reason in _BY_REASON or not result.reason or result.reason == result.outcome:
        return known
    return _same(f"{known.one} ({result.reason.replace('_', ' ')})", known.next)


def without_urls(text: str) -> str:
    """A message that may quote the platform, without any address it may contain."""
    return _URL.sub("(address left out)", text)


def iso(at: float) -> str:
    """A moment in ISO 8601, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def moment(at: float) -> str:
    """A moment for people: the day and the minute, and the zone. (No locale has a say in it.)"""
    when = time.gmtime(at)
    month = _MONTHS[when.tm_mon - 1]
    return f"{when.tm_mday} {month} {when.tm_year}, {when.tm_hour:02}:{when.tm_min:02} UTC"


def clock(at: float) -> str:
    """The time of day, in UTC; the zone is said above."""
    return time.strftime("%H:%M:%S", time.gmtime(at))


def length(seconds: float) -> str:
    """A length of time as people say it: ``45 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s" if round(seconds, 1) % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, word, part, small in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            big, rest = divmod(round(whole / part) * part, size)
            return f"{big} {word} {rest // part} {small}" if rest else f"{big} {word}"
    return f"{whole} s"


def colon(seconds: float) -> str:
    """A length of time for columns and axes: ``1:05`` (minutes) or ``1:00:00`` (hours)."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
