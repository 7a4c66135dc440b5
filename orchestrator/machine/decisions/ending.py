"""How a run ends: concluded, aborted, refused, or by its deadline.

Every end goes through :func:`end`, so that a lab that is there is never lost in the report.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import AbortRequested, KeyRefused, State

#: Why calls are put off for everybody's sake: no failure of this run, however often it happens.
HELD_BACK = frozenset({"rate_limited", "held_back", "platform_paused", "in_line"})


def end(run: Run, state: State, reason: str | None) -> Run:
    """End in a terminal state, with a stable reason code (``None`` for a plain success)."""
    if run.releasing and state in (State.REFUSED, State.FAILED, State.TIMED_OUT):
        # The new lab is there all the same; only the old one could not be made to go.
        state, reason = State.LAUNCHED, "old_instance_left"
    return replace(run, state=state, reason=reason, resume_state=None)


def conclude(run: Run) -> Run:
    """Hand the lab over; fetch its URL first if it didn't come with the launch."""
    if run.new_url is None:
        return replace(run, state=State.ENTERING)
    if run.resume_instance_id is not None and run.resume_instance_id == run.new_instance_id:
        return end(run, State.REUSED, "resumed_saved")
    if run.reusing:
        known = run.new_instance_id in run.known
        return end(run, State.REUSED, "already_running" if known else "launched_by_another")
    return end(run, State.LAUNCHED, None if run.new_is_ours else "not_verified")


def without_url(run: Run) -> Run:
    """No way into the lab: a lab of our own is there all the same; the way back in is all else."""
    if run.reusing:
        return end(run, State.FAILED, "access_url_unavailable")
    return end(run, State.LAUNCHED, "access_url_unavailable")


def overdue(run: Run) -> Run:
    """The deadline has passed: end, but settle first what a launch may have left behind.

    A lab that is there is still handed over, and one look is owed to a launch whose answer was
    lost; neither waits for anything.
    """
    if run.state.is_terminal:
        return run
    put_off = run.resume_state if run.state is State.BACKING_OFF else run.state
    if run.releasing or (put_off in (State.VERIFYING, State.ENTERING) and run.new_url):
        return conclude(run)
    if run.state in (State.VERIFYING, State.ENTERING):
        return run
    if put_off in (State.VERIFYING, State.ENTERING):
        return without_url(run)
    if run.launch_in_doubt and not run.last_look:
        return replace(run, state=State.CONFIRMING_LAUNCH, resume_state=None, last_look=True)
    if run.answers == 0 and run.failures and run.blocked_by not in HELD_BACK:
        return end(run, State.FAILED, run.blocked_by)
    return end(run, State.TIMED_OUT, run.blocked_by or "deadline")


def abort(run: Run, event: AbortRequested) -> Run:
    """End now; a call on the wire leaves its effect in doubt, and the report says so."""
    if event.in_flight and run.state in (State.PROBING, State.LAUNCHING):
        run = replace(run, launch_in_doubt=True)
    if event.in_flight and run.state is State.DISPLACING:
        run = replace(run, displace_in_doubt=True)
    return end(run, State.ABORTED, event.reason)


def key_refused(run: Run, event: KeyRefused) -> Run:
    """Final at once; what a call in flight may have done stays said, a lab that is there too."""
    if run.state is State.ENTERING and not run.reusing:
        return without_url(replace(run, error=event.error))
    return end(replace(run, error=event.error), State.FAILED, "key_rejected")
