"""Waiting: through the teardown, out of a failure, for a lost effect to show; and each look.

A look only ever ends the wait; that the slot is free is proved by an accepted launch alone. A run
that launches nothing has no proof: there the details and then the list must both say so.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.labs import Phase
from orchestrator.machine.decisions.ending import HELD_BACK, end
from orchestrator.machine.decisions.listing import ids_of, remember_listing
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import (
    Declined,
    Event,
    Hinted,
    Inspected,
    Lost,
    State,
    Surveyed,
    Unsent,
    WaitKind,
    Woke,
)

#: Calls in a row without an answer after which a run that has changed nothing gives up.
FAILURES_BEFORE_HARM = 4
#: How often in a row a call that only confirms a new lab may be put off for everybody's sake.
HELD_BACK_TRIES = 10
#: While details say "busy", every so many looks are a launch all the same: they may lag behind.
LOOKS_PER_LAUNCH = 4
#: How often the platform is asked again to describe an instance before that is taken for its word.
UNREADABLE_TRIES = 2


def teardown(run: Run, event: Event, *, begins: bool = False) -> Run:
    """Wait for the slot; a wait that begins starts its schedule afresh."""
    since = run.teardown_since
    if begins or since is None:
        since = event.at
        run = replace(
            run,
            teardown_since=since,
            looks=0,
            last_busy_at=None,
            target_gone=run.target_gone and not begins,
            blocked_by=run.holds_the_slot,
        )
    return _wait(run, State.TEARING_DOWN, WaitKind.TEARDOWN, run.looks + 1, since, None)


def still_there(run: Run, event: Event) -> Run:
    """A look has shown that the teardown goes on."""
    run = replace(run, last_busy_at=event.at)
    if not run.policy.launch:
        # Looks are all that such a run has to say what it waits for.
        run = replace(run, blocked_by=run.holds_the_slot)
    return teardown(run, event)


def room_made(run: Run) -> Run:
    """Room seems to be made. Whether it is, a launch tells; the list, if none is wanted."""
    return replace(run, state=State.LAUNCHING if run.policy.launch else State.SURVEYING)


def back_off(run: Run, event: Event, then: State) -> Run:
    """Go on with ``then`` after a while; longer each time, or as long as the platform asked."""
    run = replace(run, resume_state=then, backoffs=run.backoffs + 1)
    return _wait(run, State.BACKING_OFF, WaitKind.BACKOFF, run.backoffs, event.at, event)


def settle(run: Run, event: Event, then: State) -> Run:
    """Give a lost effect time to show, then look in state ``then``."""
    run = replace(run, resume_state=then)
    attempt = run.settle_looks + 1
    return _wait(run, State.BACKING_OFF, WaitKind.SETTLE, attempt, event.at, event)


def _wait(
    run: Run, state: State, kind: WaitKind, attempt: int, since: float, told_by: Event | None
) -> Run:
    not_before = None
    if isinstance(told_by, Unsent | Lost) and told_by.retry_after is not None:
        not_before = told_by.at + told_by.retry_after
    return replace(
        run,
        state=state,
        wait_kind=kind,
        wait_attempt=attempt,
        wait_since=since,
        not_before=not_before,
    )


def wake(run: Run, event: Woke) -> Run:
    """Take up what was put off."""
    if run.resume_state is None:
        raise ValueError("a run that backs off must know where to go on")
    return replace(run, state=run.resume_state, resume_state=None)


def stay(run: Run, event: Hinted) -> Run:
    """A hint changes nothing while the run waits for something else."""
    return run


def held_back(run: Run, event: Event) -> Run | None:
    """The run, waiting for its turn, if the call was put off for everybody's sake.

    ``None`` if it was not, or if somebody has a lab by now and should not wait for this any longer.
    """
    if not isinstance(event, Unsent) or event.code not in HELD_BACK:
        return None
    if run.held_back >= HELD_BACK_TRIES or event.at >= run.deadline_at:
        return None
    run = replace(run, held_back=run.held_back + 1, blocked_by=event.code)
    return back_off(run, event, run.state)


def unsent(run: Run, event: Unsent | Lost) -> Run:
    """No effect, so the same call may be made again: later, and not for ever before any harm."""
    if run.releasing and (waiting := held_back(run, event)) is not None:
        return waiting
    run = replace(run, failures=run.failures + 1, blocked_by=event.code)
    if run.releasing and run.failures > 1:
        return end(run, State.FAILED, event.code)
    hopeless = run.failures >= FAILURES_BEFORE_HARM and event.code not in HELD_BACK
    if hopeless and not run.has_acted and run.new_instance_id is None:
        return end(run, State.FAILED, event.code)
    return back_off(run, event, run.state)


def wake_in_teardown(run: Run, event: Event) -> Run:
    """The wait is over: look, in the way the policy names."""
    run = replace(run, looks=run.looks + 1)
    if run.target is None:
        return replace(run, state=State.RESURVEYING)
    if run.target_gone and run.displacements == 0 and run.target in ids_of(run.running):
        # It seemed to go by itself and is still listed: look closely again.
        return replace(run, state=State.INSPECTING)
    if run.target_gone or _needs_no_look(run):
        return room_made(run)
    return replace(run, state=State.LOOKING)


def _needs_no_look(run: Run) -> bool:
    """Whether what tells in the end that room is made is the next look itself.

    So a run that launches nothing looks by the details alone, or by the list alone.
    """
    if not run.policy.launch:
        return run.policy.detect == "listing"
    return run.policy.detect == "launch" or run.looks % LOOKS_PER_LAUNCH == 0


def hint_in_teardown(run: Run, event: Hinted) -> Run:
    """A hint about an instance of ours ends the wait at once; the launch, or a look, checks it."""
    if event.instance_id not in (run.target, *run.known, *run.displaced):
        return run
    if not run.policy.launch:
        return wake_in_teardown(run, event)
    return replace(run, state=State.LAUNCHING, looks=run.looks + 1)


def look_at_details(run: Run, event: Inspected) -> Run:
    """Gone, unreadable or unheard of: only a launch can tell. Anything else: wait on.

    Without a launch, what is unheard of is not over, and one refusal to describe it no word.
    """
    details = event.details[0]
    if not run.policy.launch and details.readable:
        run = replace(run, unreadable=0)
    if details.readable and details.phase not in (Phase.GONE, Phase.UNKNOWN):
        return still_there(run, event)
    gone = details.phase is Phase.GONE or not details.readable
    if not (run.policy.launch or gone):
        return teardown(run, event)
    if not (run.policy.launch or details.readable) and run.unreadable < UNREADABLE_TRIES:
        return back_off(replace(run, unreadable=run.unreadable + 1), event, State.LOOKING)
    return room_made(replace(run, target_gone=gone))


def look_at_listing(run: Run, event: Surveyed) -> Run:
    """The list may drop an instance early or late; what it drops is checked by a launch."""
    saving = {i.instance_id for i in event.labs.saved if i.save_in_progress}
    run = remember_listing(run, event.labs, learn=False)
    if run.target in saving or run.target in ids_of(event.labs.running):
        return still_there(run, event)
    return replace(run, state=State.LAUNCHING, target_gone=True)


def look_declined(run: Run, event: Declined) -> Run:
    """A look that tells nothing is replaced by the launch."""
    return replace(run, state=State.LAUNCHING)
