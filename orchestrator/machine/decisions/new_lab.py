"""The new lab: whether it is new, whether it is ours, and the way into it."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.labs import InstanceDetails, Phase, RunningInstance
from orchestrator.machine.candidates import protection
from orchestrator.machine.decisions.ending import conclude, end, without_url
from orchestrator.machine.decisions.listing import union_of
from orchestrator.machine.decisions.making_room import aim, displace_taker
from orchestrator.machine.decisions.waiting import back_off, held_back, teardown
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import AccessGranted, Event, Inspected, State

#: How often an access URL is asked for before the lab is reported without one.
ACCESS_ATTEMPTS = 5
#: A tagless instance that is older than the run by more than this (s) was not launched by it.
OLDER_THAN_RUN = 60.0
#: How often the new instance is asked about before it is handed over unverified.
VERIFY_TRIES = 3


def adopt(run: Run, ids: tuple[int, ...]) -> Run:
    """New instances of the wanted profile turned up after a lost answer: see which is ours."""
    return replace(run, state=State.VERIFYING, new_instance_id=ids[0], adoptable=ids)


def verify(run: Run, event: Inspected) -> Run:
    """Is it new, and ours? Only a tag of somebody else's shows that it isn't."""
    details = next((d for d in event.details if run.is_ours(d.tag)), event.details[0])
    run = replace(run, new_instance_id=details.instance_id, adoptable=())
    if details.user_id is not None and details.user_id != run.user_id:
        run = replace(run, named=(details.instance_id,))
        return end(_forget_new(run), State.FAILED, "not_the_users")
    if run.is_ours(details.tag):
        if details.phase is Phase.ENDING:
            return end(replace(run, launch_in_doubt=False), State.FAILED, "new_instance_ended")
        return _accept(replace(run, new_is_ours=True, launch_in_doubt=False))
    if _is_strange(details) or details.phase in (Phase.ENDING, Phase.SAVING):
        # A dying instance that the list no longer showed was handed back: it is no new lab.
        run = aim(run, details.instance_id, [details])
        return teardown(_forget_new(run), event, begins=True)
    if details.tag or _is_older(run, details):
        return _somebody_elses(run, details)
    if not details.readable:
        return verify_failed(run, event)
    if not run.listing_trusted:
        return _accept(replace(run, reusing=True, launch_in_doubt=False))
    return _accept(replace(run, new_is_ours=True, launch_in_doubt=False))


def verify_failed(run: Run, event: Event) -> Run:
    """Try again a few times; after that the acceptance of our launch has to do, and it is said."""
    if (waiting := held_back(run, event)) is not None:
        return waiting
    run = replace(run, verify_tries=run.verify_tries + 1)
    if run.verify_tries < VERIFY_TRIES and event.at < run.deadline_at:
        return back_off(run, event, State.VERIFYING)
    if not run.listing_trusted:
        run = replace(run, reusing=True)
    return conclude(replace(run, launch_in_doubt=False))


def _is_strange(details: InstanceDetails) -> bool:
    """Told to have no tag, and gone or in a state never heard of: nothing says it is our new lab.

    Details may run ahead of the slot, so a dying instance can read "Off" already.
    """
    told = details.state is not None and details.tag == ""
    return told and details.phase in (Phase.UNKNOWN, Phase.GONE)


def _is_older(run: Run, details: InstanceDetails) -> bool:
    """Whether the instance was there before this run; a start time of 0 is none."""
    return (details.started_at or run.created_at) < run.created_at - OLDER_THAN_RUN


def _somebody_elses(run: Run, details: InstanceDetails) -> Run:
    relaunched = any(word.startswith("relaunch=") for word in (details.tag or "").split())
    if (relaunched and not _is_older(run, details)) or run.policy.if_running == "reuse":
        # Another relaunch of the same learner and lab: one lab for both, not a war of cancels.
        return _accept(replace(run, reusing=True))
    run = replace(run, named=(details.instance_id,))
    if run.policy.if_running == "refuse":
        return end(_forget_new(run), State.REFUSED, "slot_taken")
    why = protection(run, details, None)
    if why:
        return end(_forget_new(run), State.REFUSED, why)
    taken = RunningInstance(
        instance_id=details.instance_id,
        lab_profile_id=run.lab_profile_id,
        started_at=details.started_at,
        is_exam=bool(details.is_exam),
    )
    run = _forget_new(replace(run, running=(*run.running, taken)))
    return displace_taker(run, (details.instance_id,))


def _accept(run: Run) -> Run:
    """The lab is there. Leftovers of an overlap go now; then its URL, if it didn't come along."""
    replaced = run.policy.if_running == "replace" and _left(run, run.same_profile)
    leftovers = replaced or (run.policy.overlap and _left(run, run.running))
    if leftovers and run.new_is_ours and not run.displaced and run.target is None:
        return replace(run, state=State.INSPECTING, releasing=True)
    return conclude(run)


def _forget_new(run: Run) -> Run:
    known = run.known
    if run.new_instance_id is not None:
        known = union_of(known, (run.new_instance_id,))
    return replace(run, known=known, new_instance_id=None, new_url=None, new_expires_at=None)


def access_granted(run: Run, event: AccessGranted) -> Run:
    """The way into the lab."""
    return conclude(replace(run, new_url=event.url))


def access_declined(run: Run, event: Event) -> Run:
    """A lab that is still being built may not be enterable yet; it exists all the same."""
    if (waiting := held_back(run, event)) is not None:
        return waiting
    run = replace(run, access_attempts=run.access_attempts + 1)
    if run.access_attempts < ACCESS_ATTEMPTS and event.at < run.deadline_at:
        return back_off(run, event, State.ENTERING)
    return without_url(run)


def _left(run: Run, instances: tuple[RunningInstance, ...]) -> bool:
    old = set(run.known) - {run.new_instance_id}
    return any(i.instance_id in old for i in instances)
