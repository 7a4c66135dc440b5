"""Making room: choosing, displacing, and being sure of what became of it.

Nothing is displaced without a close look first, and nothing is displaced twice on a guess.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.labs import InstanceDetails, Phase
from orchestrator.machine.candidates import Choice, Verdict, choose, protection
from orchestrator.machine.decisions.ending import conclude, end
from orchestrator.machine.decisions.listing import ids_of, union_of
from orchestrator.machine.decisions.waiting import (
    UNREADABLE_TRIES,
    back_off,
    room_made,
    settle,
    teardown,
)
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import (
    CRASHED,
    Counted,
    DisplaceForeign,
    DisplaceRefused,
    Event,
    Inspected,
    Lost,
    State,
)

#: In the last tenth of its time a run that has changed nothing displaces nothing any more: the
#: teardown would outlast it, and the lab would be lost for nothing.
TOO_LATE_TO_DISPLACE = 0.1
#: Looks at an instance whose cancel got lost before it is cancelled once more.
DISPLACE_LOOKS = 2
#: How often one instance is asked to go.
DISPLACE_ATTEMPTS = 3


def make_room(run: Run) -> Run:
    """Look closely at the candidates before one of them is displaced."""
    if _saved_blocks(run):
        return end(run, State.REFUSED, "saved_instance_exists")
    return replace(run, state=State.INSPECTING)


def displace_taker(run: Run, ids: tuple[int, ...]) -> Run:
    """Somebody took the slot: displace them too, but only so often."""
    run = replace(run, takers=ids, known=union_of(run.known, ids))
    if run.displacements > run.policy.max_recancels:
        return end(replace(run, named=ids), State.FAILED, "slot_taken")
    return make_room(aim(run, None))


def count(run: Run, event: Counted) -> Run:
    """A consumer limit taken up by this learner's own labs alone clears only by ending one."""
    if 1 <= event.num_active <= len(run.running):
        return make_room(run)
    return back_off(run, event, State.PROBING)


def count_declined(run: Run, event: Event) -> Run:
    """Not knowing whose labs fill the limit, harm nothing and wait."""
    return back_off(run, event, State.PROBING)


def inspect(run: Run, event: Inspected) -> Run:
    """Displace the right one, wait for one that is ending already, or refuse."""
    if run.repeats:
        return _see_earlier_tries(run, event)
    if run.reusing:
        return _reuse(run, event)
    choice = choose(run, event.details) if event.details else Choice(Verdict.GONE, ())
    if run.releasing and choice.verdict is not Verdict.DISPLACE:
        return conclude(run)
    if choice.verdict is Verdict.DISPLACE:
        too_late = run.deadline_at - TOO_LATE_TO_DISPLACE * run.policy.deadline_seconds
        if run.policy.launch and event.at > too_late and not (run.has_acted or run.releasing):
            return end(run, State.TIMED_OUT, run.blocked_by or "deadline")
        run = replace(run, target_step=run.policy.displace)
        return displace(aim(run, choice.instance_ids[0], event.details))
    if choice.verdict is Verdict.ENDING:
        run = aim(run, choice.instance_ids[0], event.details)
        return teardown(run, event, begins=True)
    if choice.verdict is Verdict.UNREADABLE and run.unreadable < UNREADABLE_TRIES:
        again = State.INSPECTING if run.policy.launch else State.SURVEYING
        return back_off(replace(run, unreadable=run.unreadable + 1), event, again)
    if choice.verdict is Verdict.UNREADABLE and not run.policy.launch and run.target is None:
        listed = tuple(i for i in choice.instance_ids if i in ids_of(run.running))
        if listed:
            return end(replace(run, named=listed), State.REFUSED, "instance_not_described")
    if choice.verdict in (Verdict.GONE, Verdict.UNREADABLE):
        # Whether it is really gone, only a launch can tell; and that harms nobody.
        target = choice.instance_ids[0] if choice.instance_ids else None
        return room_made(replace(run, target=target, target_gone=True))
    return end(replace(run, named=choice.instance_ids), State.REFUSED, choice.reason)


def _see_earlier_tries(run: Run, event: Inspected) -> Run:
    """Enter the lab that an earlier try launched after all; where there is none, begin anew."""
    theirs = [
        d
        for d in event.details
        if run.is_of_an_earlier_try(d.tag)
        and d.phase not in (Phase.ENDING, Phase.SAVING, Phase.GONE)
        and d.user_id in (None, run.user_id)
    ]
    run = replace(run, repeats=())
    if not theirs:
        return replace(run, state=State.SURVEYING)
    new = theirs[0].instance_id
    return replace(run, state=State.ENTERING, new_instance_id=new, new_is_ours=True)


