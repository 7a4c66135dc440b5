"""What the journal of a relaunch that has ended tells of its times. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from orchestrator.durable.store import Entry
from orchestrator.machine import vocabulary as v
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import State

_ACCEPTED = v.LaunchAccepted.__name__
_HINTED = v.Hinted.__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Times in seconds.

    ``phases``: each stay in a phase. ``teardown``: from its beginning to the launch that was
    accepted after it (``None``: there was no teardown, or no such launch). ``saved``: by which
    hints have shortened waits; one that came too early, so that the launch after it was refused,
    has saved nothing.
    """

    phases: tuple[tuple[str, float], ...]
    teardown: float | None
    saved: float


def measured(run: Run, entries: Sequence[Entry]) -> Measured:
    """What ``entries``, the whole journal of ``run``, tell."""
    return Measured(
        phases=tuple(_phases(run, entries)), teardown=_teardown(entries), saved=_saved(entries)
    )


def _phases(run: Run, entries: Sequence[Entry]) -> Iterator[tuple[str, float]]:
    steps = [(State.NEW.value, run.created_at)]
    steps += [(entry.progress.phase, entry.progress.at) for entry in entries]
    begun = [next(stay) for _, stay in groupby(steps, key=lambda step: step[0])]
    for (phase, since), (_, until) in pairwise(begun):
        yield phase, max(0.0, until - since)


def _teardown(entries: Sequence[Entry]) -> float | None:
    began: float | None = None
    ended: float | None = None
    for entry in entries:
        if entry.progress.phase == State.TEARING_DOWN:
            began = entry.progress.at if began is None else began
            ended = None  # what was accepted before was a lab that was torn down itself
        elif entry.event == _ACCEPTED and began is not None:
            ended = entry.progress.at
    return None if began is None or ended is None else max(0.0, ended - began)


def _saved(entries: Sequence[Entry]) -> float:
    saved = perhaps = 0.0
    for before, entry in pairwise(entries):
        look_at = before.progress.next_look_at
        waited = before.progress.phase == State.TEARING_DOWN and look_at is not None
        if entry.event == _HINTED and waited and look_at is not None:
            perhaps = max(0.0, look_at - entry.progress.at)
        elif entry.event == _ACCEPTED:
            saved, perhaps = saved + perhaps, 0.0
        elif entry.progress.phase == State.TEARING_DOWN:
            perhaps = 0.0
    return saved
