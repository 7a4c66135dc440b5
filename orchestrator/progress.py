"""What a relaunch tells while it runs (:class:`Progress`) and when it ends (:class:`Outcome`).

Both are plain values; :func:`orchestrator.plain.to_plain` makes JSON of them. ``phase``,
``outcome`` and ``reason`` are stable machine-readable codes, ``message`` is for people and may
change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.errors import RelaunchNotLaunched
from orchestrator.machine.run import Run
from orchestrator.machine.table import step
from orchestrator.machine.vocabulary import AbortRequested, State
from orchestrator.sentences import (
    final_sentence,
    launch_in_doubt,
    left_sentence,
    progress_sentence,
    tearing_down,
    untouched,
)

#: Where a run waits for something.
_WAITING = (State.NEW, State.TEARING_DOWN, State.BACKING_OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a relaunch, told before the call that it announces is made.

    ``sequence`` counts from 1; ``at`` and ``next_look_at`` are Unix epoch seconds,
    ``elapsed_seconds`` is the time since the relaunch began; ``phase`` is the machine's state;
    ``attempt`` how many launches were tried; ``calling`` the call that is about to be made or, in
    the last progress of an interrupted run, was on the wire; ``lab_instance_id`` the instance that
    the step is about. ``blocked_by``: while it waits, the stable code of what for, where that is
    known (the machine's reasons, and those of :mod:`orchestrator.machine.results`).
    ``usual_seconds``: during a teardown, from when to when such teardowns usually end (10 % and
    90 % of those before, in seconds since it began), once that is known.
    """

    sequence: int
    at: float
    elapsed_seconds: float
    phase: str
    attempt: int
    message: str
    calling: str | None = None
    next_look_at: float | None = None
    usual_seconds: tuple[float, float] | None = None
    lab_instance_id: int | None = None
    blocked_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a relaunch leaves behind, as far as it knows.

    ``tearing_down`` and ``untouched`` are lab instance ids; ``cancel_in_doubt`` names an instance
    whose cancel (or save) got no answer; ``launch_in_doubt_tag`` is the tag that a launch without
    an answer would carry.
    """

    tearing_down: tuple[int, ...] = ()
    untouched: tuple[int, ...] = ()
    cancel_in_doubt: int | None = None
    launch_in_doubt_tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a relaunch ended.

    ``outcome`` is ``launched``, ``reused``, ``freed``, ``choose``, ``refused``, ``failed``,
    ``timed_out`` or ``aborted``; ``reason`` a stable code or ``None``. ``url`` enters the lab (or,
    for ``choose``, the platform's page of active labs); single use, so hand it on, don't open it.
    ``interrupted`` is the outcome of one who stopped following a relaunch that has not ended.
    ``waited_seconds`` is the whole time from beginning to end, ``api_calls`` what it took.
    """

    outcome: str
    reason: str | None
    message: str
    relaunch_id: str
    user_id: str
    lab_profile_id: int
    lab_instance_id: int | None
    url: str | None = field(repr=False)
    expires_at: float | None
    ready_in_seconds: float | None
    cancelled_instance_ids: tuple[int, ...]
    saved_instance_ids: tuple[int, ...]
    waited_seconds: float
    api_calls: int
    attempts: int
    left: Left
    events: tuple[Progress, ...] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the learner has a lab, launched or reused, or a free slot where that was all."""
        return self.outcome in (State.LAUNCHED, State.REUSED, State.FREED)

    def raise_for_outcome(self) -> Outcome:
        """Return self if it is ``ok``; else raise ``RelaunchNotLaunched`` with the reason."""
        if not self.ok:
            raise RelaunchNotLaunched(self.outcome, self.reason, self.message)
        return self


def progress_of(
    run: Run,
    *,
    sequence: int,
    at: float,
    calling: str | None,
    next_look_at: float | None,
    usual_seconds: tuple[float, float] | None = None,
) -> Progress:
    """The progress that ``run`` stands for at time ``at``."""
    new = run.state.is_terminal or run.state in (State.VERIFYING, State.ENTERING)
    return Progress(
        sequence=sequence,
        at=at,
        elapsed_seconds=round(max(0.0, at - run.created_at), 3),
        phase=run.state.value,
        attempt=run.launches,
        message=progress_sentence(run, usual_seconds),
        calling=calling,
        next_look_at=next_look_at,
        usual_seconds=usual_seconds,
        lab_instance_id=run.new_instance_id if new else run.target,
        blocked_by=run.blocked_by if run.state in _WAITING else None,
    )


def outcome_of(run: Run, *, at: float, api_calls: int, events: tuple[Progress, ...]) -> Outcome:
    """The outcome of a run that has ended at time ``at``."""
    if not run.state.is_terminal:
        raise ValueError(f"relaunch {run.relaunch_id} has not ended: it is {run.state}")
    return _outcome(
        run,
        run.state.value,
        run.reason,
        final_sentence(run),
        url=run.page_url if run.state is State.CHOOSE else run.new_url,
        at=at,
        api_calls=api_calls,
        events=events,
    )


def interrupted_of(
    run: Run,
    *,
    at: float,
    api_calls: int,
    events: tuple[Progress, ...],
    goes_on: bool,
    remedy: str,
) -> Outcome:
    """What is told of a durable run that has not ended by one who stops following it.

    ``goes_on``: somebody else drives it. If nobody does, a call with an effect that it is at may
    have been on the wire, and its effect is in doubt; the run is kept, and ``remedy`` is the
    sentence that says what to do about it.
    """
    in_flight = run.effect_pending and not goes_on
    left, _ = step(run, AbortRequested(at=at, in_flight=in_flight))
    kept = "goes on by itself" if goes_on else "is kept as it stands"
    head = (
        f"Interrupted for user {run.user_id}, lab {run.lab_profile_id}: "
        f"relaunch {run.relaunch_id} {kept}."
    )
    return _outcome(
        left,
        "interrupted",
        "joined" if goes_on else "kept",
        " ".join(part for part in (head, left_sentence(left), remedy) if part),
        url=None,
        at=at,
        api_calls=api_calls,
        events=events,
    )


def _outcome(
    run: Run,
    outcome: str,
    reason: str | None,
    message: str,
    *,
    url: str | None,
    at: float,
    api_calls: int,
    events: tuple[Progress, ...],
) -> Outcome:
    return Outcome(
        outcome=outcome,
        reason=reason,
        message=message,
        relaunch_id=run.relaunch_id,
        user_id=run.user_id,
        lab_profile_id=run.lab_profile_id,
        lab_instance_id=run.new_instance_id,
        url=url,
        expires_at=run.new_expires_at,
        ready_in_seconds=run.ready_in_seconds,
        cancelled_instance_ids=run.cancelled,
        saved_instance_ids=run.saved_by_us,
        waited_seconds=round(max(0.0, at - run.created_at), 3),
        api_calls=api_calls,
        attempts=run.launches,
        left=Left(
            tearing_down=tearing_down(run),
            untouched=untouched(run),
            cancel_in_doubt=run.target if run.displace_in_doubt else None,
            launch_in_doubt_tag=run.tag if launch_in_doubt(run) else None,
        ),
        events=events,
    )
