"""What each row of the table does: pure functions from a run and an event to the next run.

Each returns a run whose ``state`` is one of the row's declared targets; the command follows from
the state alone (:func:`orchestrator.machine.table.command_of`). Nothing here reads a clock, draws a
random number or calls anybody. The promises are kept here, in this order: never two labs, never a
lab displaced for nothing or without leave, nothing lost, soon, with few calls.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.labs import InstanceDetails, Labs, Phase, RunningInstance, SavedInstance
from orchestrator.machine import results
from orchestrator.machine.candidates import (
    Choice,
    Verdict,
    choose,
    listed_protection,
    protection,
)
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import (
    AbortRequested,
    AccessGranted,
    CapacityExhausted,
    Counted,
    Declined,
    DisplaceForeign,
    DisplaceRefused,
    Event,
    Hinted,
    Inspected,
    KeyRefused,
    LaunchAccepted,
    LaunchErred,
    LaunchHandedBack,
    LaunchRefused,
    Lost,
    SavedInstanceExists,
    State,
    Surveyed,
    Unsent,
    UserLimitReached,
    WaitKind,
    Woke,
)

#: In the last tenth of its time a run that has changed nothing displaces nothing any more: the
#: teardown would outlast it, and the lab would be lost for nothing.
TOO_LATE_TO_DISPLACE = 0.1
#: Looks for a launch whose answer was lost, before it counts as never made: late effects take
#: seconds (vendor page), the settle schedule spreads these looks over half a minute.
SETTLE_LOOKS = 5
#: Looks at an instance whose cancel got lost before it is cancelled once more.
DISPLACE_LOOKS = 2
#: How often one instance is asked to go, and how often a launch may answer "error".
DISPLACE_ATTEMPTS = 3
LAUNCH_ERRORS = 3
#: Calls in a row without an answer after which a run that has changed nothing gives up.
FAILURES_BEFORE_HARM = 4
#: How often an access URL is asked for before the lab is reported without one.
ACCESS_ATTEMPTS = 5
#: While details say "busy", every so many looks are a launch all the same: they may lag behind.
LOOKS_PER_LAUNCH = 4
#: A tagless instance that is older than the run by more than this (s) was not launched by it.
OLDER_THAN_RUN = 60.0


# --- looking at what there is ----------------------------------------------------------------


def start(run: Run, event: Event) -> Run:
    """Begin by listing what the user has: whatever is listed now can never be the new lab."""
    return replace(run, state=State.SURVEYING)


def survey(run: Run, event: Surveyed) -> Run:
    """Refuse at once what can be seen to be refused; else try the launch before any harm."""
    run = _listed(run, event.labs)
    policy, same = run.policy, run.same_profile
    if same and policy.if_running == "refuse":
        return _end(replace(run, named=_ids(same)), State.REFUSED, "already_running")
    if same and policy.if_running == "reuse":
        return replace(run, state=State.INSPECTING, reusing=True)
    why = listed_protection(run, same)
    if why:
        return _end(replace(run, named=_ids(same)), State.REFUSED, why)
    if same and policy.displace == "save" and policy.on_saved == "refuse":
        # Saving this very lab would make its launch answer "a saved instance exists".
        return _end(replace(run, named=_ids(same)), State.REFUSED, "save_blocks_launch")
    named = policy.displace_instance_id
    if named is not None and named not in _ids(run.running):
        return _end(replace(run, named=(named,)), State.REFUSED, "named_instance_not_running")
    if named is not None and same and named not in _ids(same):
        return _end(replace(run, named=_ids(same)), State.REFUSED, "already_running")
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
        return _back_off(run, event, State.SURVEYING)
    run = replace(run, listing_trusted=False, error=event.error)
    return replace(run, state=State.LAUNCHING)


def make_room(run: Run) -> Run:
    """Look closely at the candidates before one of them is displaced."""
    if _saved_blocks(run):
        return _end(run, State.REFUSED, "saved_instance_exists")
    return replace(run, state=State.INSPECTING)


def resurvey(run: Run, event: Surveyed) -> Run:
    """Who holds the slot: a lab of ours, somebody who took it, or still the teardown?"""
    fresh = _fresh(run, event.labs)
    run = _listed(run, event.labs, learn=False)
    ours = tuple(i for i in fresh if i.lab_profile_id == run.lab_profile_id)
    if run.launch_in_doubt and ours:
        return _adopt(run, _ids(ours))
    if fresh:
        return _displace_taker(run, _ids(fresh))
    others = [i for i in run.running if i.instance_id not in (run.target, *run.displaced)]
    if run.displacements == 0 and others and run.target not in _ids(run.running):
        # Nothing has made room yet, and what seemed to end by itself is gone: choose again.
        return make_room(replace(run, target=None, target_gone=False))
    if run.target is None:
        return replace(run, state=State.LAUNCHING)
    return _teardown(run, event)


def resurvey_declined(run: Run, event: Declined) -> Run:
    """Without a list, the launch stays the only look."""
    if run.target is None:
        return replace(run, state=State.LAUNCHING)
    return _teardown(run, event)


# --- making room -----------------------------------------------------------------------------


def count(run: Run, event: Counted) -> Run:
    """A consumer limit taken up by this learner's own labs alone clears only by ending one."""
    if 1 <= event.num_active <= len(run.running):
        return make_room(run)
    return _back_off(run, event, State.PROBING)


