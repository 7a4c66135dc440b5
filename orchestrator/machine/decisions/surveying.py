"""Looking at what the user has: first of all, and when the slot should be free but isn't."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.machine.candidates import listed_protection
from orchestrator.machine.decisions.ending import end
from orchestrator.machine.decisions.freeing import what_is_left, without_a_list
from orchestrator.machine.decisions.listing import fresh_instances, ids_of, remember_listing
from orchestrator.machine.decisions.making_room import aim, displace_taker, make_room
from orchestrator.machine.decisions.new_lab import adopt
from orchestrator.machine.decisions.waiting import back_off, teardown
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import Declined, Event, Queued, State, Surveyed


def start(run: Run, event: Event) -> Run:
    """Begin by listing what the user has: whatever is listed now can never be the new lab."""
    return replace(run, state=State.SURVEYING, ahead=None)


def queue(run: Run, event: Queued) -> Run:
    """Stand in line: nothing is called until it is this relaunch's turn."""
    return replace(run, ahead=event.ahead, blocked_by="in_line")


def survey(run: Run, event: Surveyed) -> Run:
    """Refuse at once what can be seen to be refused; else try the launch before any harm."""
    if not run.policy.launch:
        return what_is_left(run, event)
    run = remember_listing(run, event.labs)
    policy, same = run.policy, run.same_profile
    if same and policy.if_running != "replace":
        return replace(run, state=State.INSPECTING, reusing=True, repeats=())
    if same and run.repeats:
        return replace(run, state=State.INSPECTING)
    run = replace(run, repeats=())
    if listed_protection(run, same):
        # Most likely a refusal; but an exam that is ending by itself stands in nobody's way.
        return replace(run, state=State.INSPECTING)
    if same and policy.displace == "save" and policy.on_saved == "refuse":
        # Saving this very lab would make its launch answer "a saved instance exists".
        return end(replace(run, named=ids_of(same)), State.REFUSED, "save_blocks_launch")
    named = policy.displace_instance_id
    if named is not None and named not in ids_of(run.running):
        return end(replace(run, named=(named,)), State.REFUSED, "named_instance_not_running")
    if named is not None and same and named not in ids_of(same):
        return end(replace(run, named=ids_of(same)), State.REFUSED, "already_running")
    if policy.on_saved == "resume" and run.saved_same_profile:
        run = replace(run, resume_instance_id=run.saved_same_profile[0].instance_id)
    if not run.running:
        return replace(run, state=State.LAUNCHING)
    if policy.probe or policy.overlap:
        return replace(run, state=State.PROBING)
    return make_room(run)


def survey_declined(run: Run, event: Declined) -> Run:
    """A list that stays refused is taken for empty, and nothing it would prove is believed."""
    if run.listing_refusals == 0:
        run = replace(run, listing_refusals=1)
        return back_off(run, event, State.SURVEYING)
    run = replace(run, listing_trusted=False, error=event.error)
    if not run.policy.launch:
        return without_a_list(run, event)
    return replace(run, state=State.LAUNCHING)


def resurvey(run: Run, event: Surveyed) -> Run:
    """Who holds the slot: a lab of ours, somebody who took it, or still the teardown?"""
    fresh = fresh_instances(run, event.labs)
    run = remember_listing(run, event.labs, learn=False)
    wanted = tuple(i for i in fresh if i.lab_profile_id == run.lab_profile_id)
    if run.launch_in_doubt and wanted:
        return adopt(run, ids_of(wanted))
    if wanted and run.policy.if_running != "replace":
        return replace(run, state=State.INSPECTING, reusing=True, takers=ids_of(wanted))
    if fresh:
        return displace_taker(run, ids_of(fresh))
    others = [i for i in run.running if i.instance_id not in (run.target, *run.displaced)]
    if run.displacements == 0 and others and run.target not in ids_of(run.running):
        # Nothing has made room yet, and what seemed to end by itself is gone: choose again.
        return make_room(aim(replace(run, takers=()), None))
    if run.target is None:
        return replace(run, state=State.LAUNCHING)
    return teardown(run, event)


def resurvey_declined(run: Run, event: Declined) -> Run:
    """Without a list, the launch stays the only look."""
    if run.target is None:
        return replace(run, state=State.LAUNCHING)
    return teardown(run, event)
