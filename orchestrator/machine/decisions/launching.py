"""What each answer to a launch means, before anything was displaced (probe) and after."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.labs import InstanceDetails
from orchestrator.machine import results
from orchestrator.machine.candidates import protection
from orchestrator.machine.decisions.ending import conclude, end
from orchestrator.machine.decisions.listing import fresh_instances, ids_of, remember_listing
from orchestrator.machine.decisions.making_room import aim, displace, displace_taker, make_room
from orchestrator.machine.decisions.new_lab import adopt
from orchestrator.machine.decisions.waiting import back_off, settle, teardown
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import (
    CRASHED,
    CapacityExhausted,
    Event,
    LaunchAccepted,
    LaunchErred,
    LaunchHandedBack,
    LaunchRefused,
    Lost,
    SavedInstanceExists,
    State,
    Surveyed,
    UserLimitReached,
)

#: Looks for a launch whose answer was lost, before it counts as never made: late effects take
#: seconds (vendor page), the settle schedule spreads these looks over a quarter of a minute.
SETTLE_LOOKS = 4
#: How often a launch may answer "error", and how often a run that has displaced nothing may lose a
#: launch without a trace, before it gives up.
LAUNCH_ERRORS = 3
LAUNCH_LOSSES = 3


def probe_blocked(run: Run, event: UserLimitReached) -> Run:
    """The user limit, in either dress: now, and only now, a lab has to make room."""
    if _ends_at_page(run, event):
        return end(replace(run, page_url=event.url), State.CHOOSE, "active_labs_page")
    run = replace(run, blocked_by="user_limit")
    if run.launch_in_doubt:
        # An earlier launch of ours, whose answer was lost, may be what fills the limit.
        return replace(run, state=State.RESURVEYING)
    return make_room(run)


def probe_handed_back(run: Run, event: LaunchHandedBack) -> Run:
    """The running instance came back: it, and no other, has to make room."""
    return make_room(replace(run, takers=(event.instance_id,), blocked_by="user_limit"))


def probe_capacity(run: Run, event: CapacityExhausted) -> Run:
    """Wait for room elsewhere, unless the learner's own lab is what takes it up."""
    run = replace(run, blocked_by=results.reason(event.result))
    if event.result in results.ONLY_OWN_LABS_COUNT:
        return make_room(run)
    if event.result in results.ABOUT_THE_PROFILE and run.same_profile:
        return make_room(run)
    if event.result in results.OWN_LAB_MAY_COUNT:
        return replace(run, state=State.COUNTING)
    return back_off(run, event, State.PROBING)


def launch_accepted(run: Run, event: LaunchAccepted) -> Run:
    """Accepted is not yet ours: another actor's new instance can be handed back. Its tag tells."""
    resumed = event.instance_id == run.resume_instance_id
    if not resumed and event.instance_id in (*run.known, *run.displaced):
        raise ValueError("an instance that was known before is never the new lab")
    run = replace(
        run,
        new_instance_id=event.instance_id,
        new_url=event.url,
        new_expires_at=event.expires_at,
        ready_in_seconds=event.estimated_ready_seconds,
    )
    if resumed:
        return conclude(replace(run, reusing=True))
    return replace(run, state=State.VERIFYING)


def launch_blocked(run: Run, event: UserLimitReached) -> Run:
    """The slot is not free yet, whatever was said; ask who holds it if the target seems gone."""
    if _ends_at_page(run, event):
        return end(replace(run, page_url=event.url), State.CHOOSE, "active_labs_page")
    return _still_busy(run, event)


def launch_handed_back(run: Run, event: LaunchHandedBack) -> Run:
    """An instance known before, perhaps the dying one: not a new lab, so the slot isn't free.

    If it is another running instance of the profile, no launch will ever bring a new one past it.
    """
    if event.instance_id not in (run.target, *run.displaced) and run.target is not None:
        return displace_taker(run, (event.instance_id,))
    return _still_busy(run, event)


def _still_busy(run: Run, event: Event) -> Run:
    run = replace(run, last_busy_at=event.at, blocked_by=run.holds_the_slot)
    if run.target is not None and (run.target_gone or run.launch_in_doubt):
        return replace(run, state=State.RESURVEYING)
    return teardown(run, event)