def count_declined(run: Run, event: Event) -> Run:
    """Not knowing whose labs fill the limit, harm nothing and wait."""
    return _back_off(run, event, State.PROBING)


def inspect(run: Run, event: Inspected) -> Run:
    """Displace the right one, wait for one that is ending already, or refuse."""
    if run.reusing and not run.displaced:
        return _reuse(run, event)
    choice = choose(run, event.details) if event.details else Choice(Verdict.GONE, ())
    too_late = event.at > run.deadline_at - TOO_LATE_TO_DISPLACE * run.policy.deadline_seconds
    if run.releasing and choice.verdict is not Verdict.DISPLACE:
        return _conclude(run)
    if choice.verdict is Verdict.DISPLACE:
        if too_late and not run.has_acted and not run.releasing:
            return _end(run, State.TIMED_OUT, run.blocked_by or "deadline")
        run = replace(run, target_step=run.policy.displace)
        return _displace(run, choice.instance_ids[0])
    if choice.verdict is Verdict.ENDING:
        run = replace(run, target=choice.instance_ids[0], target_gone=False)
        return _teardown(run, event, begins=True)
    if choice.verdict is Verdict.GONE:
        target = choice.instance_ids[0] if choice.instance_ids else None
        return replace(run, state=State.LAUNCHING, target=target, target_gone=True)
    return _end(replace(run, named=choice.instance_ids), State.REFUSED, choice.reason)


def _reuse(run: Run, event: Inspected) -> Run:
    same = set(_ids(run.same_profile))
    here = [d for d in event.details if d.instance_id in same]
    alive = [d for d in here if d.phase not in (Phase.ENDING, Phase.SAVING, Phase.GONE)]
    usable = [d for d in alive if not d.foreign and d.user_id in (None, run.user_id)]
    if usable:
        return replace(run, state=State.ENTERING, new_instance_id=usable[0].instance_id)
    if alive:
        ids = tuple(d.instance_id for d in alive)
        return _end(replace(run, named=ids), State.REFUSED, "not_the_users")
    run = replace(run, reusing=False, target=here[0].instance_id if here else None)
    return _teardown(run, event, begins=True)


def displace_accepted(run: Run, event: Event) -> Run:
    """The teardown begins; the wait for the slot starts now."""
    run = _displacement_done(run)
    if run.releasing:
        return _conclude(run)
    if run.target in _ids(run.saved):
        waiting = [i for i in run.running if i.instance_id not in run.displaced]
        run = replace(run, target=None)
        return replace(run, state=State.PROBING if waiting else State.LAUNCHING)
    return _teardown(run, event, begins=True)


def displace_foreign(run: Run, event: DisplaceForeign) -> Run:
    """Another API consumer's instance: it can only be ended where it was launched."""
    run = replace(run, named=(run.target,) if run.target else (), error=event.error)
    return _end(run, State.REFUSED, "foreign_instance")


