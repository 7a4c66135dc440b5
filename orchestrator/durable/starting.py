"""A request becomes a relaunch: its own, or the one that is in flight for the learner already.

A hundred requests for one learner and lab are one relaunch: the first makes it, the others join.
Which one was first, the database decides. A request for another lab meanwhile is a conflict: it is
refused, or it supersedes a relaunch that has changed nothing yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.durable.store import Entry, RunStore, Step, StoredRun
from orchestrator.errors import InvalidRequest, RelaunchInFlight
from orchestrator.machine import vocabulary as v
from orchestrator.machine.run import Run
from orchestrator.machine.table import step
from orchestrator.progress import progress_of
from orchestrator.requests import OnConflict, Priority

#: How often a relaunch that is to be superseded may move on while it is being looked at.
ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of a request: ``stored`` is its relaunch; ``joined`` if that was there before.

    ``superseded`` is the last step of the relaunch that was to make way for it, if there was one;
    if that has ended by itself just then, this is not how it ended.
    """

    stored: StoredRun
    joined: bool
    superseded: Step | None = None


async def start(
    store: RunStore,
    run: Run,
    *,
    at: float,
    key: str | None = None,
    priority: Priority = Priority.BUTTON,
    on_conflict: OnConflict = "refuse",
    owner: str | None = None,
) -> Started:
    """Store ``run``, or join the relaunch that is there.

    ``key`` is the request's idempotency key: with the same one, a finished relaunch is joined too.
    A new one is ``owner``'s from its beginning.
    Raises :class:`~orchestrator.errors.RelaunchInFlight` for another lab, and ``InvalidRequest``
    if the key, or the relaunch id, was used for another request.
    """
    replacing: Step | None = None
    for _ in range(ATTEMPTS):
        stored, created = await store.create(
            run, at=at, key=key, priority=priority, replacing=replacing, owner=owner
        )
        if created:
            return Started(stored=stored, joined=False, superseded=replacing)
        other = stored.run
        same = _asks_for(other) == _asks_for(run)
        if not same and other.relaunch_id == run.relaunch_id:
            raise InvalidRequest("relaunch_id", f"{run.relaunch_id!r} is another relaunch's.")
        if not same and key is not None and stored.key == key:
            raise InvalidRequest("idempotency_key", "was used for another request; take a new one.")
        if same:
            return Started(stored=stored, joined=True)
        if on_conflict == "refuse" or not _is_harmless(other):
            break
        replacing = _superseded(stored, at)
    raise _conflict(run, stored.run)


def _asks_for(run: Run) -> tuple[str, int, bool]:
    """Who wants a lab gone for good is not served by one that comes back, nor the other way."""
    return run.user_id, run.lab_profile_id, run.policy.launch


def _is_harmless(run: Run) -> bool:
    """Nothing was cancelled yet, nothing launched, and no such call is on the wire."""
    return not (run.has_acted or run.effect_pending or run.new_instance_id is not None)


def _superseded(stored: StoredRun, at: float) -> Step:
    at = max(at, stored.updated_at)  # the holder may have moved on since, or its clock be ahead
    run, _ = step(stored.run, v.AbortRequested(at=at, reason="superseded"))
    progress = progress_of(run, sequence=stored.version + 1, at=at, calling=None, next_look_at=None)
    return Step(
        run=run,
        entry=Entry(event="AbortRequested", progress=progress),
        epoch=stored.epoch,
        due_at=at,
        api_calls=stored.api_calls,
        hints_seen=stored.hints_seen,
    )


def _named(run: Run) -> str:
    if run.policy.launch:
        return f"a relaunch of lab {run.lab_profile_id}"
    return f"the ending of lab {run.lab_profile_id}, with no launch after it,"


def _conflict(run: Run, other: Run) -> RelaunchInFlight:
    harmless = _is_harmless(other)
    remedy = (
        "It has changed nothing yet, so this request may supersede it"
        if harmless
        else "Wait for its end"
    )
    return RelaunchInFlight(
        f"User {run.user_id} has {_named(other)} in flight ({other.relaunch_id}), so {_named(run)} "
        f"was not begun; nothing was changed. {remedy}, or abort it first.",
        relaunch_id=other.relaunch_id,
        lab_profile_id=other.lab_profile_id,
        harmless=harmless,
    )
