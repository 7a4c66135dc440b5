"""The honest, plain word to the person waiting: what is going on, and what is left at the end.

English sentences from a run, and nothing but the run. Every final sentence says what happened, to
which user and lab, what was left untouched or still tears down, and what to do next.
"""

from __future__ import annotations

from orchestrator.machine import results
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import State, WaitKind

_WAITING_FOR = {
    "not_sent": "the call could not be made",
    "platform_unreachable": "the platform cannot be reached",
    "platform_unavailable": "the platform is failing",
    "answer_lost": "the platform's answer got lost",
    "answer_unreadable": "the platform's answer could not be read",
    "rate_limited": "the platform asks us to slow down",
    "held_back": "the calls that may be made to the platform are used up for the moment",
    "platform_paused": "the platform is out of order, so it is left in peace for a while",
    "in_line": "others were before it in line",
    "user_limit": "the learner holds as many labs as they may",
    "teardown_not_finished": "the old lab is still being torn down",
    "instance_not_described": (
        "the platform will not describe the lab instance in the way, so it can't be ended safely"
    ),
    "slot_not_free": (
        "the platform says the learner has too many active labs, though it lists none to end"
    ),
    "crashed": "the relaunch was interrupted",
    "deadline": "the time was not enough",
}

_REFUSED = {
    "already_running": "the lab is already running, and the policy is not to replace it",
    "save_blocks_launch": "a saved copy of this same lab would keep it from being launched",
    "named_instance_not_running": "the lab instance that was to make room is not running",
    "saved_instance_exists": (
        "the learner has a saved copy of this lab; resume or delete it, or allow that by policy"
    ),
    "not_the_users": "the lab instance in the way belongs to another user",
    "foreign_instance": (
        "the lab instance in the way was launched by another API consumer, "
        "so it can only be ended where it was launched"
    ),
    "protected_exam": "the lab instance in the way is an exam; ending it would destroy the attempt",
    "protected_scoring": "the lab instance in the way is being scored",
    "protected_submitted": "the lab instance in the way has been submitted for grading",
    "none_named": "a lab would have to be ended for it, and none was named",
    "ambiguous_instances": "several labs could make room; name the one that shall end",
    "slot_taken": "somebody else took the freed slot for this learner",
    "instance_not_described": _WAITING_FOR["instance_not_described"],
}

_FREED = {
    "nothing_running": "the platform lists no running instance of it",
    "gone_already": "it had ended by itself, as far as the platform tells",
    "launched_by_another": "it has ended, but was launched anew by somebody meanwhile",
}

_FAILED = {
    "not_sent": "calls to the platform could not be made",
    "platform_unreachable": "the platform cannot be reached; check the base URL and the network",
    "platform_unavailable": "the platform keeps failing; try again later",
    "answer_lost": "the platform accepts calls but its answers do not arrive",
    "answer_unreadable": "the platform's answers cannot be read; check the base URL",
    "key_rejected": "the platform does not accept the API key; check it and try again",
    "launch_error": "the platform answers every launch with an error",
    "cancel_refused": "the platform refuses to cancel the old lab",
    "save_refused": "the platform refuses to save the old lab",
    "labs_not_listed": (
        "the platform does not list the learner's labs, so nothing shows what is running"
    ),
    "slot_taken": "somebody else keeps taking the freed slot for this learner",
    "not_the_users": "the platform handed back a lab instance of another user",
    "new_instance_ended": "the new lab is being torn down again already; somebody ended it",
    "access_url_unavailable": "the platform gives no URL to enter the running lab",
}


def progress_sentence(run: Run, usual_seconds: tuple[float, float] | None = None) -> str:
    """What the run is about to do, or waits for, in one sentence."""
    lab = f"lab {run.lab_profile_id}"
    target = f"lab instance {run.target}" if run.target is not None else "the old lab"
    match run.state:
        case State.SURVEYING:
            return "Looking at which labs the learner has."
        case State.PROBING:
            return f"Trying to launch {lab} before anything is ended."
        case State.COUNTING:
            return "Checking whether the learner's own lab is what fills the limit."
        case State.INSPECTING:
            return "Looking closely at the lab that would have to end."
        case State.DISPLACING:
            verb = "Saving" if run.target_step == "save" else "Ending"
            return f"{verb} {target}."
        case State.CONFIRMING_DISPLACE:
            return f"Checking whether {target} is ending."
        case State.TEARING_DOWN:
            if run.target is None:
                return "Waiting for the learner's slot to become free."
            return f"Waiting while {target} is torn down{_usually(usual_seconds)}."
        case State.LOOKING:
            return f"Looking whether {target} is gone."
        case State.LAUNCHING:
            return f"Launching {lab}."
        case State.RESURVEYING:
            return "Looking at what holds the learner's slot."
        case State.CONFIRMING_LAUNCH:
            return "Looking whether the launch took effect."
        case State.VERIFYING:
            return f"Checking that lab instance {run.new_instance_id} is the new lab."
        case State.ENTERING:
            return f"Fetching the way into lab instance {run.new_instance_id}."
        case State.BACKING_OFF:
            if run.wait_kind is WaitKind.SETTLE:
                return "An answer got lost; waiting a moment before looking what came of it."
            return f"Waiting before the next try: {_why(run)}."
        case State.NEW if run.ahead is not None:
            others = "1 other" if run.ahead == 1 else f"{run.ahead} others"
            return f"Waiting in line; {others} will begin before." if run.ahead else "Next in line."
        case State.NEW:
            return "Not begun yet."
        case _:
            return final_sentence(run)