def displace_refused(run: Run, event: DisplaceRefused) -> Run:
    """Look before believing it: the instance may have gone by itself."""
    run = replace(run, error=event.error, settle_looks=0)
    return replace(run, state=State.CONFIRMING_DISPLACE)


def displace_lost(run: Run, event: Lost) -> Run:
    """Whether the teardown began is unknown: look, don't cancel again blindly."""
    run = replace(run, displace_in_doubt=True, settle_looks=0)
    return _settle(run, event, State.CONFIRMING_DISPLACE)


def confirm_displace(run: Run, event: Inspected) -> Run:
    """Going or gone is success, however it came about; still alive means ask once more."""
    details = event.details[0]
    if details.foreign:
        return displace_foreign(run, DisplaceForeign(at=event.at, error=details.error))
    if details.phase in (Phase.ENDING, Phase.SAVING, Phase.GONE) or not details.readable:
        if run.displace_in_doubt:
            run = _displacement_done(run)
        else:
            run = replace(run, displacements=run.displacements + 1)
        if run.releasing:
            return _conclude(run)
        return _teardown(run, event, begins=True)
    if protection(run, details, None):
        run = replace(run, named=(details.instance_id,))
        return _end(run, State.REFUSED, protection(run, details, None))
    run = replace(run, settle_looks=run.settle_looks + 1)
    if run.displace_in_doubt and run.settle_looks < DISPLACE_LOOKS:
        return _settle(run, event, State.CONFIRMING_DISPLACE)
    if run.displace_attempts >= DISPLACE_ATTEMPTS:
        return _end(run, State.FAILED, f"{run.target_step}_refused")
    return _back_off(run, event, State.DISPLACING)


# --- waiting through the teardown ---------------------------------------------------------------


def wake_in_teardown(run: Run, event: Woke) -> Run:
    """The wait is over: look, in the way the policy names."""
    run = replace(run, looks=run.looks + 1)
    if run.target is None:
        return replace(run, state=State.RESURVEYING)
    if run.target_gone or run.policy.detect == "launch" or run.looks % LOOKS_PER_LAUNCH == 0:
        return replace(run, state=State.LAUNCHING)
    return replace(run, state=State.LOOKING)


def hint_in_teardown(run: Run, event: Hinted) -> Run:
    """A hint about an instance of ours ends the wait at once; the launch checks it."""
    if event.instance_id not in (run.target, *run.known, *run.displaced):
        return run
    return replace(run, state=State.LAUNCHING, looks=run.looks + 1)


def look_at_details(run: Run, event: Inspected) -> Run:
    """Gone, unreadable or unheard of: only a launch can tell. Anything else: wait on."""
    details = event.details[0]
    if details.readable and details.phase not in (Phase.GONE, Phase.UNKNOWN):
        return _teardown(replace(run, last_busy_at=event.at), event)
    gone = details.phase is Phase.GONE or not details.readable
    return replace(run, state=State.LAUNCHING, target_gone=gone)


def look_at_listing(run: Run, event: Surveyed) -> Run:
    """The list may drop an instance early or late; what it drops is checked by a launch."""
    saving = {i.instance_id for i in event.labs.saved if i.save_in_progress}
    run = _listed(run, event.labs, learn=False)
    if run.target in saving or run.target in _ids(event.labs.running):
        return _teardown(replace(run, last_busy_at=event.at), event)
    return replace(run, state=State.LAUNCHING, target_gone=True)


def look_declined(run: Run, event: Declined) -> Run:
    """A look that tells nothing is replaced by the launch."""
    return replace(run, state=State.LAUNCHING)


# --- launching ----------------------------------------------------------------------------------


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
        return _conclude(replace(run, reusing=True))
    return replace(run, state=State.VERIFYING)


