"""One contract for every store of batches: the rules of :mod:`orchestrator.durable.batches`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import LaunchParameters
from orchestrator.durable.batches import (
    Batch,
    BatchState,
    BatchStore,
    Counts,
    Item,
    ItemResult,
    Mark,
    Pace,
    StoredItem,
)
from orchestrator.errors import StoreIncompatible, UnknownBatch
from orchestrator.machine.run import Policy
from tests.contract.stores import DATABASES, T0, Stores, contract
from tests.contract.test_run_stores import ODD_IDS

ANY = frozenset(BatchState)
OPEN = frozenset({BatchState.RUNNING, BatchState.STOPPED})
LAUNCHED = ItemResult(outcome="launched", reason=None, message="Launched.", api_calls=7)
FAILED = ItemResult(outcome="failed", reason="key_rejected", message="No.", api_calls=2)


def new_batch(batch_id: str = "monday", total: int = 3, **known: Any) -> Batch:
    """A batch that has not begun."""
    fields = {"fingerprint": "f1", "created_at": T0, "started_at": T0, **known}
    return Batch(batch_id=batch_id, total=total, **fields)


def new_items(total: int = 3) -> tuple[Item, ...]:
    """That many learners."""
    return tuple(
        Item(number=n, user_id=f"learner-{n}", lab_profile_id=7) for n in range(1, total + 1)
    )


async def stored(stores: Stores, total: int = 3, **known: Any) -> BatchStore:
    """A store with the batch ``monday`` in it."""
    batches = (await stores.open()).batches
    assert (await batches.create(new_batch(total=total, **known), new_items(total)))[1]
    return batches


async def begin(batches: BatchStore, number: int, attempt: int = 1, at: float = T0) -> bool:
    """The item of the batch ``monday`` is begun."""
    relaunch_id = f"r{number}.{attempt}"
    return await batches.begin("monday", number, attempt=attempt, relaunch_id=relaunch_id, at=at)


async def finish(
    batches: BatchStore,
    number: int,
    result: ItemResult = LAUNCHED,
    attempt: int = 1,
    at: float = T0 + 9,
) -> bool:
    """The item of the batch ``monday`` has ended."""
    return await batches.finish("monday", number, result, attempt=attempt, at=at)


async def standing(batches: BatchStore) -> dict[int, tuple[int, bool]]:
    """By item, its attempt, and whether it has ended."""
    found = await batches.items("monday")
    return {s.item.number: (s.attempt, s.result is not None) for s in found}


# --- create ---------------------------------------------------------------------------------


@contract()
async def test_a_batch_and_its_items_are_kept_as_they_are(stores: Stores) -> None:
    batches = (await stores.open()).batches
    policy = Policy(displace="save", deadline_seconds=77.5, displace_instance_id=5, launch=False)
    batch = new_batch(
        total=2,
        policy=policy,
        note="line\nline \0 \ud800",
        pace=Pace(concurrency=3, per_minute=0.5, wait_seconds=600.0, on_error="stop"),
        origin="service",
        selection="--class 9 \\",
        reason="r",
        started_at=T0 + 0.25,
    )
    parameters = LaunchParameters(
        first_name="Änn \0 \ud800 \\", role_ids=(1, 2), variables={"naïve": "{\"'}"}
    )
    items = (
        Item(number=1, user_id="ann", lab_profile_id=7, displace_instance_id=2**40),
        Item(number=2, user_id="bób \ud800\0", lab_profile_id=8, parameters=parameters),
    )
    assert await batches.create(batch, items) == (batch, True)
    again = (await stores.open()).batches
    assert await again.load("monday") == batch
    assert await again.items("monday") == tuple(StoredItem(item=item) for item in items)
    assert await again.counts("monday") == Counts(waiting=2, in_flight=0, ended={})


@contract()
async def test_a_batch_that_is_there_already_stays_as_it_is(stores: Stores) -> None:
    batches = await stored(stores)
    assert await begin(batches, 1)
    first = await batches.hold("monday", "me", at=T0, until=T0 + 60)
    other = new_batch(total=1, fingerprint="f2", created_at=T0 + 1)
    assert await batches.create(other, new_items(1)) == (first, False)
    assert await batches.create(new_batch(), new_items()) == (first, False)
    assert await standing(batches) == {1: (1, False), 2: (0, False), 3: (0, False)}


@contract()
async def test_of_many_who_create_a_batch_at_once_one_does(stores: Stores) -> None:
    places = [(await stores.open()).batches for _ in range(2)]
    answers = await asyncio.gather(
        *(
            places[n % 2].create(new_batch(total=n + 1, fingerprint=f"f{n}"), new_items(n + 1))
            for n in range(12)
        )
    )
    ((batch, _),) = [answer for answer in answers if answer[1]]
    assert all(each == batch for each, _ in answers)
    assert len(await places[0].items("monday")) == batch.total


@contract()
async def test_the_items_must_be_those_that_the_batch_says(stores: Stores) -> None:
    batches = (await stores.open()).batches
    one, two, three = new_items()
    for items in ((one, two), (one, three, two), (two, three, replace(one, number=4)), ()):
        with pytest.raises(ValueError, match="monday"):
            await batches.create(new_batch(), items)
    with pytest.raises(UnknownBatch):
        await batches.load("monday")


@contract()
async def test_a_batch_may_be_of_nothing(stores: Stores) -> None:
    batches = await stored(stores, 0)
    assert await batches.items("monday") == ()
    assert await batches.counts("monday") == Counts(waiting=0, in_flight=0, ended={})


@contract()
async def test_a_batch_of_thousands_is_read_whole_and_in_order(stores: Stores) -> None:
    batches = await stored(stores, 2500)
    for number in (1, 1000, 1001, 2500):
        await begin(batches, number)
    for found, expected in (
        (await batches.items("monday"), range(1, 2501)),
        (await batches.items("monday", after=999, limit=1200), range(1000, 2200)),
        (await batches.items("monday", begun=True), (1, 1000, 1001, 2500)),
        (await batches.items("monday", ended=False), range(1, 2501)),
        (await batches.items("monday", begun=False, after=998), [999, *range(1002, 2500)]),
    ):
        assert [each.item.number for each in found] == list(expected)
    assert await batches.counts("monday") == Counts(waiting=2496, in_flight=4, ended={})


# --- finding --------------------------------------------------------------------------------


@contract()
async def test_the_newest_batch_of_a_request_is_found(stores: Stores) -> None:
    batches = (await stores.open()).batches
    assert await batches.find("f1") is None
    for n, batch_id in ((2, "b"), (3, "c"), (1, "a")):
        await batches.create(new_batch(batch_id, 0, created_at=T0 + n), ())
    await batches.create(new_batch("d", 0, fingerprint="f2", created_at=T0 + 9), ())
    found = await batches.find("f1")
    assert found is not None
    assert found.batch_id == "c"
    await batches.change("c", BatchState.ABORTED, only_from=ANY, at=T0)
    assert await batches.find("f1") == await batches.load("c")


@contract()
async def test_history_is_newest_first_and_tells_the_unfinished_apart(stores: Stores) -> None:
    batches = (await stores.open()).batches
    states = [*BatchState, *BatchState]
    for n, state in enumerate(states):
        await batches.create(new_batch(f"b{n}", 0, created_at=T0 + n // 2), ())
        await batches.change(f"b{n}", state, only_from=ANY, at=T0 + 50)

    async def ids(unfinished: bool | None, limit: int = 100) -> list[str]:
        found = await batches.history(unfinished=unfinished, limit=limit)
        assert list(found) == [await batches.load(b.batch_id) for b in found]
        return [batch.batch_id for batch in found]

    assert await ids(None) == [f"b{n}" for n in range(7, -1, -1)]
    assert await ids(True) == ["b5", "b4", "b1", "b0"]
    assert await ids(False) == ["b7", "b6", "b3", "b2"]
    assert await ids(None, 3) == ["b7", "b6", "b5"]
    assert await ids(False, 1) == ["b7"]


@contract()
async def test_consumers_never_meet(stores: Stores) -> None:
    one, other = (await stores.open("one")).batches, (await stores.open("other")).batches
    mine, _ = await one.create(new_batch(), new_items())
    with pytest.raises(UnknownBatch):
        await other.load("monday")
    theirs, created = await other.create(new_batch(total=2, created_at=T0 + 5), new_items(2))
    assert created
    await begin(other, 1)
    await finish(other, 1)
    await other.hold("monday", "you", at=T0, until=T0 + 60)
    await other.change("monday", BatchState.ENDED, only_from=OPEN, at=T0 + 1)
    assert await one.load("monday") == mine
    assert await one.find("f1") == mine
    assert await one.history() == (mine,)
    assert await one.counts("monday") == Counts(waiting=3, in_flight=0, ended={})
    assert await one.prune(before=T0 + 100) == 0
    assert await other.prune(before=T0 + 100) == 1
    assert theirs.total == 2
    assert len(await one.items("monday")) == 3


@contract()
async def test_odd_ids_never_meet(stores: Stores) -> None:
    batches = (await stores.open()).batches
    for n, odd in enumerate(ODD_IDS):
        batch = new_batch(odd, 1, fingerprint=odd, created_at=T0 + n)
        assert await batches.create(batch, new_items(1)) == (batch, True)
        assert await batches.find(odd) == batch
        assert await batches.begin(odd, 1, attempt=1, relaunch_id=odd, at=T0)
        result = replace(FAILED, outcome=odd, reason=odd)
        assert await batches.finish(odd, 1, result, attempt=1, at=T0)
        held = await batches.hold(odd, odd, at=T0, until=T0 + 1)
        changed = await batches.change(odd, BatchState.STOPPED, only_from=ANY, at=T0, reason=odd)
        assert (held.holder, changed.holder, changed.reason) == (odd, odd, odd)
        ((item),) = await batches.items(odd)
        assert (item.relaunch_id, item.result) == (odd, result)
        assert (await batches.counts(odd)).ended == {odd: 1}
    assert len(await batches.history()) == len(ODD_IDS)


@contract()
async def test_a_batch_that_is_not_there_is_told_as_such(stores: Stores) -> None:
    batches = await stored(stores)
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: batches.load("tuesday"),
        lambda: batches.items("tuesday"),
        lambda: batches.items("tuesday", ended=True, begun=False),
        lambda: batches.counts("tuesday"),
        lambda: batches.begin("tuesday", 1, attempt=1, relaunch_id="r", at=T0),
        lambda: batches.finish("tuesday", 1, LAUNCHED, attempt=1, at=T0),
        lambda: batches.change("tuesday", BatchState.ENDED, only_from=ANY, at=T0),
        lambda: batches.hold("tuesday", "me", at=T0, until=T0 + 1),
        lambda: batches.let_go("tuesday", "me"),
    ]
    for question in questions:
        with pytest.raises(UnknownBatch, match="tuesday") as caught:
            await question()
        assert caught.value.batch_id == "tuesday"


# --- items ----------------------------------------------------------------------------------


@contract()
async def test_an_item_is_begun_and_ends(stores: Stores) -> None:
    batches = await stored(stores)
    result = ItemResult(
        outcome="launched",
        reason="because \0",
        message="Launched — ünder the name.",
        lab_instance_id=2**40,
        cancelled_instance_ids=(1, 2),
        saved_instance_ids=(3,),
        waited_seconds=12.75,
        api_calls=9,
        launch_in_doubt=True,
        marks=(Mark(phase="surveying", at=T0), Mark(phase="launched", at=T0 + 0.125)),
    )
    assert await begin(batches, 2, at=T0 + 1)
    _, begun, _ = await batches.items("monday")
    assert begun == StoredItem(item=new_items()[1], attempt=1, relaunch_id="r2.1", begun_at=T0 + 1)
    assert await finish(batches, 2, result, at=T0 + 2)
    one, ended, three = await (await stores.open()).batches.items("monday")
    assert ended == replace(begun, result=result, ended_at=T0 + 2)
    assert (one, three) == tuple(StoredItem(item=new_items()[n]) for n in (0, 2))


@contract()
async def test_beginning_again_keeps_the_first_time_and_takes_the_last_relaunch(
    stores: Stores,
) -> None:
    batches = await stored(stores)
    assert await begin(batches, 1, at=T0 + 1)
    assert await begin(batches, 1, at=T0 + 2)
    assert await batches.begin("monday", 1, attempt=1, relaunch_id="joined", at=T0 + 3)
    (item,) = await batches.items("monday", limit=1)
    assert (item.attempt, item.relaunch_id, item.begun_at) == (1, "joined", T0 + 1)


@contract()
async def test_an_attempt_that_has_a_result_is_not_begun_again(stores: Stores) -> None:
    batches = await stored(stores)
    await begin(batches, 1)
    await finish(batches, 1)
    before = await batches.items("monday")
    assert not await batches.begin("monday", 1, attempt=1, relaunch_id="late", at=T0 + 20)
    assert await batches.items("monday") == before


@contract()
async def test_the_next_attempt_forgets_the_result_and_an_older_one_changes_nothing(
    stores: Stores,
) -> None:
    batches = await stored(stores)
    await begin(batches, 1)
    await finish(batches, 1, FAILED)
    assert await begin(batches, 1, 2, at=T0 + 20)
    (again,) = await batches.items("monday", limit=1)
    assert again == StoredItem(item=new_items()[0], attempt=2, relaunch_id="r1.2", begun_at=T0 + 20)
    assert await batches.counts("monday") == Counts(waiting=2, in_flight=1, ended={})
    assert not await begin(batches, 1, 1, at=T0 + 21)
    assert not await finish(batches, 1, LAUNCHED, 1)
    assert not await finish(batches, 1, LAUNCHED, 3)
    assert (await batches.items("monday", limit=1)) == (again,)
    assert await finish(batches, 1, LAUNCHED, 2)
    assert not await begin(batches, 1, 1)
    # One that was in flight and is lost may be tried again, too.
    await begin(batches, 2)
    assert await begin(batches, 2, 5)
    assert await standing(batches) == {1: (2, True), 2: (5, False), 3: (0, False)}


@contract()
async def test_the_first_result_stays(stores: Stores) -> None:
    batches = await stored(stores)
    assert not await finish(batches, 1, LAUNCHED, 0)
    assert not await finish(batches, 1)
    await begin(batches, 1)
    assert await finish(batches, 1)
    before = await batches.items("monday")
    # The same call again, whose answer was lost; anybody else comes too late.
    assert await finish(batches, 1)
    assert not await finish(batches, 1, at=T0 + 10)
    assert not await finish(batches, 1, FAILED)
    assert not await finish(batches, 1, attempt=0)
    assert await batches.items("monday") == before


@contract()
async def test_items_and_attempts_that_there_are_not_are_refused(stores: Stores) -> None:
    batches = await stored(stores)
    before = await batches.items("monday")
    for number in (0, 4, -1, 2**40):
        with pytest.raises(ValueError, match=f"monday has no item {number}"):
            await begin(batches, number)
        with pytest.raises(ValueError, match=f"monday has no item {number}"):
            await finish(batches, number)
    for attempt in (0, -1):
        with pytest.raises(ValueError, match="attempts count from 1"):
            await begin(batches, 1, attempt)
    assert await batches.items("monday") == before


@contract()
async def test_items_are_selected_by_where_they_stand(stores: Stores) -> None:
    batches = await stored(stores, 8)
    for number in (1, 2, 5, 6, 7):
        await begin(batches, number)
    for number, result in ((1, LAUNCHED), (5, FAILED), (6, LAUNCHED)):
        await finish(batches, number, result)
    waiting, in_flight, ended = {3, 4, 8}, {2, 7}, {1, 5, 6}
    everything = await batches.items("monday")
    for begun, has_ended, expected in (
        (None, None, waiting | in_flight | ended),
        (None, True, ended),
        (None, False, waiting | in_flight),
        (True, None, in_flight | ended),
        (True, True, ended),
        (True, False, in_flight),
        (False, None, waiting),
        (False, True, set()),
        (False, False, waiting),
    ):
        for after in (0, 2, 5, 8, 99):
            for limit in (None, 0, 1, 2, 50):
                found = await batches.items(
                    "monday", after=after, limit=limit, begun=begun, ended=has_ended
                )
                fitting = [n for n in sorted(expected) if n > after][:limit]
                assert list(found) == [everything[n - 1] for n in fitting]


@contract()
async def test_items_are_counted_by_where_they_stand(stores: Stores) -> None:
    batches = await stored(stores, 6)
    for number in (1, 2, 3, 4):
        await begin(batches, number)
    await finish(batches, 1, LAUNCHED)
    await finish(batches, 2, LAUNCHED)
    await finish(batches, 4, FAILED)
    counts = await batches.counts("monday")
    assert counts == Counts(
        waiting=2, in_flight=1, ended={"launched": 2, "failed": 1}, api_calls=16
    )
    assert (counts.ok, counts.not_ok) == (2, 1)
    await begin(batches, 4, 2)
    assert await batches.counts("monday") == Counts(
        waiting=2, in_flight=2, ended={"launched": 2}, api_calls=14
    )


@contract()
async def test_many_items_begin_and_end_at_the_same_time(stores: Stores) -> None:
    places = [await stored(stores, 300)]
    places.append((await stores.open()).batches)
    # Two that carry the same batch out, item by item and in opposite orders.
    numbers = [*range(1, 301), *range(300, 0, -1)]
    begun = await asyncio.gather(
        *(begin(places[n // 300], number) for n, number in enumerate(numbers))
    )
    assert all(begun)
    ended = await asyncio.gather(
        *(
            finish(places[n // 300], number, (LAUNCHED, FAILED)[n // 300])
            for n, number in enumerate(numbers)
        )
    )
    # Whichever result came first stays, and only who brought it hears so.
    kept = {s.item.number: s.result for s in await places[0].items("monday")}
    for n, (number, told) in enumerate(zip(numbers, ended, strict=True)):
        assert told == (kept[number] == (LAUNCHED, FAILED)[n // 300])
    assert sum(ended) == 300


@contract()
async def test_of_several_changes_of_an_item_at_once_each_is_judged_by_itself(
    stores: Stores,
) -> None:
    batches = await stored(stores)
    answers = await asyncio.gather(
        *(begin(batches, 1, attempt) for attempt in (1, 2, 1, 2, 3)),
        begin(batches, 9),
        batches.begin("tuesday", 1, attempt=1, relaunch_id="r", at=T0),
        begin(batches, 2),
        return_exceptions=True,
    )
    assert answers[:5] == [True, True, False, True, True]
    assert [type(answer) for answer in answers[5:]] == [ValueError, UnknownBatch, bool]
    results = (FAILED, LAUNCHED, FAILED)
    told = await asyncio.gather(*(finish(batches, 1, result, 3) for result in results))
    assert told == [True, False, True]
    assert await standing(batches) == {1: (3, True), 2: (1, False), 3: (0, False)}


# --- the batch ------------------------------------------------------------------------------


@contract()
async def test_a_state_changes_with_its_times(stores: Stores) -> None:
    batches = await stored(stores)
    first = await batches.load("monday")

    async def change(state: BatchState, after: float, reason: str | None = None) -> Batch:
        changed = await batches.change(
            "monday", state, only_from=ANY - {state}, at=T0 + after, reason=reason
        )
        assert await batches.load("monday") == changed
        return changed

    stopped = await change(BatchState.STOPPED, 1, "interrupted")
    assert stopped == replace(first, state=BatchState.STOPPED, reason="interrupted")
    resumed = await change(BatchState.RUNNING, 2)
    assert resumed == replace(first, started_at=T0 + 2)
    ended = await change(BatchState.ENDED, 3)
    assert ended == replace(resumed, state=BatchState.ENDED, ended_at=T0 + 3)
    again = await change(BatchState.RUNNING, 4)
    assert again == replace(first, started_at=T0 + 4)
    aborted = await change(BatchState.ABORTED, 5, "aborted")
    assert aborted == replace(again, state=BatchState.ABORTED, reason="aborted", ended_at=T0 + 5)


@contract()
async def test_a_state_changes_only_from_those_named(stores: Stores) -> None:
    batches = await stored(stores)
    before = await batches.load("monday")
    for state in BatchState:
        told = await batches.change(
            "monday",
            state,
            only_from=frozenset({BatchState.STOPPED, BatchState.ENDED}),
            at=T0 + 1,
            reason="late",
            pace=Pace(concurrency=1),
            policy=Policy(launch=False),
        )
        assert told == before
    assert await batches.change("monday", BatchState.ENDED, only_from=frozenset(), at=T0) == before
    first = await batches.change("monday", BatchState.ENDED, only_from=OPEN, at=T0 + 2)
    # The same again, whose answer was lost.
    assert await batches.change("monday", BatchState.ENDED, only_from=OPEN, at=T0 + 3) == first


@contract()
async def test_pace_and_policy_are_replaced_if_they_are_given(stores: Stores) -> None:
    batches = await stored(stores, pace=Pace(concurrency=5), policy=Policy(displace="save"))
    paced = await batches.change(
        "monday", BatchState.STOPPED, only_from=ANY, at=T0, pace=Pace(per_minute=2.5)
    )
    assert (paced.pace, paced.policy) == (Pace(per_minute=2.5), Policy(displace="save"))
    other = await batches.change(
        "monday", BatchState.RUNNING, only_from=ANY, at=T0, policy=Policy(launch=False)
    )
    assert (other.pace, other.policy) == (Pace(per_minute=2.5), Policy(launch=False))
    same = await batches.change("monday", BatchState.STOPPED, only_from=ANY, at=T0)
    assert (same.pace, same.policy) == (other.pace, other.policy)
    assert await batches.load("monday") == same


@contract()
async def test_one_carries_a_batch_out_until_it_lets_go_or_is_silent(stores: Stores) -> None:
    batches = await stored(stores)

    async def hold(holder: str, after: float) -> tuple[str | None, float | None]:
        batch = await batches.hold("monday", holder, at=T0 + after, until=T0 + after + 10)
        assert await batches.load("monday") == batch
        return batch.holder, (batch.held_until or T0) - T0

    assert await hold("me", 0) == ("me", 10)
    assert await hold("you", 5) == ("me", 10)
    assert await hold("me", 6) == ("me", 16)
    assert await hold("you", 15.9) == ("me", 16)
    assert await hold("you", 16) == ("you", 26)
    await batches.let_go("monday", "me")
    assert await hold("me", 17) == ("you", 26)
    await batches.let_go("monday", "you")
    await batches.let_go("monday", "you")
    assert await batches.load("monday") == new_batch()
    assert await hold("me", 17) == ("me", 27)


@contract()
async def test_of_many_who_want_to_carry_a_batch_out_one_does(stores: Stores) -> None:
    await stored(stores)
    places = [(await stores.open()).batches for _ in range(4)]
    for at in (T0, T0 + 10):
        told = await asyncio.gather(
            *(places[n % 4].hold("monday", f"{n} at {at}", at=at, until=at + 10) for n in range(24))
        )
        granted = [batch.holder for n, batch in enumerate(told) if batch.holder == f"{n} at {at}"]
        assert len(granted) == 1
        assert {batch.holder for batch in told} == set(granted)


@contract()
async def test_what_ended_before_then_is_forgotten_items_and_all(stores: Stores) -> None:
    batches = (await stores.open()).batches
    for n, state in enumerate([*BatchState, BatchState.ENDED]):
        await batches.create(new_batch(f"b{n}", 5), new_items(5))
        await batches.change(f"b{n}", state, only_from=ANY, at=T0 + n)
    assert await batches.prune(before=T0 + 2) == 0
    assert await batches.prune(before=T0 + 4) == 2
    assert [batch.batch_id for batch in await batches.history()] == ["b4", "b1", "b0"]
    for gone in ("b2", "b3"):
        with pytest.raises(UnknownBatch):
            await batches.items(gone)
    # The id is free again, and nothing is left of what had it.
    assert (await batches.create(new_batch("b2", 1), new_items(1)))[1]
    assert await batches.items("b2") == (StoredItem(item=new_items(1)[0]),)
    assert len(await batches.items("b0")) == 5


@contract()
async def test_many_batches_are_forgotten(stores: Stores) -> None:
    batches = (await stores.open()).batches
    for n in range(25):
        await batches.create(new_batch(f"b{n}", 1), new_items(1))
        await batches.change(f"b{n}", BatchState.ENDED, only_from=ANY, at=T0)
    assert await batches.prune(before=T0 + 1) == 25
    assert await batches.history() == ()


# --- versions of the program ----------------------------------------------------------------


@contract(*DATABASES)
async def test_a_newer_programs_batch_is_left_to_it(stores: Stores) -> None:
    batches = await stored(stores)
    await batches.hold("monday", "me", at=T0, until=T0 + 10)
    assert stores.make_newer is not None
    stores.make_newer()
    mine = new_batch("mine", 0)
    await batches.create(mine, ())
    assert await batches.history() == (mine,)
    assert await batches.find("f1") == mine
    questions: list[Callable[[], Awaitable[object]]] = [
        lambda: batches.load("monday"),
        lambda: batches.create(new_batch(), new_items()),
        lambda: batches.change("monday", BatchState.ABORTED, only_from=ANY, at=T0),
        lambda: batches.hold("monday", "you", at=T0 + 20, until=T0 + 30),
    ]
    for question in questions:
        with pytest.raises(StoreIncompatible, match="Batch monday was stored by a newer version"):
            await question()