def _usually(seconds: tuple[float, float] | None) -> str:
    if seconds is None:
        return ""
    low, high = seconds
    if high >= 180:
        low, high, unit = low / 60, high / 60, "min"
    else:
        unit = "s"
    first, last = f"{low:.0f}", f"{high:.0f}"
    return f" (usually {first if first == last else f'{first}-{last}'} {unit})"


def final_sentence(run: Run) -> str:
    """How the run ended and what is left, in plain words. For a run that has ended."""
    return " ".join(part for part in (_headline(run), left_sentence(run)) if part)


def _headline(run: Run) -> str:
    who = f"user {run.user_id}, lab {run.lab_profile_id}"
    new = f"Lab instance {run.new_instance_id}"
    match run.state:
        case State.LAUNCHED if run.reason == "access_url_unavailable":
            return f"{new} was launched for {who}, but the platform gave no URL to enter it yet."
        case State.LAUNCHED if run.reason == "not_verified":
            return (
                f"{new} was launched for {who}, as the platform said; it would not describe the "
                "instance, so nothing else shows that it is the new lab."
            )
        case State.LAUNCHED:
            return f"{new} was launched for {who}."
        case State.REUSED if run.reason == "resumed_saved":
            return f"The saved {new[0].lower()}{new[1:]} was resumed for {who}."
        case State.REUSED if run.reason == "launched_by_another":
            return f"{new} is running for {who}; another request launched it meanwhile."
        case State.REUSED:
            return f"{new} is already running for {who}; here is the way back into it."
        case State.FREED:
            return f"Freed for {who}: {_freed(run)}{_named(run)}; nothing was launched."
        case State.CHOOSE:
            return f"The platform lets the learner choose which lab to end ({who}): open the URL."
        case State.REFUSED:
            why = _REFUSED.get(run.reason or "", run.reason or "")
            if not run.policy.launch:
                why = why.replace("in the way", "to be ended")
            return f"Refused for {who}: {why}{_named(run)}."
        case State.FAILED:
            return f"Failed for {who}: {_failure(run)}."
        case State.TIMED_OUT:
            seconds = run.policy.deadline_seconds
            return f"The deadline of {seconds:g} s passed for {who}: {_why(run)}. Try again later."
        case _ if run.reason == "superseded":
            return f"Superseded for {who}: another relaunch for the same learner took its place."
        case _:
            return f"Aborted for {who}."


def left_sentence(run: Run) -> str:
    """What was displaced, what still tears down, what is in doubt, what was left untouched."""
    parts = []
    if run.cancelled:
        parts.append(f"Cancelled: {_list(run.cancelled)}.")
    if run.saved_by_us:
        parts.append(f"Saved: {_list(run.saved_by_us)}.")
    if not run.displaced and not run.displace_in_doubt and run.new_instance_id is None:
        parts.append("No lab was ended.")
    if run.displace_in_doubt:
        parts.append(f"Whether lab instance {run.target} is ending is not known.")
    elif tearing_down(run):
        parts.append(f"Still being torn down: {_list(tearing_down(run))}.")
    if run.reason == "old_instance_left":
        parts.append(f"The old lab still runs: {_list(untouched(run))}.")
    elif run.state is not State.LAUNCHED and untouched(run):
        parts.append(f"Left untouched: {_list(untouched(run))}.")
    if launch_in_doubt(run):
        parts.append(f"A launch may have taken effect; it would carry the tag {run.tag!r}.")
    elif run.state is State.ABORTED and run.new_instance_id is not None:
        parts.append(f"The new lab instance {run.new_instance_id} is running.")
    return " ".join(parts)


def tearing_down(run: Run) -> tuple[int, ...]:
    """Instances whose teardown this run waited for and has not seen the end of."""
    if (
        run.state in (State.LAUNCHED, State.REUSED, State.FREED)
        or run.target is None
        or run.target_gone
    ):
        return ()
    return (run.target,) if run.teardown_since is not None else ()


def untouched(run: Run) -> tuple[int, ...]:
    """Listed running instances that this run has neither displaced nor asked to go."""
    gone = {*run.displaced, *tearing_down(run), run.new_instance_id}
    if run.displace_in_doubt:
        gone.add(run.target)
    return tuple(i.instance_id for i in run.running if i.instance_id not in gone)


def launch_in_doubt(run: Run) -> bool:
    """Whether a launch of this run may have taken effect without anybody knowing."""
    return run.launch_in_doubt and run.new_instance_id is None


def _list(ids: tuple[int, ...]) -> str:
    noun = "lab instance" if len(ids) == 1 else "lab instances"
    return f"{noun} {', '.join(map(str, ids))}"


def _named(run: Run) -> str:
    return f" ({_list(run.named)})" if run.named else ""


def _why(run: Run) -> str:
    code = run.blocked_by or "deadline"
    if code in _WAITING_FOR:
        return _WAITING_FOR[code]
    for result, (_, reason, _) in results.RESULTS.items():
        if reason == code:
            return results.meaning(result)
    return code


def _freed(run: Run) -> str:
    if run.reason in _FREED:
        return _FREED[run.reason]
    lab = "the lab is" if len(run.displaced) == 1 else "the labs are"
    how = "saved" if run.saved_by_us else "torn down"
    return f"{lab} {how}, as far as the platform tells"


def _failure(run: Run) -> str:
    word = f" (the platform says: {run.error[:200]})" if run.error else ""
    if run.reason in _FAILED:
        return f"{_FAILED[run.reason]}{word}{_named(run)}"
    return f"{results.meaning(run.result)}{word}"