def probe_blocked(run: Run, event: UserLimitReached) -> Run:
    """The user limit, in either dress: now, and only now, a lab has to make room."""
    if _ends_at_page(run, event):
        return _end(replace(run, page_url=event.url), State.CHOOSE, "active_labs_page")
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
    if event.result == results.WRONG_STATE and run.same_profile:
        return make_room(run)
    if event.result in results.OWN_LAB_MAY_COUNT:
        return replace(run, state=State.COUNTING)
    return _back_off(run, event, State.PROBING)


def launch_blocked(run: Run, event: UserLimitReached) -> Run:
    """The slot is not free yet, whatever was said; ask who holds it if the target seems gone."""
    if _ends_at_page(run, event):
        return _end(replace(run, page_url=event.url), State.CHOOSE, "active_labs_page")
    return _still_busy(run, event)


def launch_handed_back(run: Run, event: LaunchHandedBack) -> Run:
    """An instance known before, perhaps the dying one: not a new lab, so the slot isn't free."""
    return _still_busy(run, event)


def _still_busy(run: Run, event: Event) -> Run:
    blocked_by = "slot_not_free" if run.target is None else "teardown_not_finished"
    run = replace(run, last_busy_at=event.at, blocked_by=blocked_by)
    if run.target is not None and (run.target_gone or run.launch_in_doubt):
        return replace(run, state=State.RESURVEYING)
    return _teardown(run, event)


def launch_capacity(run: Run, event: CapacityExhausted) -> Run:
    """While the teardown lasts it may be our own slot; afterwards it is somebody else's."""
    run = replace(run, blocked_by=results.reason(event.result))
    tearing_down = run.target is not None and not run.target_gone
    if tearing_down and event.result in results.TEARDOWN_MAY_CAUSE:
        return _teardown(replace(run, last_busy_at=event.at), event)
    return _back_off(run, event, State.LAUNCHING)


def saved_exists(run: Run, event: SavedInstanceExists) -> Run:
    """A saved lab is somebody's work: leave it alone unless the policy says otherwise."""
    saved = run.saved_same_profile
    if run.policy.on_saved == "refuse" or not saved or run.resume_instance_id is not None:
        return _end(replace(run, named=_ids(saved)), State.REFUSED, "saved_instance_exists")
    if run.policy.on_saved == "resume":
        return replace(run, resume_instance_id=saved[0].instance_id)
    left = [i for i in saved if i.instance_id not in run.displaced]
    if not left:
        # Its deletion has begun and takes its time, like every teardown.
        return _back_off(replace(run, blocked_by="teardown_not_finished"), event, run.state)
    why = protection(run, InstanceDetails(instance_id=left[0].instance_id), left[0])
    if why:
        return _end(replace(run, named=(left[0].instance_id,)), State.REFUSED, why)
    return _displace(replace(run, target_step="cancel"), left[0].instance_id)


def launch_refused(run: Run, event: LaunchRefused) -> Run:
    """Refused for good: nothing (more) is touched."""
    run = replace(run, error=event.error, result=event.result)
    return _end(run, State.FAILED, results.reason(event.result))


def launch_erred(run: Run, event: LaunchErred) -> Run:
    """An error is no proof that nothing happened: look, then try a bounded number of times."""
    run = replace(run, launch_errors=run.launch_errors + 1, error=event.error)
    if run.launch_errors >= LAUNCH_ERRORS:
        return _end(run, State.FAILED, "launch_error")
    run = replace(run, launch_in_doubt=True, settle_looks=SETTLE_LOOKS - 1)
    return _back_off(run, event, State.CONFIRMING_LAUNCH)


def launch_lost(run: Run, event: Lost) -> Run:
    """The lab may exist, or come into being seconds from now: look before anything else."""
    run = replace(run, launch_in_doubt=True, settle_looks=0)
    return _settle(run, event, State.CONFIRMING_LAUNCH)


def confirm_launch(run: Run, event: Surveyed) -> Run:
    """Adopt what the lost launch made; if nothing shows up for long enough, launch again."""
    fresh = [i for i in _fresh(run, event.labs) if i.lab_profile_id == run.lab_profile_id]
    resumed = [i for i in event.labs.running if i.instance_id == run.resume_instance_id]
    run = _listed(run, event.labs, learn=False)
    if resumed:
        run = replace(run, new_instance_id=resumed[0].instance_id, reusing=True)
        return replace(run, state=State.ENTERING)
    if fresh:
        return _adopt(run, _ids(tuple(fresh)))
    return confirm_launch_declined(run, event)


