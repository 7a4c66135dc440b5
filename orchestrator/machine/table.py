"""The state machine at a glance: one table, and ``step``. Start reading here.

Left: the state a run is in. Under it: the events that may come, what decides
(:mod:`orchestrator.machine.decisions`), and every state that decision may lead to. A pair that has
no row is illegal: ``step`` raises and changes nothing. Terminal states are empty rows. The command
that a state gives its driver follows from the run alone (:func:`command_of`), so a stored run says
by itself what is to be done next. No clock, socket, logger or random number is in here: time is the
``at`` of the event. The README's diagram is made from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import IllegalTransition
from orchestrator.machine import vocabulary as v
from orchestrator.machine.candidates import to_inspect
from orchestrator.machine.decisions import (
    ending,
    launching,
    making_room,
    new_lab,
    surveying,
    waiting,
)
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import Command, Event, State


@dataclass(frozen=True, slots=True)
class Row:
    """What an event does in a state: ``decide`` leads to one of ``to``."""

    decide: Callable[[Run, Any], Run]
    to: tuple[State, ...]


def _row(decide: Callable[[Run, Any], Run], *to: State) -> Row:
    return Row(decide, to)


S = State
# May happen in every state that is not terminal; a run may also time out in each (see ``step``).
_ABORT = {v.AbortRequested: _row(ending.abort, S.ABORTED)}
_CALL = _ABORT | {v.KeyRefused: _row(ending.key_refused, S.FAILED)}
# A question may be asked again whether its answer or the question itself got lost.
_ASK = _CALL | {
    v.Unsent: _row(waiting.unsent, S.BACKING_OFF, S.FAILED),
    v.Lost: _row(waiting.unsent, S.BACKING_OFF, S.FAILED),
}
# A call with an effect is repeated only if it provably had none.
_ACT = _CALL | {v.Unsent: _row(waiting.unsent, S.BACKING_OFF, S.FAILED)}
# While the old lab of an overlap is sent after the new one, any failure ends with the new lab.
_ROOM = {
    v.KeyRefused: _row(ending.key_refused, S.FAILED, S.LAUNCHED),
    v.Unsent: _row(waiting.unsent, S.BACKING_OFF, S.FAILED, S.LAUNCHED),
}
_ROOM_ASK = _ASK | _ROOM | {v.Lost: _row(waiting.unsent, S.BACKING_OFF, S.FAILED, S.LAUNCHED)}
_LAUNCH = _ACT | {
    v.Lost: _row(launching.launch_lost, S.BACKING_OFF),
    v.LaunchAccepted: _row(launching.launch_accepted, S.VERIFYING, S.ENTERING, S.REUSED),
    v.LaunchRefused: _row(launching.launch_refused, S.FAILED),
    v.LaunchErred: _row(launching.launch_erred, S.BACKING_OFF),
}
_VERIFY_FAILED = _row(new_lab.verify_failed, S.BACKING_OFF, S.LAUNCHED, S.REUSED, S.ENTERING)
_WHO_HOLDS_IT = (S.LAUNCHING, S.VERIFYING, S.INSPECTING, S.TEARING_DOWN, S.REFUSED, S.FAILED)

TABLE: Mapping[State, Mapping[type[Event], Row]] = {
    S.NEW: _ABORT | {
        v.Started: _row(surveying.start, S.SURVEYING),
        v.Queued: _row(surveying.queue, S.NEW),
    },
    S.SURVEYING: _ASK | {
        v.Surveyed: _row(
            surveying.survey, S.PROBING, S.LAUNCHING, S.INSPECTING, S.REFUSED, S.TEARING_DOWN,
            S.FREED,
        ),
        v.Declined: _row(
            surveying.survey_declined, S.BACKING_OFF, S.LAUNCHING, S.INSPECTING, S.TEARING_DOWN,
            S.FREED, S.FAILED,
        ),
    },
    S.PROBING: _LAUNCH | {
        v.UserLimitReached: _row(
            launching.probe_blocked, S.INSPECTING, S.RESURVEYING, S.REFUSED, S.CHOOSE
        ),
        v.LaunchHandedBack: _row(launching.probe_handed_back, S.INSPECTING, S.REFUSED),
        v.CapacityExhausted: _row(
            launching.probe_capacity, S.COUNTING, S.INSPECTING, S.BACKING_OFF, S.REFUSED
        ),
        v.SavedInstanceExists: _row(
            launching.saved_exists, S.PROBING, S.DISPLACING, S.BACKING_OFF, S.REFUSED
        ),
    },
    S.COUNTING: _CALL | {
        v.Counted: _row(making_room.count, S.INSPECTING, S.BACKING_OFF, S.REFUSED),
        v.Declined: _row(making_room.count_declined, S.BACKING_OFF),
        v.Unsent: _row(making_room.count_declined, S.BACKING_OFF),
        v.Lost: _row(making_room.count_declined, S.BACKING_OFF),
    },
    S.INSPECTING: _ROOM_ASK | {
        v.Inspected: _row(
            making_room.inspect, S.DISPLACING, S.TEARING_DOWN, S.LAUNCHING, S.SURVEYING,
            S.ENTERING, S.LAUNCHED, S.REFUSED, S.TIMED_OUT, S.BACKING_OFF,
        ),
    },
    S.DISPLACING: _ACT | _ROOM | {
        v.DisplaceAccepted: _row(
            making_room.displace_accepted, S.TEARING_DOWN, S.PROBING, S.LAUNCHING, S.ENTERING,
            S.LAUNCHED,
        ),
        v.DisplaceForeign: _row(making_room.displace_foreign, S.REFUSED, S.LAUNCHED),
        v.DisplaceRefused: _row(making_room.displace_refused, S.CONFIRMING_DISPLACE),
        v.Lost: _row(making_room.displace_lost, S.BACKING_OFF),
    },
    S.CONFIRMING_DISPLACE: _ROOM_ASK | {
        v.Inspected: _row(
            making_room.confirm_displace, S.TEARING_DOWN, S.BACKING_OFF, S.REFUSED, S.FAILED,
            S.ENTERING, S.LAUNCHED,
        ),
    },
    S.TEARING_DOWN: _ABORT | {
        v.Woke: _row(
            waiting.wake_in_teardown, S.LOOKING, S.LAUNCHING, S.SURVEYING, S.RESURVEYING,
            S.INSPECTING,
        ),
        v.Hinted: _row(
            waiting.hint_in_teardown, S.LAUNCHING, S.TEARING_DOWN, S.LOOKING, S.SURVEYING,
            S.INSPECTING,
        ),
    },
    S.LOOKING: _ASK | {
        v.Inspected: _row(
            waiting.look_at_details, S.TEARING_DOWN, S.LAUNCHING, S.SURVEYING, S.BACKING_OFF
        ),
        v.Surveyed: _row(waiting.look_at_listing, S.TEARING_DOWN, S.LAUNCHING),
        v.Declined: _row(waiting.look_declined, S.LAUNCHING),
    },
    S.LAUNCHING: _LAUNCH | {
        v.UserLimitReached: _row(launching.launch_blocked, S.TEARING_DOWN, S.RESURVEYING, S.CHOOSE),
        v.LaunchHandedBack: _row(
            launching.launch_handed_back, S.TEARING_DOWN, S.RESURVEYING, S.INSPECTING, S.REFUSED,
            S.FAILED,
        ),
        v.CapacityExhausted: _row(launching.launch_capacity, S.TEARING_DOWN, S.BACKING_OFF),
        v.SavedInstanceExists: _row(
            launching.saved_exists, S.LAUNCHING, S.DISPLACING, S.BACKING_OFF, S.REFUSED
        ),
    },
    S.RESURVEYING: _ASK | {
        v.Surveyed: _row(surveying.resurvey, *_WHO_HOLDS_IT),
        v.Declined: _row(surveying.resurvey_declined, S.LAUNCHING, S.TEARING_DOWN),
    },
    S.CONFIRMING_LAUNCH: _ASK | {
        v.Surveyed: _row(
            launching.confirm_launch, S.VERIFYING, S.ENTERING, S.BACKING_OFF, S.PROBING,
            S.LAUNCHING, S.FAILED,
        ),
        v.Declined: _row(
            launching.confirm_launch_declined, S.BACKING_OFF, S.PROBING, S.LAUNCHING, S.FAILED
        ),
    },
    S.VERIFYING: _ABORT | {
        v.Inspected: _row(
            new_lab.verify, S.LAUNCHED, S.REUSED, S.ENTERING, S.INSPECTING, S.TEARING_DOWN,
            S.BACKING_OFF, S.REFUSED, S.FAILED,
        ),
        v.KeyRefused: _VERIFY_FAILED,
        v.Unsent: _VERIFY_FAILED,
        v.Lost: _VERIFY_FAILED,
    },
    S.ENTERING: _ABORT | {
        v.KeyRefused: _row(ending.key_refused, S.FAILED, S.LAUNCHED),
        v.AccessGranted: _row(new_lab.access_granted, S.LAUNCHED, S.REUSED),
        v.Declined: _row(new_lab.access_declined, S.BACKING_OFF, S.LAUNCHED, S.FAILED),
        v.Unsent: _row(new_lab.access_declined, S.BACKING_OFF, S.LAUNCHED, S.FAILED),
        v.Lost: _row(new_lab.access_declined, S.BACKING_OFF, S.LAUNCHED, S.FAILED),
    },
    S.BACKING_OFF: _ABORT | {
        v.Woke: _row(
            waiting.wake, S.SURVEYING, S.PROBING, S.INSPECTING, S.DISPLACING, S.CONFIRMING_DISPLACE,
            S.LOOKING, S.LAUNCHING, S.RESURVEYING, S.CONFIRMING_LAUNCH, S.VERIFYING, S.ENTERING,
        ),
        v.Hinted: _row(waiting.stay, S.BACKING_OFF),
    },
    S.LAUNCHED: {},
    S.REUSED: {},
    S.FREED: {},
    S.CHOOSE: {},
    S.REFUSED: {},
    S.FAILED: {},
    S.TIMED_OUT: {},
    S.ABORTED: {},
}  # fmt: skip

#: States that only a passed deadline adds to a row's targets; see ``decisions.overdue``.
AFTER_DEADLINE = (S.CONFIRMING_LAUNCH, S.ENTERING, S.LAUNCHED, S.REUSED, S.FAILED, S.TIMED_OUT)

_NO_ANSWER = (v.Started, v.Queued, v.Unsent, v.Lost, v.Woke, v.Hinted, v.AbortRequested)


def step(run: Run, event: Event) -> tuple[Run, Command | None]:
    """Take one event; return the next run and the command that its state gives.

    Raises :class:`~orchestrator.errors.IllegalTransition` for a pair that has no row, and
    ``ValueError`` for an event that contradicts the run; ``run`` itself never changes. The command
    is ``None`` once the run has ended.
    """
    row = TABLE[run.state].get(type(event))
    if row is None:
        raise IllegalTransition(
            f"{type(event).__name__} cannot happen to relaunch {run.relaunch_id} while it is "
            f"{run.state}; nothing was changed. A driver must only bring back what was asked for."
        )
    if not isinstance(event, _NO_ANSWER):
        run = replace(run, answers=run.answers + 1, failures=0, held_back=0)
    after = row.decide(run, event)
    if after.state not in row.to:
        raise IllegalTransition(f"{run.state} with {type(event).__name__} led to {after.state}")
    if event.at >= run.deadline_at:
        after = ending.overdue(after)
    if after.state not in (S.BACKING_OFF, S.COUNTING) and not isinstance(event, v.Woke):
        after = replace(after, backoffs=0)
    if after.state in (S.PROBING, S.LAUNCHING):
        if not run.policy.launch:
            raise IllegalTransition(f"relaunch {run.relaunch_id} is to launch nothing")
        after = replace(after, launches=after.launches + 1)
    if after.state is S.DISPLACING:
        after = replace(after, displace_attempts=after.displace_attempts + 1)
    return after, command_of(after)


def take_over(run: Run, at: float) -> tuple[Run, Command | None]:
    """Go on with a stored run, perhaps in another process.

    A call with an effect that was due when the run was stored counts as lost, so it is looked up
    before anything is repeated; a question is asked again, and a wait simply taken up again.
    """
    if run.state is S.NEW:
        return step(run, v.Started(at=at))
    if run.effect_pending:
        return step(run, v.Lost(at=at, code=v.CRASHED))
    return run, command_of(run)


def command_of(run: Run) -> Command | None:
    """What the run's state asks its driver to do; ``None`` if the run has ended (or not begun)."""
    match run.state:
        case S.NEW if run.ahead is not None:
            return v.StandInLine()
        case S.SURVEYING | S.RESURVEYING | S.CONFIRMING_LAUNCH:
            return v.Survey(user_id=run.user_id)
        case S.PROBING | S.LAUNCHING:
            if run.resume_instance_id is not None:
                return v.Resume(instance_id=run.resume_instance_id)
            return v.Launch(
                user_id=run.user_id,
                lab_profile_id=run.lab_profile_id,
                parameters=run.wanted_parameters(),
            )
        case S.COUNTING:
            return v.Count()
        case S.INSPECTING:
            return v.Inspect(instance_ids=to_inspect(run))
        case S.DISPLACING:
            return v.Displace(instance_id=_target(run), step=run.target_step, note=run.note)
        case S.CONFIRMING_DISPLACE:
            return v.Inspect(instance_ids=(_target(run),))
        case S.LOOKING:
            if run.policy.detect == "listing":
                return v.Survey(user_id=run.user_id)
            return v.Inspect(instance_ids=(_target(run),))
        case S.VERIFYING:
            return v.Inspect(instance_ids=run.adoptable or (_new(run),))
        case S.ENTERING:
            return v.FetchAccessUrl(instance_id=_new(run))
        case S.TEARING_DOWN | S.BACKING_OFF:
            return v.Wait(
                kind=run.wait_kind,
                attempt=run.wait_attempt,
                since=run.wait_since,
                not_before=run.not_before,
                until=run.deadline_at,
            )
        case _:
            return None


def _target(run: Run) -> int:
    if run.target is None:
        raise ValueError(f"a run that is {run.state} must have a target")
    return run.target


def _new(run: Run) -> int:
    if run.new_instance_id is None:
        raise ValueError(f"a run that is {run.state} must have an instance")
    return run.new_instance_id
