"""Batches as they would have been kept, made up: what the tests of the report look at."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.durable.batches import (
    Batch,
    BatchState,
    Item,
    ItemResult,
    Mark,
    StoredItem,
)
from orchestrator.machine.run import Policy

#: Sunday, 1 November 2026, 18:00 UTC.
BEGUN = 1_793_556_000.0

#: (outcome, reason, what is said, whether a lab was ended for it)
TROUBLE: tuple[tuple[str, str | None, str, bool], ...] = (
    ("refused", "protected_exam", "the lab instance in the way is an exam.", False),
    ("timed_out", "teardown_not_finished", "the old lab is still being torn down.", True),
    ("failed", "launch_limit_reached", "the learner has used up the launches.", False),
    ("failed", "launch_error", "see https://labs.example/enter?ticket=1.", True),
)


def marks(*phases: tuple[str, float]) -> tuple[Mark, ...]:
    """Marks, each so many seconds after the one before."""
    at, made = BEGUN, []
    for phase, seconds in phases:
        at += seconds
        made.append(Mark(phase=phase, at=at))
    return tuple(made)


def stored(
    number: int = 1,
    outcome: str = "launched",
    *,
    user_id: str | None = None,
    lab: int = 1001,
    reason: str | None = None,
    message: str = "",
    begun_at: float = BEGUN,
    seconds: float = 60.0,
    attempt: int = 1,
    **result: Any,
) -> StoredItem:
    """An item that has ended."""
    return StoredItem(
        item=Item(number=number, user_id=user_id or f"learner-{number:04}", lab_profile_id=lab),
        attempt=attempt,
        relaunch_id=f"relaunch-{number}",
        begun_at=begun_at,
        ended_at=begun_at + seconds,
        result=ItemResult(outcome=outcome, reason=reason, message=message, **result),
    )


def batch(total: int, state: BatchState = BatchState.ENDED, **options: Any) -> Batch:
    """A batch of so many items."""
    return Batch(
        batch_id=options.pop("batch_id", "networking-thu"),
        fingerprint="f",
        total=total,
        created_at=BEGUN,
        started_at=BEGUN,
        state=state,
        **options,
    )


def freeing(total: int) -> Batch:
    """One that only frees the learners' slots."""
    return batch(total, policy=Policy(launch=False), selection="--all --older-than 2h")


def class_of(
    total: int,
    *,
    concurrency: int = 20,
    trouble: float = 0.06,
    labs: tuple[int, ...] = (1001,),
    until: float | None = None,
    seed: int = 7,
    pause: tuple[float, float] | None = None,
    frees: bool = False,
) -> Iterator[StoredItem]:
    """A class that is reset: so many at a time, some in trouble, perhaps not over ``until`` then.

    ``pause``: after so many seconds nothing is begun for so many.
    """
    chance = random.Random(seed)
    free = [BEGUN] * concurrency
    for number in range(1, total + 1):
        begun = heapq.heappop(free) + chance.uniform(0.1, 0.6)
        if pause is not None and BEGUN + pause[0] < begun < BEGUN + sum(pause):
            begun = BEGUN + sum(pause) + chance.uniform(0.1, 5)
        made = _made(number, begun, chance, trouble, labs, frees)
        assert made.ended_at is not None
        heapq.heappush(free, made.ended_at)
        if until is not None and begun > BEGUN + until:
            yield StoredItem(item=made.item)
        elif until is not None and made.ended_at > BEGUN + until:
            yield StoredItem(
                item=made.item, attempt=1, relaunch_id=made.relaunch_id, begun_at=begun
            )
        else:
            yield made


def _made(
    number: int,
    begun: float,
    chance: random.Random,
    trouble: float,
    labs: tuple[int, ...],
    frees: bool,
) -> StoredItem:
    lab = chance.choice(labs)
    at, seen = begun, [Mark(phase="new", at=begun)]

    def enter(phase: str, shortest: float, longest: float) -> None:
        nonlocal at
        seen.append(Mark(phase=phase, at=at))
        at += chance.uniform(shortest, longest)

    enter("surveying", 0.1, 0.4)
    enter("inspecting" if frees else "probing", 0.2, 1.5)
    outcome, reason, said, ends = (
        "freed" if frees else "launched",
        None,
        "Lab instance 1 was launched.",
        True,
    )
    if chance.random() < trouble:
        outcome, reason, said, ends = chance.choice(TROUBLE)
    if ends:
        enter("displacing", 0.1, 0.5)
        if chance.random() < 0.05:
            enter("backing_off", 10, 40)
            enter("displacing", 0.1, 0.5)
        teardown = chance.gammavariate(9, 8 + 4 * labs.index(lab))
        for _ in range(3):
            enter("tearing_down", teardown / 3, teardown / 3)
            enter("looking", 0.1, 0.3)
        if reason == "teardown_not_finished":
            enter("tearing_down", 200, 300)
        elif not frees:
            enter("launching", 0.5, 3)
            enter("verifying", 0.1, 0.4)
    return StoredItem(
        item=Item(number=number, user_id=f"learner-{number:04}", lab_profile_id=lab),
        attempt=2 if number % 29 == 0 else 1,
        relaunch_id=f"{number:032x}",
        begun_at=begun,
        ended_at=at,
        result=ItemResult(
            outcome=outcome,
            reason=reason,
            message=said,
            lab_instance_id=998_000_000 + number if outcome == "launched" else None,
            cancelled_instance_ids=(997_000_000 + number,) if ends else (),
            waited_seconds=round(at - begun, 3),
            api_calls=len(seen),
            marks=tuple(seen),
        ),
    )


#: Makes the items of a batch anew each time.
Made = Callable[[], Iterator[StoredItem]]