def confirm_launch_declined(run: Run, event: Event) -> Run:
    """Nothing found this time."""
    run = replace(run, settle_looks=run.settle_looks + 1)
    if run.settle_looks < SETTLE_LOOKS:
        return _settle(run, event, State.CONFIRMING_LAUNCH)
    probing = run.running and not run.displaced and run.target is None
    return replace(run, state=State.PROBING if probing else State.LAUNCHING)


# --- the new lab --------------------------------------------------------------------------------


def verify(run: Run, event: Inspected) -> Run:
    """Is it new, and ours? Only a tag of somebody else's shows that it isn't."""
    details = next((d for d in event.details if run.is_ours(d.tag)), event.details[0])
    run = replace(run, new_instance_id=details.instance_id, adoptable=())
    if details.user_id is not None and details.user_id != run.user_id:
        run = replace(run, named=(details.instance_id,))
        return _end(_forget_new(run), State.FAILED, "not_the_users")
    if run.is_ours(details.tag) and details.phase not in (Phase.ENDING, Phase.GONE):
        return _accept(replace(run, new_is_ours=True, launch_in_doubt=False))
    if details.readable and details.phase in (Phase.ENDING, Phase.SAVING, Phase.GONE):
        # A dying instance that the list no longer showed was handed back: it is no new lab.
        run = replace(run, target=details.instance_id, target_gone=False)
        return _teardown(_forget_new(run), event, begins=True)
    if details.tag:
        return _somebody_elses(run, details)
    started = details.started_at or run.created_at
    if details.readable and started < run.created_at - OLDER_THAN_RUN:
        return _somebody_elses(run, details)
    if not run.listing_trusted:
        return _accept(replace(run, reusing=True, launch_in_doubt=False))
    return _accept(replace(run, new_is_ours=True, launch_in_doubt=False))


def verify_failed(run: Run, event: Event) -> Run:
    """One more try; after that the platform's acceptance of our launch has to do."""
    if run.failures == 0 and event.at < run.deadline_at:
        return _back_off(replace(run, failures=1), event, State.VERIFYING)
    ids = run.adoptable or (run.new_instance_id or 0,)
    unknown = tuple(InstanceDetails(instance_id=i, readable=False) for i in ids)
    return verify(run, Inspected(at=event.at, details=unknown))


def _somebody_elses(run: Run, details: InstanceDetails) -> Run:
    relaunched = any(word.startswith("relaunch=") for word in (details.tag or "").split())
    if relaunched or run.policy.if_running == "reuse":
        # Another relaunch of the same learner and lab: one lab for both, not a war of cancels.
        return _accept(replace(run, reusing=True))
    run = replace(run, named=(details.instance_id,))
    if run.policy.if_running == "refuse":
        return _end(_forget_new(run), State.REFUSED, "slot_taken")
    why = protection(run, details, None)
    if why:
        return _end(_forget_new(run), State.REFUSED, why)
    taken = RunningInstance(
        instance_id=details.instance_id,
        lab_profile_id=run.lab_profile_id,
        started_at=details.started_at,
        is_exam=bool(details.is_exam),
    )
    run = _forget_new(replace(run, running=(*run.running, taken)))
    return _displace_taker(run, (details.instance_id,))


def _displace_taker(run: Run, ids: tuple[int, ...]) -> Run:
    """Somebody took the slot: displace them too, but only so often."""
    run = replace(run, takers=ids, known=_union(run.known, ids))
    if run.displacements > run.policy.max_recancels:
        return _end(replace(run, named=ids), State.FAILED, "slot_taken")
    return make_room(replace(run, target=None, target_gone=False, displace_attempts=0))


def _adopt(run: Run, ids: tuple[int, ...]) -> Run:
    """New instances of the wanted profile turned up after a lost answer: see which is ours."""
    return replace(run, state=State.VERIFYING, new_instance_id=ids[0], adoptable=ids)


