"""A run that launches nothing: what has still to end, and when the slot counts as free.

It ends what was there at its first look and nothing that came later: that is somebody's new lab.
The slot counts as free when the details say that each lab is gone and the list no longer has any;
only a launch would prove it, and the outcome says so.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.machine.candidates import to_end
from orchestrator.machine.decisions.ending import end
from orchestrator.machine.decisions.listing import ids_of, remember_listing, union_of
from orchestrator.machine.decisions.making_room import aim
from orchestrator.machine.decisions.waiting import back_off, still_there, teardown
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import Declined, Event, State, Surveyed


def what_is_left(run: Run, event: Surveyed) -> Run:
    """Wait for what is listed and on its way out, look at what is yet to end, or be done."""
    first, named = not run.known, run.policy.displace_instance_id
    run = remember_listing(run, event.labs, learn=first)
    if first and named is not None:
        run = replace(run, known=union_of(run.known, (named,)))
    run = replace(run, listing_refusals=0, listing_trusted=True)
    return _go_on(run, event, first=first)


def without_a_list(run: Run, event: Declined) -> Run:
    """What the details say has to do; where they say nothing either, nothing is known."""
    named = run.policy.displace_instance_id
    if named is not None and run.target is None:
        return replace(run, state=State.INSPECTING)
    if run.target_gone and not run.unreadable:
        running = tuple(i for i in run.running if i.instance_id != run.target)
        saved = tuple(i for i in run.saved if i.instance_id != run.target)
        return _go_on(replace(run, running=running, saved=saved), event)
    if run.has_acted:
        return back_off(run, event, State.SURVEYING)
    return end(run, State.FAILED, "labs_not_listed")


def _go_on(run: Run, event: Event, *, first: bool = False) -> Run:
    still, named = to_end(run), run.policy.displace_instance_id
    saving = tuple(i.instance_id for i in run.saved if i.save_in_progress)
    leaving = [i for i in (run.target, *run.displaced, *saving) if i in still]
    if leaving and leaving[0] == run.target:
        return still_there(run, event)
    if leaving:
        return teardown(aim(run, leaving[0]), event, begins=True)
    if still or named not in (None, run.target, *run.displaced):
        if run.target is not None:
            run = replace(aim(run, None), teardown_since=None, unreadable=0)
        return replace(run, state=State.INSPECTING)
    run = replace(run, target_gone=True)
    seen = (*run.known, *run.displaced, run.target)
    came = tuple(i for i in ids_of(run.same_profile) if i not in seen)
    if came:
        return end(replace(run, named=came), State.FREED, "launched_by_another")
    if run.displaced:
        return end(run, State.FREED, None)
    if first:
        return end(run, State.FREED, "nothing_running")
    return end(run, State.FREED, "gone_already")
