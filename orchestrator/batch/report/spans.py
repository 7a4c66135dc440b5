"""What an item's marks say: for how long it was in which phase, and how long its teardown took.

The machine has fifteen states; an instructor has five phases. Rules:

* From its first step towards ending a lab until the last look at it, a relaunch is in the teardown,
  whatever it tries meanwhile; only a wait for the platform shows as that.
* A teardown is timed from the first ``tearing_down`` until the last of it was left. It is over if
  the item ended well or a launch was accepted after it; otherwise it took *at least* so long.
  One that was looked at late, since the platform was out of order meanwhile, tells nothing.
* What is under way keeps no marks: it is shown from when it was begun, open-ended.
* Marks are of several machines' clocks: whatever lies before what came before it is moved up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.durable.batches import Mark, StoredItem
from orchestrator.machine.vocabulary import TERMINAL, State


class Phase(StrEnum):
    """What an instructor tells apart on a time line."""

    QUEUE = "queue"
    LOOK = "look"
    TEARDOWN = "teardown"
    LAUNCH = "launch"
    HELD = "held"
    UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` to ``end`` (``None``: not over yet) an item was in ``phase``."""

    phase: Phase
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Teardown:
    """How long a teardown took; ``over`` is false if nobody saw its end."""

    seconds: float
    over: bool


#: The share of a teardown that may be spent waiting for the platform before it tells nothing.
_HELD_UP = 0.2

S = State
_LOOK = frozenset({S.SURVEYING, S.PROBING, S.COUNTING, S.INSPECTING})
_ENDING = frozenset({S.DISPLACING, S.CONFIRMING_DISPLACE, S.TEARING_DOWN, S.LOOKING})
_TEARDOWN = frozenset({S.TEARING_DOWN.value, S.LOOKING.value})
#: Only an accepted launch proves that the slot is free.
_ACCEPTED = frozenset({S.VERIFYING.value, S.ENTERING.value})
_TERMINAL = frozenset(state.value for state in TERMINAL)

_PHASE: dict[str, Phase] = {
    S.NEW.value: Phase.QUEUE,
    S.BACKING_OFF.value: Phase.HELD,
    **{state.value: Phase.LOOK for state in _LOOK},
    **{state.value: Phase.TEARDOWN for state in _ENDING},
}


def spans_of(stored: StoredItem, *, since: float) -> tuple[Span, ...]:
    """The time line of an item, from ``since`` (when the batch was asked for) on."""
    if stored.begun_at is None:
        return (Span(Phase.QUEUE, since, None),)
    begun = max(since, stored.begun_at)
    queued = [Span(Phase.QUEUE, since, begun)] if begun > since else []
    if stored.result is None:
        return (*queued, Span(Phase.UNDER_WAY, begun, None))
    ended = max(begun, stored.ended_at or begun)
    return _merged([*queued, *_marked(stored.result.marks, begun, ended)])


def teardown_of(stored: StoredItem) -> Teardown | None:
    """How long the old lab's teardown took; ``None`` if there was none, or it is under way."""
    if stored.result is None:
        return None
    marks = stored.result.marks
    first = next((n for n, mark in enumerate(marks) if mark.phase in _TEARDOWN), None)
    if first is None:
        return None
    last = max(n for n, mark in enumerate(marks) if mark.phase in _TEARDOWN)
    later = marks[last + 1 :]
    end = later[0].at if later else stored.ended_at or marks[last].at
    held = sum(
        after.at - mark.at
        for mark, after in itertools.pairwise(marks[first : last + 2])
        if mark.phase == State.BACKING_OFF
    )
    if held > _HELD_UP * (end - marks[first].at):
        return None
    over = stored.result.ok or any(mark.phase in _ACCEPTED for mark in later)
    return Teardown(max(0.0, end - marks[first].at), over)


def _marked(marks: Sequence[Mark], begun: float, ended: float) -> list[Span]:
    ending = [n for n, mark in enumerate(marks) if _PHASE.get(mark.phase) is Phase.TEARDOWN]
    spans: list[Span] = []
    at = begun
    for n, mark in enumerate(marks):
        if mark.phase in _TERMINAL:
            break
        phase = _PHASE.get(mark.phase, Phase.LAUNCH)
        if ending and ending[0] < n < ending[-1] and phase is not Phase.HELD:
            phase = Phase.TEARDOWN
        start = min(max(at, mark.at), ended)
        if not spans and start > begun:
            spans.append(Span(Phase.QUEUE, begun, start))
        until = marks[n + 1].at if n + 1 < len(marks) else ended
        at = min(max(start, until), ended)
        spans.append(Span(phase, start, at))
    return spans or [Span(Phase.LOOK, begun, ended)]


def _merged(spans: list[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].phase is span.phase:
            merged[-1] = Span(span.phase, merged[-1].start, span.end)
        elif span.end is None or span.end > span.start:
            merged.append(span)
    return tuple(merged)