def _accept(run: Run) -> Run:
    """The lab is there. Leftovers of an overlap go now; then its URL, if it didn't come along."""
    replaced = run.policy.if_running == "replace" and _left(run, run.same_profile)
    leftovers = replaced or (run.policy.overlap and _left(run, run.running))
    if leftovers and run.new_is_ours and not run.displaced and run.target is None:
        return replace(run, state=State.INSPECTING, releasing=True)
    return _conclude(run)


def access_granted(run: Run, event: AccessGranted) -> Run:
    """The way into the lab."""
    return _conclude(replace(run, new_url=event.url))


def access_declined(run: Run, event: Event) -> Run:
    """A lab that is still being built may not be enterable yet; it exists all the same."""
    run = replace(run, access_attempts=run.access_attempts + 1)
    if run.access_attempts < ACCESS_ATTEMPTS and event.at < run.deadline_at:
        return _back_off(run, event, State.ENTERING)
    if run.reusing:
        return _end(run, State.FAILED, "access_url_unavailable")
    return _end(run, State.LAUNCHED, "access_url_unavailable")


def _conclude(run: Run) -> Run:
    if run.new_url is None:
        return replace(run, state=State.ENTERING)
    if run.resume_instance_id is not None and run.resume_instance_id == run.new_instance_id:
        return _end(run, State.REUSED, "resumed_saved")
    if run.reusing:
        known = run.new_instance_id in run.known
        return _end(run, State.REUSED, "already_running" if known else "launched_by_another")
    return _end(run, State.LAUNCHED, None)


# --- what can happen to any call ------------------------------------------------------------------


def unsent(run: Run, event: Unsent | Lost) -> Run:
    """No effect, so the same call may be made again: later, and not for ever before any harm."""
    run = replace(run, failures=run.failures + 1, blocked_by=event.code)
    if run.releasing and run.failures > 1:
        return _end(run, State.FAILED, event.code)
    hopeless = run.failures >= FAILURES_BEFORE_HARM and event.code != "rate_limited"
    if hopeless and not run.has_acted and run.new_instance_id is None:
        return _end(run, State.FAILED, event.code)
    return _back_off(run, event, run.state)


def key_refused(run: Run, event: KeyRefused) -> Run:
    """Final at once; what a call in flight may have done stays said."""
    return _end(replace(run, error=event.error), State.FAILED, "key_rejected")


def wake(run: Run, event: Woke) -> Run:
    """Take up what was put off."""
    if run.resume_state is None:
        raise ValueError("a run that backs off must know where to go on")
    return replace(run, state=run.resume_state, resume_state=None)


def stay(run: Run, event: Hinted) -> Run:
    """A hint changes nothing while the run waits for something else."""
    return run


def abort(run: Run, event: AbortRequested) -> Run:
    """End now; a call on the wire leaves its effect in doubt, and the report says so."""
    if event.in_flight and run.state in (State.PROBING, State.LAUNCHING):
        run = replace(run, launch_in_doubt=True)
    if event.in_flight and run.state is State.DISPLACING:
        run = replace(run, displace_in_doubt=True)
    return _end(run, State.ABORTED, "aborted")


def overdue(run: Run) -> Run:
    """The deadline has passed: end, but settle first what a launch may have left behind.

    A lab that is there is still handed over, and one look is owed to a launch whose answer was
    lost; neither waits for anything.
    """
    if run.state.is_terminal:
        return run
    put_off = run.resume_state if run.state is State.BACKING_OFF else run.state
    if run.releasing or (put_off in (State.VERIFYING, State.ENTERING) and run.new_url):
        return _conclude(run)
    if run.state in (State.VERIFYING, State.ENTERING):
        return run
    if put_off in (State.VERIFYING, State.ENTERING):
        return _end(run, State.LAUNCHED, "access_url_unavailable")
    if run.launch_in_doubt and not run.last_look:
        return replace(run, state=State.CONFIRMING_LAUNCH, resume_state=None, last_look=True)
    if run.answers == 0 and run.blocked_by != "rate_limited":
        return _end(run, State.FAILED, run.blocked_by or "platform_unreachable")
    return _end(run, State.TIMED_OUT, run.blocked_by or "deadline")