def _reuse(run: Run, event: Inspected) -> Run:
    same = set(ids_of(run.same_profile))
    here = [d for d in event.details if d.instance_id in same]
    alive = [d for d in here if d.phase not in (Phase.ENDING, Phase.SAVING, Phase.GONE)]
    usable = [d for d in alive if not d.foreign and d.user_id in (None, run.user_id)]
    if alive and run.policy.if_running == "refuse":
        named = tuple(d.instance_id for d in alive)
        return end(replace(run, named=named), State.REFUSED, "already_running")
    if usable:
        return replace(run, state=State.ENTERING, new_instance_id=usable[0].instance_id)
    if alive:
        ids = tuple(d.instance_id for d in alive)
        return end(replace(run, named=ids), State.REFUSED, "not_the_users")
    run = aim(run, here[0].instance_id if here else None, here)
    return teardown(replace(run, reusing=False), event, begins=True)


def aim(run: Run, target: int | None, details: Iterable[InstanceDetails] = ()) -> Run:
    """Make ``target`` the instance that makes room, and remember what kind of lab it is."""
    described = next((d for d in details if d.instance_id == target), None)
    return replace(
        run,
        target=target,
        target_gone=False,
        target_profile_id=described.lab_profile_id if described else None,
        target_kind=described.kind if described else None,
    )


def displace(run: Run) -> Run:
    """Set out to displace the target; the inspection before has shown that it may be."""
    return replace(
        run,
        state=State.DISPLACING,
        displace_attempts=0,
        displace_in_doubt=False,
    )


def _displacement_done(run: Run) -> Run:
    ids = () if run.target is None else (run.target,)
    if run.target_step == "save":
        run = replace(run, saved_by_us=union_of(run.saved_by_us, ids))
    else:
        run = replace(run, cancelled=union_of(run.cancelled, ids))
    return replace(
        run,
        displacements=run.displacements + 1,
        displace_in_doubt=False,
        takers=(),
    )


def displace_accepted(run: Run, event: Event) -> Run:
    """The teardown begins; the wait for the slot starts now."""
    run = _displacement_done(run)
    if run.releasing:
        return conclude(run)
    if run.target in ids_of(run.saved) and run.policy.launch:
        waiting = [i for i in run.running if i.instance_id not in run.displaced]
        run = replace(run, target=None)
        return replace(run, state=State.PROBING if waiting else State.LAUNCHING)
    return teardown(run, event, begins=True)


def displace_foreign(run: Run, event: DisplaceForeign) -> Run:
    """Another API consumer's instance: it can only be ended where it was launched."""
    run = replace(run, named=(run.target,) if run.target else (), error=event.error)
    return end(run, State.REFUSED, "foreign_instance")


def displace_refused(run: Run, event: DisplaceRefused) -> Run:
    """Look before believing it: the instance may have gone by itself."""
    run = replace(run, error=event.error, settle_looks=0)
    return replace(run, state=State.CONFIRMING_DISPLACE)


def displace_lost(run: Run, event: Lost) -> Run:
    """Whether the teardown began is unknown: look, don't cancel again blindly."""
    # A process that died asked for nothing that the platform could have refused.
    attempts = run.displace_attempts - (event.code == CRASHED)
    run = replace(run, displace_in_doubt=True, settle_looks=0, displace_attempts=attempts)
    return settle(run, event, State.CONFIRMING_DISPLACE)


def confirm_displace(run: Run, event: Inspected) -> Run:
    """Going or gone is success, however it came about; still alive means ask once more."""
    details = event.details[0]
    if details.foreign:
        return displace_foreign(run, DisplaceForeign(at=event.at, error=details.error))
    going = details.phase in (Phase.ENDING, Phase.SAVING, Phase.GONE) or not details.readable
    # A state never heard of, and a cancel refused: most likely a teardown by another name.
    if going or (details.phase is Phase.UNKNOWN and not run.displace_in_doubt):
        if run.displace_in_doubt:
            run = _displacement_done(run)
        else:
            run = replace(run, displacements=run.displacements + 1)
        if run.releasing:
            return conclude(run)
        return teardown(run, event, begins=True)
    why = protection(run, details, None)
    if why:
        return end(replace(run, named=(details.instance_id,)), State.REFUSED, why)
    run = replace(run, settle_looks=run.settle_looks + 1)
    if run.displace_in_doubt and run.settle_looks < DISPLACE_LOOKS:
        return settle(run, event, State.CONFIRMING_DISPLACE)
    if run.displace_attempts >= DISPLACE_ATTEMPTS:
        return end(run, State.FAILED, f"{run.target_step}_refused")
    return back_off(run, event, State.DISPLACING)


def _saved_blocks(run: Run) -> bool:
    """A saved instance that the policy leaves alone would refuse the launch after the cancel."""
    return bool(run.saved_same_profile) and run.policy.on_saved == "refuse"
