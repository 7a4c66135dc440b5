"""One relaunch being driven: everything the sync and the async driver share.

A session holds the run, turns what the ports bring back into events, steps the machine, decides how
long to wait (the injected schedules), and tells the observer *before* each call what is about to be
called. It makes no call and waits for nothing itself; the drivers do only that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenacity import wait_exponential_jitter

from orchestrator.errors import CallRefused, HeldBack, PlatformError
from orchestrator.labs import InstanceDetails
from orchestrator.logs import get_logger
from orchestrator.machine import vocabulary as v
from orchestrator.machine.answers import Answer, event_of, event_of_error
from orchestrator.machine.run import Run
from orchestrator.machine.table import step, take_over
from orchestrator.machine.vocabulary import Command, Event, State, WaitKind
from orchestrator.ports import Observer, Schedule
from orchestrator.progress import Outcome, Progress, outcome_of, progress_of
from orchestrator.waiting import (
    Knowledge,
    SequenceSchedule,
    SquareRootSchedule,
    Subject,
    TenacitySchedule,
    Waited,
)

_log = get_logger("orchestrator.relaunch")

#: Seconds that a call gets which settles, after the deadline, what a launch has left behind.
GRACE = 2.0
#: The last look of a teardown happens this many seconds before the deadline, not at it.
LAST_LOOK = 2.0
#: A platform that says "come back in 0 seconds" is not hammered all the same.
SHORTEST_WAIT = 0.25
#: What is usual is said only after so many teardowns of the lab profile.
ENOUGH = 3

#: Where the last survey of a teardown leads, once the lab is gone.
_MOVED_ON = (State.FREED, State.INSPECTING)

#: The platform's names of the calls, for the time line.
CALLS: dict[type[Command], str] = {
    v.Survey: "userrunningandsavedlabs",
    v.Inspect: "details",
    v.Count: "stats",
    v.Launch: "launch",
    v.Resume: "resume",
    v.FetchAccessUrl: "LabAccessUrl",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedules:
    """When to look next: during a teardown, after a failure, after an answer got lost.

    ``knowledge`` learns from every teardown, and has a schedule for each lab profile that makes
    room; ``teardown``, if given, replaces all those.
    """

    knowledge: Knowledge = field(default_factory=Knowledge)
    teardown: Schedule | None = None
    backoff: Schedule = field(
        default_factory=lambda: TenacitySchedule(wait_exponential_jitter(initial=1, max=30))
    )
    settle: Schedule = field(default_factory=lambda: SequenceSchedule((1, 2, 4, 8)))

    def of(self, kind: WaitKind, run: Run) -> Schedule:
        """The schedule for a kind of wait."""
        if kind is WaitKind.BACKOFF:
            return self.backoff
        if kind is WaitKind.SETTLE:
            return self.settle
        if self.teardown is not None:
            return self.teardown
        subject = subject_of(run)
        if subject is None:
            # How much of this teardown was over before anybody watched, nobody knows.
            return SquareRootSchedule(self.knowledge.cost_per_look)
        return self.knowledge.schedule(subject)


def subject_of(run: Run) -> Subject | None:
    """Whose teardown the run waits for, if it has begun that teardown itself."""
    if run.target is None or run.target not in run.displaced:
        return None
    return Subject(lab_profile_id=run.target_profile_id, kind=run.target_kind, step=run.target_step)


def usual_seconds(knowledge: Knowledge, run: Run) -> tuple[float, float] | None:
    """From when to when (10 % and 90 %) such teardowns usually end, while one is waited for."""
    subject = subject_of(run)
    if subject is None or run.state not in (State.TEARING_DOWN, State.LOOKING):
        return None
    return usual_of(knowledge, subject)


def usual_of(knowledge: Knowledge, subject: Subject) -> tuple[float, float] | None:
    """What is usual for a subject, in seconds; ``None`` until enough of them have been seen."""
    typical = knowledge.typical(subject)
    if typical is None or typical.observations < ENOUGH or typical.p90 == math.inf:
        return None
    return round(typical.p10, 1), round(typical.p90, 1)


class Inbox:
    """What reaches a relaunch from outside, from any thread: hints and the wish to abort."""

    def __init__(self) -> None:
        # A list, since thousands wait: an empty deque has room for 64.
        self.hints: list[int] = []
        self.abort_requested = False
        self._wake: Callable[[], None] | None = None

    def hint(self, instance_id: int) -> None:
        """Leave the hint that ``instance_id`` is torn down."""
        self.hints.append(instance_id)
        self._ring()

    def abort(self) -> None:
        """Leave the wish that the relaunch ends at its next step."""
        self.abort_requested = True
        self._ring()

    def connect(self, wake: Callable[[], None]) -> None:
        """Let ``wake`` be called whenever something arrives; at once if something has."""
        self._wake = wake
        if self.hints or self.abort_requested:
            wake()

    def _ring(self) -> None:
        if self._wake is not None:
            self._wake()


class Session:
    """See the module's docstring. Each method that steps returns the progress it led to."""

    def __init__(
        self,
        run: Run,
        schedules: Schedules,
        observer: Observer | None,
        *,
        sequence: int = 0,
        api_calls: int = 0,
        wake_at: float | None = None,
        keep_events: bool = True,
    ) -> None:
        self.run = run
        self.command: Command | None = None
        #: How many steps were told, and how many calls made, those before a takeover included.
        self.sequence = sequence
        self.api_calls = api_calls
        self.wake_at = wake_at or 0.0
        self._waits_on = wake_at is not None
        self.ended_at = run.created_at
        self.inbox = Inbox()
        #: The time line of this session; empty if somebody else keeps it.
        self.events: list[Progress] = []
        #: What was told last.
        self.last: Progress | None = None
        #: The name of the event that led to the present step.
        self.event = ""
        self._schedules = schedules
        self._observer = observer
        self._keep_events = keep_events
        self._hinted_at: float | None = None

    def begin(self, at: float) -> Progress | None:
        """Start a new run, or go on with a stored one.

        A stored wait whose ``wake_at`` is known goes on until then, and there is nothing to tell.
        """
        before = self.run
        self.event = "Started" if before.state is State.NEW else "TakenOver"
        self.run, self.command = take_over(before, at)
        if isinstance(self.command, v.Wait):
            if self.run is before and self._waits_on:
                return None
            self.wake_at = at + self._delay(self.command, at)
        return self._tell(at)

    def queue(self, ahead: int, at: float) -> Progress:
        """Stand in line behind ``ahead`` others."""
        return self._step(v.Queued(at=at, ahead=ahead), at)

    def calls(self, command: Command, platform: Any, steps: Any, at: float) -> list[Any]:
        """The port calls of a command, each ready to be made (and, if async, awaited)."""
        timeout = max(self.run.deadline_at - at, GRACE)
        match command:
            case v.Survey():
                return [lambda: platform.survey(command.user_id, timeout=timeout)]
            case v.Inspect():
                return [
                    lambda i=i: platform.inspect(i, timeout=timeout) for i in command.instance_ids
                ]
            case v.Count():
                return [lambda: platform.count_active(timeout=timeout)]
            case v.Launch():
                return [
                    lambda: platform.launch(
                        command.user_id,
                        command.lab_profile_id,
                        command.parameters,
                        timeout=timeout,
                    )
                ]
            case v.Resume():
                return [lambda: platform.resume(command.instance_id, timeout=timeout)]
            case v.Displace():
                make_room = steps[command.step]
                return [lambda: make_room(command.instance_id, note=command.note, timeout=timeout)]
            case v.FetchAccessUrl():
                return [lambda: platform.access_url(command.instance_id, timeout=timeout)]
            case v.Wait() | v.StandInLine():
                return []

    def refused(self, command: Command, position: int, error: CallRefused) -> InstanceDetails:
        """An instance that the platform won't describe is described as just that."""
        if not isinstance(command, v.Inspect):
            raise error
        instance_id = command.instance_ids[position]
        return InstanceDetails(
            instance_id=instance_id, readable=False, error=error.error or str(error)
        )

    def answered(self, command: Command, answers: list[Any], at: float) -> Progress:
        """Take what the calls of ``command`` returned."""
        answer: Answer = tuple(answers) if isinstance(command, v.Inspect) else answers[0]
        return self._step(event_of(self.run, command, answer, at), at)

    def errored(self, command: Command, error: PlatformError, at: float) -> Progress:
        """Take what a call of ``command`` raised."""
        if isinstance(error, HeldBack):
            self.api_calls -= 1
        return self._step(event_of_error(command, error, at), at)

    def waited(self, at: float) -> Progress | None:
        """Take what ended a wait; ``None`` if nothing did and it is to be taken up again."""
        if self.inbox.abort_requested:
            return self.aborted(at)
        if self.inbox.hints:
            self._hinted_at = at
            return self._step(v.Hinted(at=at, instance_id=self.inbox.hints.pop(0)), at)
        self._hinted_at = None
        if at < min(self.wake_at, self.run.deadline_at):
            return None
        return self._step(v.Woke(at=at), at)

    def aborted(self, at: float, *, in_flight: bool = False) -> Progress:
        """End the run now; ``in_flight`` if a call is on the wire and its answer not awaited."""
        calling = self._calling() if in_flight else None
        self.event = "AbortRequested"
        self.run, self.command = step(self.run, v.AbortRequested(at=at, in_flight=in_flight))
        return self._tell(at, calling=calling)

    def outcome(self) -> Outcome:
        """The outcome of the run, which must have ended."""
        return outcome_of(
            self.run, at=self.ended_at, api_calls=self.api_calls, events=tuple(self.events)
        )

    def _step(self, event: Event, at: float) -> Progress:
        before, previous = self.run, self.command
        self.event = type(event).__name__
        self.run, self.command = step(self.run, event)
        self._learn(before, event, at)
        if isinstance(self.command, v.Wait) and self.command != previous:
            self.wake_at = at + self._delay(self.command, at)
        return self._tell(at)

    def _delay(self, wait: v.Wait, at: float) -> float:
        if wait.not_before is not None:
            delay = wait.not_before - at
        else:
            schedule = self._schedules.of(wait.kind, self.run)
            delay = schedule.next_delay(at - wait.since, wait.attempt)
        latest = wait.until - at
        if wait.kind is WaitKind.TEARDOWN and latest > 2 * LAST_LOOK:
            latest -= LAST_LOOK
        return min(max(delay, SHORTEST_WAIT), max(latest, 0.0))

    def _learn(self, before: Run, event: Event, at: float) -> None:
        """Tell the schedule between which two looks the slot became free, if it did.

        Where nothing is launched, it became free when neither details nor list had the lab.
        """
        since, subject, target = before.teardown_since, subject_of(before), before.target
        if since is None or subject is None or target is None or before.launch_in_doubt:
            return
        low = max(0.0, (before.last_busy_at or since) - since)
        freed = before.state is State.SURVEYING and self.run.state in _MOVED_ON
        if freed or (before.state is State.LAUNCHING and isinstance(event, v.LaunchAccepted)):
            announced = self._hinted_at is not None or target in self.inbox.hints
            waited = Waited(low=low, high=at - since, looks=before.looks)
            if announced:
                moment = (at if self._hinted_at is None else self._hinted_at) - since
                waited = Waited(low=moment, high=moment, looks=max(0, before.looks - 1))
            else:
                self._schedules.knowledge.found(target, subject, since + low, at)
        elif self.run.state is State.TIMED_OUT:
            waited = Waited(low=low, high=math.inf, looks=before.looks)
        else:
            return
        self._schedules.knowledge.record(subject, waited)
        if self._schedules.teardown is not None:
            self._schedules.teardown.observe(waited.low, waited.high)

    def _calling(self) -> str | None:
        if self.command is None or isinstance(self.command, v.Wait | v.StandInLine):
            return None
        if isinstance(self.command, v.Displace):
            return self.command.step
        return CALLS[type(self.command)]

    def _tell(self, at: float, *, calling: str | None = None) -> Progress:
        self.ended_at = at
        self.sequence += 1
        waiting = isinstance(self.command, v.Wait)
        progress = progress_of(
            self.run,
            sequence=self.sequence,
            at=at,
            calling=calling or self._calling(),
            next_look_at=self.wake_at if waiting else None,
            usual_seconds=usual_seconds(self._schedules.knowledge, self.run),
        )
        self.last = progress
        if self._keep_events:
            self.events.append(progress)
        _log.info(
            "relaunch_progress",
            relaunch_id=self.run.relaunch_id,
            user_id=self.run.user_id,
            lab_profile_id=self.run.lab_profile_id,
            lab_instance_id=progress.lab_instance_id,
            phase=progress.phase,
            attempt=progress.attempt,
            calling=progress.calling,
            elapsed_seconds=progress.elapsed_seconds,
            reason=self.run.reason,
        )
        if self._observer is not None:
            self._observer(progress)
        return progress