# --- shared steps ---------------------------------------------------------------------------------


def _end(run: Run, state: State, reason: str | None) -> Run:
    if run.releasing and state in (State.REFUSED, State.FAILED, State.TIMED_OUT):
        # The new lab is there all the same; only the old one could not be made to go.
        state, reason = State.LAUNCHED, "old_instance_left"
    return replace(run, state=state, reason=reason, resume_state=None)


def _listed(run: Run, labs: Labs, *, learn: bool = True) -> Run:
    known = _union(run.known, _ids(labs.running) + _ids(labs.saved)) if learn else run.known
    return replace(run, running=labs.running, saved=labs.saved, known=known)


def _left(run: Run, instances: tuple[RunningInstance, ...]) -> bool:
    old = set(run.known) - {run.new_instance_id}
    return any(i.instance_id in old for i in instances)


def _fresh(run: Run, labs: Labs) -> tuple[RunningInstance, ...]:
    old = (*run.known, *run.displaced, run.target)
    return tuple(i for i in labs.running if i.instance_id not in old)


def _ids(instances: tuple[RunningInstance | SavedInstance, ...]) -> tuple[int, ...]:
    return tuple(i.instance_id for i in instances)


def _union(known: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(known + more))


def _saved_blocks(run: Run) -> bool:
    """A saved instance that the policy leaves alone would refuse the launch after the cancel."""
    return bool(run.saved_same_profile) and run.policy.on_saved == "refuse"


def _ends_at_page(run: Run, event: UserLimitReached) -> bool:
    return event.url is not None and run.policy.on_active_labs_page == "choose"


def _forget_new(run: Run) -> Run:
    known = run.known
    if run.new_instance_id is not None:
        known = _union(known, (run.new_instance_id,))
    return replace(run, known=known, new_instance_id=None, new_url=None, new_expires_at=None)


def _displace(run: Run, target: int) -> Run:
    return replace(
        run,
        state=State.DISPLACING,
        target=target,
        target_gone=False,
        displace_attempts=0,
        displace_in_doubt=False,
    )


def _displacement_done(run: Run) -> Run:
    ids = () if run.target is None else (run.target,)
    if run.target_step == "save":
        run = replace(run, saved_by_us=_union(run.saved_by_us, ids))
    else:
        run = replace(run, cancelled=_union(run.cancelled, ids))
    return replace(
        run,
        displacements=run.displacements + 1,
        displace_in_doubt=False,
        takers=(),
    )


def _teardown(run: Run, event: Event, *, begins: bool = False) -> Run:
    """Wait for the slot; a wait that begins starts its schedule afresh."""
    since = run.teardown_since
    if begins or since is None:
        since = event.at
        blocked_by = run.blocked_by if run.target is None else "teardown_not_finished"
        run = replace(run, teardown_since=since, looks=0, target_gone=False, blocked_by=blocked_by)
        run = replace(run, last_busy_at=None)
    return _wait(run, State.TEARING_DOWN, WaitKind.TEARDOWN, run.looks + 1, since, None)


def _back_off(run: Run, event: Event, then: State) -> Run:
    run = replace(run, resume_state=then, backoffs=run.backoffs + 1)
    return _wait(run, State.BACKING_OFF, WaitKind.BACKOFF, run.backoffs, event.at, event)


def _settle(run: Run, event: Event, then: State) -> Run:
    run = replace(run, resume_state=then)
    attempt = run.settle_looks + 1
    return _wait(run, State.BACKING_OFF, WaitKind.SETTLE, attempt, event.at, event)


def _wait(
    run: Run, state: State, kind: WaitKind, attempt: int, since: float, told_by: Event | None
) -> Run:
    retry_after = told_by.retry_after if isinstance(told_by, Unsent | Lost) else None
    return replace(
        run,
        state=state,
        wait_kind=kind,
        wait_attempt=attempt,
        wait_since=since,
        not_before=None if retry_after is None or told_by is None else told_by.at + retry_after,
    )
