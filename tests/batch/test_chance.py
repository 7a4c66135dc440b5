"""Batches on a platform that does everything wrong, carried out by processes that die; by seed.

What holds whatever happens: nobody has two labs at once or is relaunched twice, no exam is touched,
and whoever is told to have a lab has it.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from orchestrator import Policy
from orchestrator.batch.outcomes import ItemOutcome
from orchestrator.batch.resetting import resume
from orchestrator.durable.batches import BatchState
from orchestrator.testing.virtual import run_virtual
from tests.batch.classroom import EXAM, NEW_LAB, OLD_LAB, Classroom, name
from tests.simulation.chance import FAULTS, readings

LEARNERS, EXAMS = 14, 2


async def campaign(seed: int) -> tuple[Classroom, dict[int, ItemOutcome]]:
    """A batch of a seed, carried out until it has ended; each item's last outcome."""
    dice = random.Random(seed)
    room = Classroom(LEARNERS, readings=readings(dice), teardown="lognormal:40,0.6", seed=seed)
    for number in range(EXAMS):
        room.sandbox.world.give(name(LEARNERS + number), EXAM)
        room.learners.append(name(LEARNERS + number))
    for fault in dice.sample(FAULTS, 4):
        room.sandbox.faults.add(f"{fault}+{dice.randrange(30)}")
    batch = await room.batch(
        room.rows(dice.choice((NEW_LAB, OLD_LAB))),
        concurrency=dice.choice((1, 4, 20)),
        policy=Policy(deadline_seconds=600),
    )
    last: dict[int, ItemOutcome] = {}
    while batch.state is not BatchState.ENDED:
        batch = await resume(room.store, batch.batch_id, at=room.clock.now())
        async with room.carrying(batch) as carrying:
            ending = asyncio.create_task(carrying.end())
            await asyncio.wait({ending}, timeout=dice.choice((3, 20, 90, 2000)))
        for outcome in carrying.outcomes:
            before = last.get(outcome.item.number)
            assert before is None or (not before.ok and before.attempt < outcome.attempt)
            last[outcome.item.number] = outcome
        batch = await room.store.batches.load(batch.batch_id)
    return room, last


@pytest.mark.parametrize("seed", range(20))
def test_whatever_goes_wrong_nobody_has_two_labs(seed: int) -> None:
    async def test() -> None:
        room, last = await campaign(seed)
        ledger = room.sandbox.ledger
        for outcome in last.values():
            user = outcome.item.user_id
            assert ledger.max_alive(user) <= 1
            assert room.launched(user) <= 1
            if outcome.ok:
                assert room.launched(user) == 1, "nobody is left with the lab of before"
                alive = [i.instance_id for i in room.sandbox.world.of_user(user) if i.is_active]
                assert alive == [outcome.result.lab_instance_id]
        exams = {name(LEARNERS + number) for number in range(EXAMS)}
        assert not any(room.launched(user) for user in exams)
        assert sum(outcome.ok for outcome in last.values()) >= LEARNERS - 4

    run_virtual(test())
