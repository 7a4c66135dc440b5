"""``reset_many``: the short way, begun, left and taken up again."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator import AsyncRelauncher, Policy
from orchestrator.batch import Batch, BatchState, Item, ItemResult, Row, reset_many
from orchestrator.batch.requests import batch_of
from orchestrator.batch.resetting import begin
from orchestrator.errors import ConfigurationError, InvalidBatch, InvalidRequest
from orchestrator.testing.virtual import run_virtual
from tests.batch.classroom import EXAM, NEW_LAB, Classroom


def test_everybody_is_relaunched_and_asking_again_touches_nobody() -> None:
    async def test() -> None:
        room = Classroom(10)
        async with room.process() as relauncher:
            outcomes = [outcome async for outcome in reset_many(relauncher, room.rows())]
            assert {outcome.item.user_id for outcome in outcomes} == set(room.learners)
            assert all(outcome.ok and outcome.url for outcome in outcomes)
            calls = len(room.sandbox.ledger.requests)
            assert [outcome async for outcome in reset_many(relauncher, room.rows())] == []
            assert len(room.sandbox.ledger.requests) == calls
        assert room.each_once()

    run_virtual(test())


def test_a_loop_that_is_left_early_is_gone_on_with_by_the_same_request() -> None:
    async def test() -> None:
        room = Classroom(10)
        done: list[str] = []
        async with room.process() as relauncher:
            outcomes = reset_many(relauncher, room.rows(), batch_id="monday")
            async for outcome in outcomes:
                done.append(outcome.item.user_id)
                if len(done) == 3:
                    break
            await outcomes.aclose()  # type: ignore[attr-defined]  # it is a generator
        async with room.process() as another:
            again = reset_many(another, room.rows(), batch_id="monday")
            done += [outcome.item.user_id async for outcome in again]
        assert sorted(done) == sorted(room.learners)
        assert room.each_once()

    run_virtual(test())


def test_only_those_without_success_are_tried_again() -> None:
    async def test() -> None:
        room = Classroom(3)
        room.sandbox.world.give("exam", EXAM)
        rows = [*room.rows(), Row(user_id="exam", lab_profile_id=NEW_LAB)]
        async with room.process() as relauncher:
            first = [outcome async for outcome in reset_many(relauncher, rows)]
            assert sorted(o.result.outcome for o in first) == ["launched"] * 3 + ["refused"]
            leave = Policy(allow_exam=True)
            again = [outcome async for outcome in reset_many(relauncher, rows, policy=leave)]
        assert [(o.item.user_id, o.attempt, o.ok) for o in again] == [("exam", 2, True)]

    run_virtual(test())


def test_an_id_that_another_request_has_is_refused() -> None:
    async def test() -> None:
        room = Classroom(2)
        async with room.process() as relauncher:
            async for _ in reset_many(relauncher, room.rows(), batch_id="monday"):
                pass
            with pytest.raises(InvalidRequest, match="'monday' was given to another request"):
                async for _ in reset_many(relauncher, room.rows()[:1], batch_id="monday"):
                    pass

    run_virtual(test())


def test_a_bad_row_is_refused_before_anything_is_stored_or_called() -> None:
    async def test() -> None:
        room = Classroom(2)
        rows = [*room.rows(), Row(user_id="", lab_profile_id=NEW_LAB)]
        async with room.process() as relauncher:
            with pytest.raises(InvalidBatch, match=r"items\[2\]\.user_id"):
                async for _ in reset_many(relauncher, rows):
                    pass
        assert await room.store.batches.history() == ()
        assert room.sandbox.ledger.requests == []

    run_virtual(test())


def test_without_a_store_there_are_no_batches() -> None:
    async def test() -> None:
        room = Classroom(1)
        with pytest.raises(ConfigurationError, match="store"):
            async for _ in reset_many(AsyncRelauncher(room.process()._platform), room.rows()):
                pass

    run_virtual(test())


@pytest.mark.parametrize("state", [BatchState.RUNNING, BatchState.STOPPED])
def test_a_selection_that_has_all_come_to_a_good_end_is_not_in_the_way(state: BatchState) -> None:
    """Its process may have died, or been stopped, before it could say so."""

    async def test() -> None:
        room = Classroom(2)
        at = room.clock.now

        def selected(number: int) -> tuple[Batch, tuple[Item, ...]]:
            rows = [Row(user_id=f"{number}", lab_profile_id=NEW_LAB)]
            return batch_of(rows, policy=Policy(), consumer="default", at=at(), selection="all")

        old, _ = await begin(room.store, *selected(1))
        await room.store.batches.begin(old.batch_id, 1, attempt=1, relaunch_id="r", at=at())
        await room.store.batches.change(
            old.batch_id, state, only_from=frozenset(BatchState), at=at()
        )
        await asyncio.sleep(1)
        assert await begin(room.store, *selected(2)) == (
            await room.store.batches.load(old.batch_id),
            False,
        ), "somebody is in flight"
        done = ItemResult(outcome="launched", reason=None, message="")
        await room.store.batches.finish(old.batch_id, 1, done, attempt=1, at=at())
        new, is_new = await begin(room.store, *selected(2))
        assert is_new
        assert new.batch_id != old.batch_id
        assert (await room.store.batches.load(old.batch_id)).state is BatchState.ENDED

    run_virtual(test())


def test_a_batch_that_nobody_could_call_ended_is_when_it_is_asked_for() -> None:
    async def test() -> None:
        room = Classroom(3)
        async with room.process() as relauncher:
            done = [outcome async for outcome in reset_many(relauncher, room.rows())]
            (batch,) = await room.store.batches.history()
            await room.store.batches.change(
                batch.batch_id,
                BatchState.RUNNING,
                only_from=frozenset(BatchState),
                at=room.clock.now(),
            )
            again = [outcome async for outcome in reset_many(relauncher, room.rows())]
        assert (len(done), again) == (3, [])
        assert (await room.store.batches.load(batch.batch_id)).state is BatchState.ENDED

    run_virtual(test())
