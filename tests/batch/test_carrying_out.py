"""A batch carried out: everybody once, at the wanted pace, whatever stops or kills it."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from orchestrator import Policy
from orchestrator.batch.flights import Flight
from orchestrator.batch.requests import Row
from orchestrator.batch.resetting import abort, resume, stop
from orchestrator.durable.batches import BatchState, Pace
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import InvalidRequest, StoreUnavailable
from orchestrator.sandbox import Readings
from orchestrator.testing.virtual import run_virtual
from tests.batch.classroom import EXAM, NEW_LAB, OLD_LAB, Classroom, name

QUESTIONS = ("append", "batches", "beat", "create", "due", "journal", "load", "moved_on")


class Flickering(MemoryRunStore):
    """A store that is away at times: questions about batches and runs fail."""

    is_away = False

    def __getattribute__(self, asked: str) -> Any:
        if asked in QUESTIONS and object.__getattribute__(self, "is_away"):
            raise StoreUnavailable("The database is away. Try again.")
        return object.__getattribute__(self, asked)


def virtually(scenario: Coroutine[Any, Any, None]) -> None:
    run_virtual(scenario)


def test_everybody_gets_a_lab_and_no_more_are_in_flight_than_wanted() -> None:
    async def test() -> None:
        room = Classroom(30)
        done = await room.carry_out(await room.batch(concurrency=7))
        assert done.told() == dict.fromkeys(room.learners, "launched")
        assert room.each_once()
        assert {outcome.result.ended_lab_profile_id for outcome in done.outcomes} == {OLD_LAB}
        assert done.most == 7
        assert done.run.batch.state is BatchState.ENDED
        standing = done.run.standing()
        assert (standing.ok, standing.not_ok, standing.waiting, standing.in_flight) == (30, 0, 0, 0)
        assert standing.api_calls == len(room.sandbox.ledger.requests)

    virtually(test())


def test_a_batch_killed_again_and_again_relaunches_everybody_exactly_once() -> None:
    async def test() -> None:
        room, dice = Classroom(40), random.Random(6)
        batch = await room.batch(concurrency=12)
        told: Counter[str] = Counter()
        kills = 0
        while batch.state is not BatchState.ENDED:
            batch = await resume(room.store, batch.batch_id, at=room.clock.now())
            async with room.carrying(batch) as carrying:
                with_luck = asyncio.create_task(carrying.end())
                await asyncio.wait({with_luck}, timeout=dice.uniform(1, 25))
                kills += not with_luck.done()
            told.update(outcome.item.user_id for outcome in carrying.outcomes)
            batch = await room.store.batches.load(batch.batch_id)
        assert kills > 5
        assert room.each_once()
        assert set(told.values()) == {1}, "each outcome is told once"
        assert (await room.store.batches.counts(batch.batch_id)).ended == {"launched": 40}

    virtually(test())


def test_exams_are_left_alone_and_tried_again_by_another_policy() -> None:
    async def test() -> None:
        room = Classroom(6)
        for number in (6, 7):
            room.sandbox.world.give(name(number), EXAM)
            room.learners.append(name(number))
        batch = await room.batch(room.rows())
        done = await room.carry_out(batch)
        assert Counter(done.told().values()) == {"launched": 6, "protected_exam": 2}
        assert len(room.sandbox.ledger.cancels()) == 6
        assert done.run.batch.state is BatchState.ENDED
        once_more = await resume(
            room.store, batch.batch_id, at=room.clock.now(), policy=Policy(allow_exam=True)
        )
        done = await room.carry_out(once_more)
        assert done.told() == {name(6): "launched", name(7): "launched"}
        assert {outcome.attempt for outcome in done.outcomes} == {2}
        assert room.each_once()

    virtually(test())


def test_a_refused_key_stops_at_once_and_harms_nobody() -> None:
    async def test() -> None:
        room = Classroom(50)
        done = await room.carry_out(await room.batch(concurrency=5), key="another-key")
        assert done.run.batch.state is BatchState.STOPPED
        assert done.run.batch.reason == "key_rejected"
        assert len(done.outcomes) <= 5
        assert room.sandbox.ledger.cancels() == []
        standing = done.run.standing()
        assert standing.waiting + len(done.outcomes) == 50

    virtually(test())


def test_a_consumer_at_its_limit_pauses_the_batch_until_there_is_room() -> None:
    async def test() -> None:
        room = Classroom(0, max_active=20)
        for number in range(20):
            room.sandbox.world.give(f"other-{number}", OLD_LAB)
        room.learners = [name(number) for number in range(15)]
        batch = await room.batch(room.rows(), concurrency=4)
        async with room.carrying(batch) as carrying:
            await asyncio.sleep(60)
            standing = carrying.run.standing()
            assert standing.obstacle is not None
            assert standing.obstacle.code == "consumer_active"
            assert standing.in_flight <= 4
            assert standing.eta_seconds is None
            begun = standing.in_flight
            await asyncio.sleep(120)
            assert carrying.run.standing().in_flight == begun, "none was begun meanwhile"
            assert room.sandbox.ledger.launches() == []
            for number in range(20):
                room.sandbox.world.tear_down(room.sandbox.world.of_user(f"other-{number}")[0])
            await carrying.end()
            assert carrying.told() == dict.fromkeys(room.learners, "launched")

    virtually(test())


def test_a_consumer_that_stays_at_its_limit_stops_the_batch_and_costs_nobody_a_lab() -> None:
    async def test() -> None:
        room = Classroom(12, max_active=12, readings=Readings(capacity_checks="before_limit"))
        done = await room.carry_out(
            await room.batch(concurrency=3, policy=Policy(deadline_seconds=200))
        )
        assert (done.run.batch.state, done.run.batch.reason) == ("stopped", "consumer_active")
        assert 1 <= len(done.outcomes) <= 3, "the others were not begun"
        assert room.sandbox.ledger.cancels() == []

    virtually(test())


def test_an_outage_of_a_minute_is_waited_for() -> None:
    async def test() -> None:
        room = Classroom(60)
        loop = asyncio.get_running_loop()
        loop.call_later(40, room.sandbox.faults.add, "*:http_503=0*0")
        loop.call_later(100, room.sandbox.faults.faults.clear)
        batch = await room.batch(concurrency=10)
        async with room.carrying(batch) as carrying:
            await asyncio.sleep(70)
            standing = carrying.run.standing()
            assert standing.obstacle is not None
            assert standing.obstacle.code == "platform_paused"
            ended = len(carrying.outcomes)
            await asyncio.sleep(20)
            assert len(carrying.outcomes) == ended, "nobody is burnt"
            await carrying.end()
        assert carrying.told() == dict.fromkeys(room.learners, "launched")
        assert room.each_once()

    virtually(test())


def test_a_platform_that_stays_away_stops_the_batch() -> None:
    async def test() -> None:
        room = Classroom(60)
        room.sandbox.faults.add("*:http_503=0*0")
        batch = await room.batch(concurrency=10, policy=Policy(deadline_seconds=120))
        done = await room.carry_out(batch)
        assert done.run.batch.state is BatchState.STOPPED
        assert done.run.standing().waiting >= 40
        assert room.sandbox.ledger.cancels() == []

    virtually(test())


def test_on_error_stop_begins_nobody_after_a_failure() -> None:
    async def test() -> None:
        room = Classroom(20)
        room.sandbox.world.give("exam", EXAM)
        first, *others = room.rows()
        rows = [first, Row(user_id="exam", lab_profile_id=NEW_LAB), *others]
        done = await room.carry_out(await room.batch(rows, concurrency=2, on_error="stop"))
        assert (done.run.batch.state, done.run.batch.reason) == ("stopped", "on_error")
        assert Counter(done.told().values()) == {"protected_exam": 1, "launched": 1}

    virtually(test())


def test_when_its_time_is_over_what_is_in_flight_is_left_and_can_be_taken_up() -> None:
    async def test() -> None:
        room = Classroom(20)
        batch = await room.batch(concurrency=5, wait_seconds=50)
        began = room.clock.now()
        done = await room.carry_out(batch)
        assert room.clock.now() - began == pytest.approx(50, abs=2)
        assert (done.run.batch.state, done.run.batch.reason) == ("stopped", "batch_wait")
        assert done.run.standing().in_flight == 5
        more = await resume(room.store, batch.batch_id, at=room.clock.now(), pace=Pace())
        rest = await room.carry_out(more)
        assert len(done.outcomes) + len(rest.outcomes) == 20
        assert room.each_once()

    virtually(test())


def test_a_stop_lets_those_in_flight_finish() -> None:
    async def test() -> None:
        room = Classroom(20)
        batch = await room.batch(concurrency=4)
        async with room.carrying(batch) as carrying:
            await carrying.until_ended(4)
            in_flight = carrying.run.standing().in_flight
            ended = len(carrying.outcomes)
            carrying.run.stop("interrupted")
            await carrying.end()
        assert len(carrying.outcomes) == ended + in_flight
        assert (carrying.run.batch.state, carrying.run.batch.reason) == ("stopped", "interrupted")
        assert await room.store.unfinished() == 0

    virtually(test())


def test_a_stop_from_elsewhere_is_noticed() -> None:
    async def test() -> None:
        room = Classroom(20)
        batch = await room.batch(concurrency=4)
        async with room.carrying(batch) as carrying:
            await carrying.until_ended(4)
            await stop(room.store, batch.batch_id, at=room.clock.now())
            await carrying.end()
        assert 4 <= len(carrying.outcomes) <= 12
        assert carrying.run.batch.reason == "stopped"

    virtually(test())


def test_an_abort_ends_what_is_in_flight_and_is_for_good() -> None:
    async def test() -> None:
        room = Classroom(20)
        batch = await room.batch(concurrency=4)
        async with room.carrying(batch) as carrying:
            await carrying.until_ended(4)
            await abort(carrying.relauncher, batch.batch_id)
            await carrying.end()
            assert "aborted" in carrying.told().values()
        assert carrying.run.batch.state is BatchState.ABORTED
        with pytest.raises(InvalidRequest, match="aborted"):
            await resume(room.store, batch.batch_id, at=room.clock.now())

    virtually(test())


def test_a_second_process_follows_and_takes_over_when_the_first_dies() -> None:
    async def test() -> None:
        room = Classroom(20)
        batch = await room.batch(concurrency=4)
        async with room.carrying(batch) as first:
            await first.until_ended(2)
            async with room.carrying(batch) as second:
                await first.until_ended(8)
                await asyncio.sleep(3)
                followed = {outcome.item.number for outcome in second.outcomes}
                assert followed < {outcome.item.number for outcome in first.outcomes}
                await first.vanish()
                await second.end()
                both = Counter(o.item.number for o in (*first.outcomes, *second.outcomes))
        assert both.keys() == set(range(1, 21))
        assert len(second.outcomes) == len({o.item.number for o in second.outcomes})
        assert room.each_once()

    virtually(test())


def test_two_labs_of_one_learner_come_one_after_the_other() -> None:
    async def test() -> None:
        room = Classroom(3, max_active_per_user=2)
        rows = [*room.rows(NEW_LAB), *room.rows(OLD_LAB)]
        done = await room.carry_out(await room.batch(rows, concurrency=10))
        assert [outcome.result.outcome for outcome in done.outcomes] == ["launched"] * 6
        assert all(room.launched(user) == 2 for user in room.learners)

    virtually(test())


def test_a_relaunch_by_button_is_joined_and_one_of_another_lab_goes_first() -> None:
    async def test() -> None:
        room = Classroom(2)
        joined, other = room.learners
        async with room.process() as button:
            pressed = [button.start(joined, NEW_LAB), button.start(other, OLD_LAB)]
            await asyncio.sleep(1)
            done = await room.carry_out(await room.batch())
            await asyncio.gather(*pressed)
        assert done.told() == {joined: "launched", other: "launched"}
        assert room.launched(joined) == 1
        assert room.launched(other) == 2
        by = {outcome.item.user_id: outcome.relaunch_id for outcome in done.outcomes}
        assert by[joined] == pressed[0].relaunch_id

    virtually(test())


def test_so_many_a_minute_are_begun() -> None:
    async def test() -> None:
        room = Classroom(12)
        done = await room.carry_out(await room.batch(per_minute=6))
        begun = sorted(o.begun_at for o in done.outcomes if o.begun_at is not None)
        gaps = [after - before for before, after in itertools.pairwise(begun)]
        assert min(gaps) == pytest.approx(10, abs=0.5)
        assert max(gaps) == pytest.approx(10, abs=0.5)

    virtually(test())


def test_the_eta_is_silent_at_first_and_near_the_truth_later() -> None:
    async def test() -> None:
        room = Classroom(200)
        batch = await room.batch(concurrency=20)
        async with room.carrying(batch) as carrying:
            await asyncio.sleep(5)
            assert carrying.run.standing().eta_seconds is None
            await carrying.until_ended(60)
            told, at = carrying.run.standing().eta_seconds, room.clock.now()
            await carrying.end()
            assert told is not None
            assert told == pytest.approx(room.clock.now() - at, rel=0.4)

    virtually(test())


def test_a_store_that_is_away_for_a_while_loses_and_doubles_nothing() -> None:
    async def test() -> None:
        room = Classroom(30)
        away = Flickering()
        room.store = away
        batch = await room.batch(concurrency=6)
        async with room.carrying(batch) as carrying:
            for _ in range(6):
                await asyncio.sleep(9)
                away.is_away = True
                await asyncio.sleep(7)
                away.is_away = False
            await carrying.end()
        assert carrying.told() == dict.fromkeys(room.learners, "launched")
        assert room.each_once()

    virtually(test())


def test_what_another_process_has_ended_is_told_and_not_begun_again() -> None:
    """Two that both take themselves for the holder, as after a long freeze."""

    async def test() -> None:
        room = Classroom(1)
        batch = await room.batch()
        (stored,) = await room.store.batches.items(batch.batch_id)
        done = await room.carry_out(batch)
        async with room.process() as late:
            outcome = await Flight(late, batch, stored).fly()
        assert outcome.result == done.outcomes[0].result
        assert room.each_once()

    virtually(test())


def test_what_was_in_the_way_of_a_process_that_died_is_not_in_the_way_of_the_next() -> None:
    async def test() -> None:
        room = Classroom(30)
        room.sandbox.faults.add("*:http_503=0*0")
        batch = await room.batch(concurrency=10)
        async with room.carrying(batch) as first:
            await asyncio.sleep(15)
            assert first.run.standing().obstacle is not None
            in_flight = first.run.standing().in_flight
        room.sandbox.faults.faults.clear()
        async with room.carrying(batch) as second:
            await asyncio.sleep(0.5)
            standing = second.run.standing()
            assert standing.obstacle is None
            assert standing.in_flight >= in_flight > 1, "all of them are gone on with at once"
            await second.end()
        assert second.told() == dict.fromkeys(room.learners, "launched")
        assert room.each_once()

    virtually(test())


def test_whoever_has_pressed_the_button_since_the_batch_began_keeps_that_lab() -> None:
    async def test() -> None:
        room = Classroom(6)
        eager, before = room.learners[-1], room.learners[-2]
        async with room.process() as button:
            await button.relaunch(before, NEW_LAB)
            await asyncio.sleep(1)
            batch = await room.batch(concurrency=1)
            async with room.carrying(batch) as carrying:
                await carrying.until_ended(1)
                pressed = await button.relaunch(eager, NEW_LAB)
                await carrying.end()
        assert carrying.told() == dict.fromkeys(room.learners, "launched")
        assert room.launched(eager) == 1
        assert carrying.outcomes[-1].result.lab_instance_id == pressed.lab_instance_id
        assert carrying.outcomes[-1].relaunch_id == pressed.relaunch_id
        assert room.launched(before) == 2, "a lab of before is what the batch is to replace"

    virtually(test())


def test_a_batch_that_is_stopped_with_its_last_in_flight_has_ended() -> None:
    async def test() -> None:
        room = Classroom(5)
        async with room.carrying(await room.batch()) as carrying:
            await asyncio.sleep(10)
            assert carrying.run.standing().waiting == 0
            carrying.run.stop("interrupted")
            await carrying.end()
        assert len(carrying.outcomes) == 5
        assert carrying.run.batch.state is BatchState.ENDED

    virtually(test())


def test_whoever_has_lost_the_batch_follows_the_one_who_has_it() -> None:
    """After a long freeze another process has taken it over."""

    async def test() -> None:
        room = Classroom(16)
        batch = await room.batch(concurrency=4)
        async with room.carrying(batch) as frozen:
            await frozen.until_ended(4)
            # What it holds has run out long ago, as far as the other's clock can tell.
            later = room.clock.now() + 60
            taken = await room.store.batches.hold(batch.batch_id, "other", at=later, until=later)
            assert taken.holder == "other"
            await asyncio.sleep(5)
            ended = len(frozen.outcomes)
            assert frozen.run.standing().waiting > 0
            await asyncio.sleep(20)
            assert len(frozen.outcomes) == ended, "it begins nobody"
            await room.store.batches.let_go(batch.batch_id, "other")
            await frozen.end()
        assert frozen.run.batch.state is BatchState.ENDED
        assert room.each_once()

    virtually(test())
