"""What an aborted batch had in flight comes to its end, and nothing is begun on the way."""

from __future__ import annotations

import asyncio

from orchestrator.batch import resetting
from orchestrator.batch.aborting import end_in_flight
from orchestrator.batch.requests import relaunch_id_of
from orchestrator.durable.batches import Batch, StoredItem
from orchestrator.durable.store import Filter
from orchestrator.testing.virtual import run_virtual
from tests.batch.classroom import NEW_LAB, Classroom, name


async def begun(here: Classroom, batch: Batch, number: int, relaunch_id: str | None = None) -> str:
    """An item that is begun, its own relaunch not created yet; that one's id."""
    own = relaunch_id_of(batch, here.store.consumer, number, 1)
    await here.store.batches.begin(
        batch.batch_id, number, attempt=1, relaunch_id=relaunch_id or own, at=here.clock.now()
    )
    return own


async def ended(here: Classroom, batch: Batch) -> tuple[StoredItem, ...]:
    """The items after an abort by a process that sees to the end."""
    async with here.process() as relauncher:
        await resetting.abort(relauncher, batch.batch_id)
        await end_in_flight(relauncher, batch.batch_id)
        return await here.store.batches.items(batch.batch_id)


def test_what_a_dead_process_has_left_in_flight_is_ended() -> None:
    async def main() -> None:
        here = Classroom(3)
        batch = await here.batch(concurrency=2)
        async with here.carrying(batch) as carrying:
            await asyncio.sleep(10)
            assert carrying.outcomes == []
        first, second, third = await ended(here, batch)
        assert [s.result and s.result.outcome for s in (first, second)] == ["aborted"] * 2
        assert third.attempt == 0
        assert await here.store.unfinished() == 0
        assert here.sandbox.ledger.launches() == []
        assert len(here.sandbox.ledger.cancels()) == 2

    run_virtual(main())


def test_an_item_whose_relaunch_was_never_created_is_not_begun_now() -> None:
    async def main() -> None:
        here = Classroom(2)
        batch = await here.batch()
        await begun(here, batch, 1)
        one, two = await ended(here, batch)
        assert one.result is not None
        assert (one.result.outcome, one.result.reason) == ("aborted", "aborted")
        assert "No lab was ended." in one.result.message
        assert two.result is None
        assert await here.store.history(Filter()) == ()
        assert here.sandbox.ledger.requests == []

    run_virtual(main())


def test_a_relaunch_that_an_item_had_only_joined_goes_on() -> None:
    async def main() -> None:
        here = Classroom(1)
        batch = await here.batch()
        async with here.process() as button:
            pressed = button.start(name(0), NEW_LAB)
            relaunch_id = await pressed.accepted()
            await begun(here, batch, 1, relaunch_id)
            (item,) = await ended(here, batch)
            assert item.result is not None
            assert item.result.outcome == "aborted"
            assert relaunch_id in item.result.message
            assert (await pressed.result()).outcome == "launched"

    run_virtual(main())