def launch_capacity(run: Run, event: CapacityExhausted) -> Run:
    """While the teardown lasts it may be our own slot; afterwards it is somebody else's."""
    run = replace(run, blocked_by=results.reason(event.result))
    tearing_down = run.target is not None and not run.target_gone
    if tearing_down and event.result in results.TEARDOWN_MAY_CAUSE:
        return teardown(replace(run, last_busy_at=event.at), event)
    return back_off(run, event, State.LAUNCHING)


def saved_exists(run: Run, event: SavedInstanceExists) -> Run:
    """A saved lab is somebody's work: leave it alone unless the policy says otherwise."""
    saved = run.saved_same_profile
    if run.policy.on_saved == "refuse" or not saved or run.resume_instance_id is not None:
        return end(replace(run, named=ids_of(saved)), State.REFUSED, "saved_instance_exists")
    if run.policy.on_saved == "resume":
        return replace(run, resume_instance_id=saved[0].instance_id)
    left = [i for i in saved if i.instance_id not in run.displaced]
    if not left:
        # Its deletion has begun and takes its time, like every teardown.
        return back_off(replace(run, blocked_by="teardown_not_finished"), event, run.state)
    why = protection(run, InstanceDetails(instance_id=left[0].instance_id), left[0])
    if why:
        return end(replace(run, named=(left[0].instance_id,)), State.REFUSED, why)
    return displace(aim(replace(run, target_step="cancel"), left[0].instance_id))


def launch_refused(run: Run, event: LaunchRefused) -> Run:
    """Refused for good: nothing (more) is touched."""
    run = replace(run, error=event.error, result=event.result)
    return end(run, State.FAILED, results.reason(event.result))


def launch_erred(run: Run, event: LaunchErred) -> Run:
    """An error is no proof that nothing happened: look, then try a bounded number of times."""
    run = replace(run, launch_errors=run.launch_errors + 1, error=event.error)
    run = replace(run, launch_in_doubt=True, settle_looks=SETTLE_LOOKS - 1)
    return back_off(run, event, State.CONFIRMING_LAUNCH)


def launch_lost(run: Run, event: Lost) -> Run:
    """The lab may exist, or come into being seconds from now: look before anything else."""
    # That a process died says nothing of the platform: it is no reason to give up.
    losses = run.launch_losses + (event.code != CRASHED)
    run = replace(run, launch_in_doubt=True, settle_looks=0, launch_losses=losses)
    return settle(replace(run, blocked_by=event.code), event, State.CONFIRMING_LAUNCH)


def confirm_launch(run: Run, event: Surveyed) -> Run:
    """Adopt what the lost launch made; if nothing shows up for long enough, launch again."""
    fresh = [i for i in fresh_instances(run, event.labs) if i.lab_profile_id == run.lab_profile_id]
    resumed = [i for i in event.labs.running if i.instance_id == run.resume_instance_id]
    run = remember_listing(run, event.labs, learn=False)
    if resumed:
        run = replace(run, new_instance_id=resumed[0].instance_id, reusing=True)
        return replace(run, state=State.ENTERING)
    if fresh:
        return adopt(run, ids_of(tuple(fresh)))
    return confirm_launch_declined(run, event)


def confirm_launch_declined(run: Run, event: Event) -> Run:
    """Nothing found this time."""
    run = replace(run, settle_looks=run.settle_looks + 1)
    if run.settle_looks < SETTLE_LOOKS:
        return settle(run, event, State.CONFIRMING_LAUNCH)
    if run.launch_errors >= LAUNCH_ERRORS:
        return end(replace(run, launch_in_doubt=False), State.FAILED, "launch_error")
    if run.launch_losses >= LAUNCH_LOSSES and not run.displaced:
        return end(run, State.FAILED, run.blocked_by)
    probing = run.running and not run.displaced and run.target is None
    return replace(run, state=State.PROBING if probing else State.LAUNCHING)


def _ends_at_page(run: Run, event: UserLimitReached) -> bool:
    return event.url is not None and run.policy.on_active_labs_page == "choose"
