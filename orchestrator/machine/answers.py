"""Answers into events: what a port returned or raised, read in the light of the run.

The only place where a Result code becomes an event, so drivers of every kind, and embedders'
platforms, judge alike. Success is decided by ``Result`` *and* a real instance id that the run did
not know before: an answer with a URL alone is the user limit in another dress (the platform can be
set up to answer with a page on which the learner manages active labs; documented).
"""

from __future__ import annotations

from orchestrator.errors import AnswerLost, CallRefused, KeyRejected, NotSent, PlatformError
from orchestrator.labs import DisplaceAnswer, Displaced, InstanceDetails, Labs, LaunchAnswer
from orchestrator.machine import vocabulary as v
from orchestrator.machine.results import RESULTS, Disposition, disposition
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import Command, Event

#: What a port may return, by command: Labs, details, a number, a launch or displace answer, a URL.
Answer = Labs | tuple[InstanceDetails, ...] | int | LaunchAnswer | DisplaceAnswer | str


def event_of(run: Run, command: Command, answer: Answer, at: float) -> Event:
    """The event that ``answer`` is for ``run``, which had given ``command``."""
    if isinstance(answer, Labs):
        return v.Surveyed(at=at, labs=answer)
    if isinstance(answer, tuple):
        return v.Inspected(at=at, details=answer)
    if isinstance(answer, LaunchAnswer):
        return _launch_event(run, command, answer, at)
    if isinstance(answer, DisplaceAnswer):
        return _displace_event(answer, at)
    if isinstance(answer, str):
        return v.AccessGranted(at=at, url=answer)
    return v.Counted(at=at, num_active=answer)


def event_of_error(command: Command, error: PlatformError, at: float) -> Event:
    """The event that a raised error is for whoever gave ``command``."""
    if isinstance(error, KeyRejected):
        return v.KeyRefused(at=at, error=str(error))
    if isinstance(error, NotSent):
        return v.Unsent(at=at, code=error.code, retry_after=error.retry_after)
    if isinstance(error, CallRefused):
        word = error.error or str(error)
        if isinstance(command, v.Launch | v.Resume):
            return v.LaunchRefused(at=at, result=None, error=word)
        if isinstance(command, v.Displace):
            return v.DisplaceRefused(at=at, error=word)
        return v.Declined(at=at, error=word)
    code = error.code if isinstance(error, AnswerLost) else AnswerLost.code
    return v.Lost(at=at, code=code, retry_after=error.retry_after)


def _launch_event(run: Run, command: Command, answer: LaunchAnswer, at: float) -> Event:
    sort = disposition(answer.result)
    instance_id = answer.instance_id
    if isinstance(command, v.Resume):
        # The answer to a resume does not repeat the id (documented): it is the one asked for.
        instance_id = command.instance_id if sort is Disposition.ACCEPTED else None
    if sort is Disposition.ACCEPTED and instance_id is not None:
        if instance_id in (*run.known, *run.displaced) and not isinstance(command, v.Resume):
            return v.LaunchHandedBack(at=at, instance_id=instance_id)
        return v.LaunchAccepted(
            at=at,
            instance_id=instance_id,
            url=answer.url,
            expires_at=answer.expires_at,
            estimated_ready_seconds=answer.estimated_ready_seconds,
        )
    if sort is Disposition.ERROR and instance_id is not None and instance_id not in run.known:
        # No success, yet it names an instance: only a look can tell what that is.
        return v.Lost(at=at, code="answer_unreadable")
    if sort is Disposition.FINAL and (answer.result in RESULTS or not answer.url):
        return v.LaunchRefused(at=at, result=answer.result, error=answer.error)
    if answer.url or sort is Disposition.USER_LIMIT:
        return v.UserLimitReached(at=at, result=answer.result, url=answer.url)
    if sort is Disposition.CAPACITY:
        return v.CapacityExhausted(at=at, result=answer.result or 0)
    if sort is Disposition.SAVED_INSTANCE:
        return v.SavedInstanceExists(at=at, result=answer.result or 0)
    if sort is Disposition.ACCEPTED:
        # "Success" with neither an instance nor a URL: nothing is known about its effect.
        return v.Lost(at=at, code="answer_unreadable")
    return v.LaunchErred(at=at, error=answer.error)


def _displace_event(answer: DisplaceAnswer, at: float) -> Event:
    if answer.displaced is Displaced.ACCEPTED:
        return v.DisplaceAccepted(at=at)
    if answer.displaced is Displaced.FOREIGN:
        return v.DisplaceForeign(at=at, error=answer.error)
    return v.DisplaceRefused(at=at, error=answer.error)
