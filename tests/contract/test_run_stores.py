"""One contract for every store of relaunches: the rules of :mod:`orchestrator.durable.store`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.durable.store import STANDING, Filter, RunStore, Signals
from orchestrator.errors import LeaseLost, StoreIncompatible, UnknownRelaunch
from orchestrator.machine.run import Policy
from orchestrator.machine.vocabulary import State
from orchestrator.requests import Priority
from tests.contract.stores import (
    DATABASES,
    T0,
    Stores,
    after,
    begun,
    contract,
    ended,
    new_run,
    next_step,
    taken,
    with_everything,
)

#: No two of them are the same learner, however a database compares texts.
ODD_IDS = [
    "ann", "Ann", "ann ", " ann", "änn", "a\u0308nn", "ann\0", "ann\\0", "ann\\", "\ud800",
    "\\ud800", "'; DROP TABLE runs; --", "%", "_", "🙂", "x" * 2000,
]  # fmt: skip


# --- create ---------------------------------------------------------------------------------


@contract()
async def test_a_new_run_is_due_at_once_and_kept_as_it_is(stores: Stores) -> None:
    store = await stores.open()
    run = with_everything("r1", "ann")
    stored, created = await store.create(run, at=T0, key="k", priority=Priority.BULK)
    assert created
    assert (stored.run, stored.version, stored.epoch, stored.owner) == (run, 0, 0, None)
    assert (stored.due_at, stored.key, stored.priority) == (T0, "k", Priority.BULK)
    assert (stored.updated_at, stored.finished_at, stored.signals) == (T0, None, Signals())
    assert await (await stores.open()).load("r1") == stored
    assert await store.due(None, at=T0) == ("r1",)
    assert await store.journal("r1") == ()


@contract()
async def test_a_learner_has_one_unfinished_run(stores: Stores) -> None:
    store = await stores.open()
    first = await begun(store, new_run("r1"))
    assert await store.create(new_run("r2"), at=T0 + 1) == (first, False)
    with pytest.raises(UnknownRelaunch):
        await store.load("r2")
    last = await taken(store, first, State.LAUNCHED)
    assert last.finished_at is not None
    assert (await store.create(new_run("r3"), at=T0 + 2))[1]


@contract()
async def test_one_that_is_to_launch_nothing_is_the_learners_only_one_too(stores: Stores) -> None:
    store = await stores.open()
    frees = await begun(store, replace(new_run("r1"), policy=Policy(launch=False)))
    assert not frees.run.policy.launch
    assert await store.create(new_run("r2"), at=T0 + 1) == (frees, False)
    assert (await taken(store, frees, State.FREED)).finished_at is not None
    launches = await begun(store, new_run("r3"))
    assert launches.run.policy.launch


@contract()
async def test_of_many_who_begin_at_once_one_does(stores: Stores) -> None:
    places = [await stores.open(), await stores.open()]
    answers = await asyncio.gather(
        *(places[n % 2].create(new_run(f"r{n}"), at=T0) for n in range(20))
    )
    assert sum(created for _, created in answers) == 1
    assert len({stored.run.relaunch_id for stored, _ in answers}) == 1
    assert len(await places[0].history(Filter())) == 1


@contract()
async def test_learners_with_odd_ids_never_meet(stores: Stores) -> None:
    store = await stores.open()
    for n, user_id in enumerate(ODD_IDS):
        stored, created = await store.create(new_run(f"r{n}", user_id), at=T0, key=f"{user_id}")
        assert created
        assert await store.load(f"r{n}") == stored
        (found,) = await store.history(Filter(user_id=user_id))
        assert (found.run.user_id, found.key) == (user_id, user_id)


@contract()
async def test_the_unfinished_are_counted(stores: Stores) -> None:
    store, other = await stores.open("one"), await stores.open("other")
    assert await store.unfinished() == 0
    await store.create(new_run("r1"), at=T0)
    await begun(store, new_run("r2", "bob"))
    await ended(store, new_run("r3", "cid"), State.FAILED)
    await store.create(new_run("r4", "dan"), at=T0)
    await other.create(new_run("r5"), at=T0)
    assert (await store.unfinished(), await other.unfinished()) == (3, 1)


@contract()
async def test_consumers_never_meet(stores: Stores) -> None:
    one, other = await stores.open("one"), await stores.open("other")
    mine = await begun(one, new_run("r1"), key="k")
    theirs, created = await other.create(new_run("r1", lab_profile_id=8), at=T0, key="k")
    assert created
    assert (one.consumer, other.consumer) == ("one", "other")
    await other.claim("r1", "you", at=T0)
    assert await one.load("r1") == mine
    assert (await other.load("r1")).run == theirs.run
    await taken(one, mine, State.TEARING_DOWN, target=5)
    assert await other.hint(5, at=T0) == ()
    assert await one.hint(5, at=T0) == ("r1",)
    assert await other.request_abort("r1", at=T0)
    assert not (await one.signals("r1")).abort_requested
    await one.retire("you")
    assert (await other.load("r1")).owner == "you"
    await one.change("text", lambda text: ("mine", None))
    assert await other.change("text", lambda text: (text, text)) is None


@contract()
async def test_a_key_joins_its_run_finished_or_not(stores: Stores) -> None:
    store = await stores.open()
    first = await begun(store, new_run("r1"), key="k")
    assert await store.create(new_run("r2", "bob"), at=T0, key="k") == (first, False)
    last = await taken(store, first, State.FAILED)
    assert await store.create(new_run("r3"), at=T0, key="k") == (last, False)
    other, created = await store.create(new_run("r4"), at=T0, key="other")
    assert created
    # Its own key goes before the learner's unfinished run.
    assert await store.create(new_run("r5"), at=T0, key="k") == (last, False)
    assert await store.create(new_run("r6"), at=T0, key=None) == (other, False)


@contract()
async def test_a_run_is_superseded_in_one_go(stores: Stores) -> None:
    store = await stores.open()
    first = await begun(store, new_run("r1"))
    ending = next_step(first, State.ABORTED, reason="superseded")
    second, created = await store.create(new_run("r2"), at=T0, key="k", replacing=ending)
    assert created
    assert await store.load("r1") == after(first, ending)
    assert [e.event for e in await store.journal("r1")] == ["Woke"]
    assert await store.load("r2") == second
    # Its driver must not take the other's step for its own, though version and epoch are the same.
    with pytest.raises(LeaseLost):
        await store.append(next_step(first, State.LAUNCHING, calling="launch"))
    # The answer got lost: the same again is the same.
    assert await store.create(new_run("r2"), at=T0, key="k", replacing=ending) == (second, True)


@contract()
async def test_what_has_gone_on_is_not_superseded(stores: Stores) -> None:
    store = await stores.open()
    first = await begun(store, new_run("r1"))
    late = next_step(first, State.ABORTED)
    moved = await taken(store, first, State.DISPLACING)
    assert await store.create(new_run("r2"), at=T0, replacing=late) == (moved, False)
    claimed = await store.claim("r1", "me", at=T0)
    stale = next_step(moved, State.ABORTED)
    assert await store.create(new_run("r2"), at=T0, replacing=stale) == (claimed, False)
    assert claimed is not None
    another = await begun(store, new_run("r3", "bob"))
    others = next_step(another, State.ABORTED)
    assert await store.create(new_run("r2"), at=T0, replacing=others) == (claimed, False)
    going_on = next_step(claimed, State.TEARING_DOWN)
    assert await store.create(new_run("r2"), at=T0, replacing=going_on) == (claimed, False)
    assert len(await store.journal("r1")) == 1
    assert await store.load("r3") == another


@contract()
async def test_a_run_with_the_same_key_is_never_superseded(stores: Stores) -> None:
    store = await stores.open()
    first = await begun(store, new_run("r1"), key="k")
    ending = next_step(first, State.ABORTED)
    assert await store.create(new_run("r2"), at=T0, key="k", replacing=ending) == (first, False)


@contract()
async def test_nothing_is_left_to_supersede(stores: Stores) -> None:
    store = await stores.open()
    first = await begun(store, new_run("r1"))
    late = next_step(first, State.ABORTED)
    last = await taken(store, first, State.LAUNCHED)
    assert (await store.create(new_run("r2"), at=T0, replacing=late))[1]
    assert await store.load("r1") == last


@contract()
async def test_a_run_may_be_created_again_until_somebody_goes_on_with_it(stores: Stores) -> None:
    store = await stores.open()
    stored, _ = await store.create(new_run("r1"), at=T0, key="k")
    assert await store.create(new_run("r1"), at=T0, key="k") == (stored, True)
    assert not (await store.create(new_run("r1", "bob"), at=T0))[1]
    claimed = await store.claim("r1", "me", at=T0)
    assert claimed is not None
    assert await store.create(new_run("r1"), at=T0, key="k") == (claimed, True)
    moved = await taken(store, claimed, State.SURVEYING)
    assert await store.create(new_run("r1"), at=T0, key="k") == (moved, False)


# --- the lease ------------------------------------------------------------------------------


@contract()
async def test_each_claim_is_a_new_epoch_and_what_is_held_is_not_given_away(stores: Stores) -> None:
    store = await stores.open()
    await store.create(new_run("r1"), at=T0)
    await store.beat("me", until=T0 + 5)
    mine = await store.claim("r1", "me", at=T0)
    assert mine is not None
    assert (mine.owner, mine.epoch) == ("me", 1)
    assert await store.load("r1") == mine
    assert await store.claim("r1", "you", at=T0 + 4) is None
    assert await store.load("r1") == mine
    taken_over = await store.claim("r1", "you", at=T0 + 4, take_over=True)
    assert taken_over == replace(mine, owner="you", epoch=2)


@contract()
async def test_a_run_may_be_created_as_claimed(stores: Stores) -> None:
    store, other = await stores.open(), await stores.open()
    await store.beat("me", until=T0 + 5)
    mine, created = await store.create(new_run("r1"), at=T0, owner="me")
    assert created
    assert (mine.owner, mine.epoch, mine.due_at) == ("me", 1, T0)
    assert await other.load("r1") == mine
    assert await other.claim("r1", "you", at=T0 + 4) is None
    assert await store.due("me", at=T0) == ("r1",)
    assert await store.create(new_run("r1"), at=T0, owner="you") == (mine, True)
    await taken(store, mine, State.SURVEYING)


@contract()
async def test_whoever_holds_a_run_may_claim_it_again(stores: Stores) -> None:
    store = await stores.open()
    await begun(store, new_run("r1"))
    again = await store.claim("r1", "me", at=T0)
    assert again is not None
    assert again.epoch == 2


@contract()
async def test_what_the_dead_held_is_free_where_owners_say_that_they_live(stores: Stores) -> None:
    store = await stores.open()
    await store.beat("me", until=T0 + 5)
    await begun(store, new_run("r1"))
    if store.engine == "fleet":
        # There, others know who is dead, and take over.
        assert await store.claim("r1", "you", at=T0 + 999) is None
        return
    await store.beat("me", until=T0 + 8)
    assert await store.claim("r1", "you", at=T0 + 7.9) is None
    assert await store.due("you", at=T0 + 7.9) == ()
    assert await store.due("you", at=T0 + 8) == ("r1",)
    claimed = await store.claim("r1", "you", at=T0 + 8)
    assert claimed is not None
    assert (claimed.owner, claimed.epoch) == ("you", 2)
    await store.beat("you", until=T0 + 20)
    await taken(store, claimed, State.TEARING_DOWN, due_at=T0 + 50)
    assert await store.next_due("me", after=T0 + 19.9) is None
    assert await store.next_due("me", after=T0 + 20) == T0 + 50


@contract()
async def test_a_run_that_has_ended_is_nobodys(stores: Stores) -> None:
    store = await stores.open()
    last = await ended(store, new_run("r1"))
    assert last.owner is None
    assert await store.load("r1") == last
    assert await store.claim("r1", "me", at=T0, take_over=True) is None
    assert not await store.holds("r1", last.epoch)
    assert await store.due(None, at=T0 + 1e6) == ()


@contract()
async def test_a_lease_is_let_go_by_its_holder_only(stores: Stores) -> None:
    store = await stores.open()
    await store.beat("me", until=T0 + 5)
    held = await begun(store, new_run("r1"))
    await store.release("r1", held.epoch + 1)
    assert (await store.load("r1")).owner == "me"
    await store.release("r1", held.epoch)
    await store.release("r1", held.epoch)
    assert await store.load("r1") == replace(held, owner=None)
    assert await store.claim("r1", "you", at=T0) is not None
    await store.release("nothing", 1)


@contract()
async def test_whoever_retires_lets_everything_go(stores: Stores) -> None:
    store = await stores.open()
    await store.beat("me", until=T0 + 5)
    await store.beat("you", until=T0 + 5)
    for n in range(3):
        await begun(store, new_run(f"r{n}", f"learner {n}"), "me" if n else "you")
    await store.retire("me")
    await store.retire("me")
    assert [(await store.load(f"r{n}")).owner for n in range(3)] == ["you", None, None]
    assert await store.due("other", at=T0) == ("r1", "r2")


@contract()
async def test_the_lease_in_force_is_the_last_one(stores: Stores) -> None:
    store = await stores.open()
    held = await begun(store, new_run("r1"))
    assert await store.holds("r1", held.epoch)
    assert not await store.holds("r1", held.epoch - 1)
    await store.claim("r1", "you", at=T0, take_over=True)
    assert not await store.holds("r1", held.epoch)
    with pytest.raises(UnknownRelaunch):
        await store.holds("nothing", 1)


# --- append ---------------------------------------------------------------------------------


@contract()
async def test_a_step_is_run_and_journal_in_one(stores: Stores) -> None:
    store = await stores.open()
    stored = await begun(store, with_everything("r1", "ann"))
    steps = []
    for state, calling in [
        (State.SURVEYING, "survey"),
        (State.LAUNCHING, "launch"),
        (State.TEARING_DOWN, None),
        (State.LAUNCHED, None),
    ]:
        step = next_step(stored, state, calling=calling, due_at=T0 + 7.5, target=4711)
        assert await store.append(step) == Signals()
        steps.append(step)
        stored = after(stored, step)
        assert await store.load("r1") == stored
    assert await store.journal("r1") == tuple(step.entry for step in steps)
    assert await (await stores.open()).journal("r1", after=2) == tuple(s.entry for s in steps[2:])
    assert await store.journal("r1", after=4) == ()
    with pytest.raises(UnknownRelaunch):
        await store.journal("nothing")


@contract()
async def test_a_journal_keeps_everything_that_an_entry_says(stores: Stores) -> None:
    store = await stores.open()
    stored = await begun(store, new_run("r1"))
    step = next_step(stored)
    progress = replace(
        step.entry.progress,
        message="Zeile\n\0 🙂",
        calling="cancel",
        next_look_at=T0 + 0.1,
        usual_seconds=(0.1, 2.0),
        lab_instance_id=2**53 + 1,
        attempt=3,
        elapsed_seconds=0.0,
    )
    entry = replace(step.entry, progress=progress, tag="mine relaunch=r1")
    await store.append(replace(step, entry=entry))
    assert await store.journal("r1") == (entry,)


@contract()
async def test_a_step_recorded_twice_is_recorded_once(stores: Stores) -> None:
    store = await stores.open()
    stored = await begun(store, new_run("r1"))
    for state in (State.TEARING_DOWN, State.LAUNCHED):
        step = next_step(stored, state)
        assert await store.append(step) == await store.append(step)
        stored = after(stored, step)
        assert await store.load("r1") == stored
    assert len(await store.journal("r1")) == 2


@contract()
async def test_only_the_next_step_of_the_holder_is_recorded(stores: Stores) -> None:
    store = await stores.open()
    old = await begun(store, new_run("r1"))
    new = await store.claim("r1", "you", at=T0, take_over=True)
    assert new is not None
    refused = [
        next_step(old),
        next_step(replace(new, epoch=new.epoch + 1)),
        next_step(replace(new, version=new.version + 1)),
        next_step(replace(new, version=new.version - 1)),
    ]
    for step in refused:
        with pytest.raises(LeaseLost):
            await store.append(step)
    assert await store.load("r1") == new
    assert await store.journal("r1") == ()
    moved = await taken(store, new, State.TEARING_DOWN)
    with pytest.raises(LeaseLost):
        await store.append(next_step(new, State.LAUNCHING))
    last = await taken(store, moved, State.LAUNCHED)
    with pytest.raises(LeaseLost):
        await store.append(next_step(last, State.TEARING_DOWN))
    assert await store.load("r1") == last
    with pytest.raises(UnknownRelaunch):
        await store.append(next_step(replace(new, run=new_run("nothing"))))


@contract()
async def test_of_two_who_record_at_once_the_one_with_the_lease_does(stores: Stores) -> None:
    one, other = await stores.open(), await stores.open()
    old = await begun(one, new_run("r1"))
    new = await other.claim("r1", "you", at=T0, take_over=True)
    assert new is not None
    answers = await asyncio.gather(
        *(store.append(next_step(held)) for held in (old, new) for store in (one, other)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [LeaseLost, LeaseLost, Signals, Signals]
    assert len(await one.journal("r1")) == 1


@contract()
async def test_what_fails_among_many_at_the_same_moment_harms_no_other(stores: Stores) -> None:
    store = await stores.open()
    held = [await begun(store, new_run(f"r{n}", f"learner {n}")) for n in range(30)]
    wrong = [n for n in range(30) if n % 3 == 0]
    steps = [next_step(replace(h, epoch=9) if n in wrong else h) for n, h in enumerate(held)]
    answers = await asyncio.gather(*map(store.append, steps), return_exceptions=True)
    assert [n for n, answer in enumerate(answers) if isinstance(answer, LeaseLost)] == wrong
    for n, (before, step) in enumerate(zip(held, steps, strict=True)):
        assert await store.load(f"r{n}") == (before if n in wrong else after(before, step))


# --- signals --------------------------------------------------------------------------------


@contract()
async def test_a_hint_reaches_exactly_the_runs_that_wait_for_it(stores: Stores) -> None:
    store = await stores.open()
    waiting = await begun(store, new_run("r1", "ann"))
    other = await begun(store, new_run("r2", "bob"))
    gone = await begun(store, new_run("r3", "cay"))
    waiting = await taken(store, waiting, State.TEARING_DOWN, target=5, due_at=T0 + 60)
    await taken(store, other, State.TEARING_DOWN, target=6, due_at=T0 + 60)
    await taken(store, gone, State.LAUNCHED, target=5)
    assert await store.hint(7, at=T0 + 1) == ()
    assert await store.hint(5, at=T0 + 2) == ("r1",)
    assert await store.hint(5, at=T0 + 3) == ("r1",)
    hinted = Signals(hints=2, hinted=5)
    expected = replace(waiting, signals=hinted, due_at=T0 + 2)
    assert await (await stores.open()).load("r1") == expected
    assert await store.signals("r1") == hinted
    assert await store.signals("r2") == Signals()
    assert await store.due("me", at=T0 + 2) == ("r1",)
    with pytest.raises(UnknownRelaunch):
        await store.signals("nothing")


@contract()
async def test_a_hint_does_not_put_off_what_is_due_earlier(stores: Stores) -> None:
    store = await stores.open()
    stored = await begun(store, new_run("r1"))
    await taken(store, stored, State.TEARING_DOWN, target=5, due_at=T0 + 1)
    await store.hint(5, at=T0 + 9)
    await store.request_abort("r1", at=T0 + 9)
    assert (await store.load("r1")).due_at == T0 + 1


@contract()
async def test_a_run_stays_due_until_its_driver_has_seen_the_hint(stores: Stores) -> None:
    store = await stores.open()
    stored = await begun(store, new_run("r1"))
    stored = await taken(store, stored, State.TEARING_DOWN, target=5)
    await store.hint(5, at=T0 + 2)
    unaware = next_step(stored, State.LOOKING, due_at=T0 + 60)
    assert await store.append(unaware) == Signals(hints=1, hinted=5)
    stored = await store.load("r1")
    assert (stored.due_at, stored.hints_seen) == (T0 + 2, 0)
    await store.append(next_step(stored, State.TEARING_DOWN, due_at=T0 + 60, hints_seen=1))
    stored = await store.load("r1")
    assert (stored.due_at, stored.hints_seen) == (T0 + 60, 1)


@contract()
async def test_the_wish_to_abort_is_stored_until_the_run_has_ended(stores: Stores) -> None:
    store = await stores.open()
    stored = await begun(store, new_run("r1"))
    stored = await taken(store, stored, State.TEARING_DOWN, due_at=T0 + 60)
    assert await store.request_abort("r1", at=T0 + 3)
    assert await store.request_abort("r1", at=T0 + 4)
    wish = Signals(abort_requested=True)
    assert await (await stores.open()).load("r1") == replace(stored, signals=wish, due_at=T0 + 3)
    assert await store.append(next_step(stored, State.LOOKING)) == wish
    stored = await store.load("r1")
    assert stored.due_at == T0 + 3
    await store.append(next_step(stored, State.ABORTED))
    assert not await store.request_abort("r1", at=T0 + 5)
    with pytest.raises(UnknownRelaunch):
        await store.request_abort("nothing", at=T0)


# --- due ------------------------------------------------------------------------------------


@contract()
async def test_due_runs_come_longest_due_first(stores: Stores) -> None:
    store = await stores.open()
    for n, due_at in enumerate([30.0, 10.0, 20.0, 40.0]):
        stored = await begun(store, new_run(f"r{n}", f"learner {n}"))
        await taken(store, stored, State.TEARING_DOWN, due_at=T0 + due_at)
        await store.release(f"r{n}", stored.epoch)
    await ended(store, new_run("r9", "learner 9"))
    assert await store.due(None, at=T0 + 9) == ()
    assert await store.due(None, at=T0 + 30) == ("r1", "r2", "r0")
    assert await store.due("me", at=T0 + 30, limit=2) == ("r1", "r2")
    assert await store.next_due("me", after=T0) == T0 + 10
    assert await store.next_due(None, after=T0 + 10) == T0 + 20
    assert await store.next_due(None, after=T0 + 40) is None


@contract()
async def test_what_another_living_one_holds_is_due_for_nobody_else(stores: Stores) -> None:
    store = await stores.open()
    await store.beat("me", until=T0 + 500)
    stored = await begun(store, new_run("r1"))
    await taken(store, stored, State.TEARING_DOWN, due_at=T0 + 10)
    for owner in ("you", None):
        assert await store.due(owner, at=T0 + 20) == ()
        assert await store.next_due(owner, after=T0) is None
    assert await store.due("me", at=T0 + 20) == ("r1",)
    assert await store.next_due("me", after=T0) == T0 + 10


# --- admission ------------------------------------------------------------------------------


async def _in_line(store: RunStore, *names: str, priority: Priority = Priority.BUTTON) -> None:
    for n, name in enumerate(names):
        run = new_run(name, f"learner {name}", created_at=T0 + n)
        await store.create(run, at=T0, priority=priority)


@contract()
async def test_as_many_begin_as_may_and_the_others_stand_in_line(stores: Stores) -> None:
    store = await stores.open()
    await _in_line(store, "a", "b", "c", "d")
    answers = [await store.admit(name, at=T0, most=2) for name in "abcd"]
    assert answers == [None, None, 0, 1]
    assert [(await store.load(name)).admitted for name in "abcd"] == [True, True, False, False]
    assert await store.admit("a", at=T0, most=2) is None
    assert await store.admit("d", at=T0 + 1, most=2) == 1
    begun_now = await store.claim("a", "me", at=T0)
    assert begun_now is not None
    assert begun_now.admitted
    await taken(store, begun_now, State.FAILED)
    # The place that is free now is for the first one in the line.
    assert await store.admit("d", at=T0 + 2, most=2) == 1
    assert await store.admit("c", at=T0 + 2, most=2) is None
    assert await store.admit("d", at=T0 + 2, most=2) == 0
    assert await store.admit("d", at=T0 + 2, most=3) is None
    assert await store.admit("a", at=T0 + 2, most=0) is None
    await ended(store, new_run("never in line"))
    assert await store.admit("never in line", at=T0 + 2, most=0) is None
    with pytest.raises(UnknownRelaunch):
        await store.admit("nothing", at=T0, most=1)


@contract()
async def test_a_button_goes_before_bulk_and_earlier_before_later(stores: Stores) -> None:
    store = await stores.open()
    await _in_line(store, "first")
    await _in_line(store, "bulk 1", "bulk 2", priority=Priority.BULK)
    await _in_line(store, "button 1", "button 2")
    line = ["bulk 2", "button 2", "bulk 1", "button 1"]
    for name in ["first", *line]:
        await store.admit(name, at=T0, most=1)
    assert {name: await store.admit(name, at=T0, most=1) for name in line} == {
        "button 1": 0, "button 2": 1, "bulk 1": 2, "bulk 2": 3,
    }  # fmt: skip


@contract()
async def test_whoever_stops_asking_leaves_the_line(stores: Stores) -> None:
    store = await stores.open()
    await _in_line(store, "a", "b", "c")
    assert await store.admit("a", at=T0, most=1) is None
    assert await store.admit("b", at=T0, most=1) == 0
    assert await store.admit("c", at=T0 + STANDING - 1, most=1) == 1
    assert await store.admit("c", at=T0 + STANDING, most=1) == 0


@contract()
async def test_a_run_past_its_deadline_keeps_nobody_waiting(stores: Stores) -> None:
    store = await stores.open()
    await _in_line(store, "a", "b")
    assert await store.admit("a", at=T0, most=1) is None
    assert await store.admit("b", at=T0 + 899, most=1) == 0
    assert await store.admit("b", at=T0 + 900, most=1) is None


@contract()
async def test_no_more_begin_than_may_whoever_asks_at_once(stores: Stores) -> None:
    places = [await stores.open(), await stores.open()]
    names = [f"r{n}" for n in range(20)]
    await _in_line(places[0], *names)
    answers = await asyncio.gather(
        *(places[n % 2].admit(name, at=T0, most=3) for n, name in enumerate(names))
    )
    assert answers.count(None) == 3


@contract()
async def test_each_is_told_by_how_many_it_may_make_itself(stores: Stores) -> None:
    store = await stores.open()
    await _in_line(store, "bulk 1", "bulk 2", "bulk 3", priority=Priority.BULK)
    await _in_line(store, "button")
    asked = {"bulk 1": 1, "bulk 2": 1, "bulk 3": 1, "button": 3}
    answers = await asyncio.gather(
        *(store.admit(name, at=T0, most=most) for name, most in asked.items())
    )
    assert answers[3] is None
    assert answers[:3].count(None) <= 1


# --- history and prune ----------------------------------------------------------------------


@contract()
async def test_a_history_is_newest_first_and_about_what_was_asked_for(stores: Stores) -> None:
    store = await stores.open()
    for n, (user_id, state) in enumerate(
        [("ann", State.LAUNCHED), ("ann", State.FAILED), ("bob", State.LAUNCHED)]
    ):
        await ended(store, new_run(f"r{n}", user_id, created_at=T0 + n), state)
    await begun(store, new_run("r3", "ann", created_at=T0 + 3))
    await begun(store, new_run("r4", "bob", created_at=T0 + 3))

    async def ids(**which: object) -> list[str]:
        found = await store.history(Filter(**which))  # type: ignore[arg-type]  # any of its fields
        return [stored.run.relaunch_id for stored in found]

    assert await ids() == ["r4", "r3", "r2", "r1", "r0"]
    assert await ids(limit=2) == ["r4", "r3"]
    assert await ids(user_id="ann") == ["r3", "r1", "r0"]
    assert await ids(state="launched") == ["r2", "r0"]
    assert await ids(unfinished=True) == ["r4", "r3"]
    assert await ids(unfinished=False) == ["r2", "r1", "r0"]
    assert await ids(created_since=T0 + 2) == ["r4", "r3", "r2"]
    assert await ids(user_id="ann", state="launched", unfinished=False) == ["r0"]
    assert await ids(user_id="nobody") == []
    assert (await store.history(Filter(limit=1)))[0] == await store.load("r4")


@contract()
async def test_what_ended_long_ago_is_forgotten_journal_and_all(stores: Stores) -> None:
    store, other = await stores.open(), await stores.open("other")
    for n in range(3):
        last = await ended(store, new_run(f"r{n}", f"learner {n}"), key=f"k{n}")
    await ended(other, new_run("r0"))
    await begun(store, new_run("r9", "learner 9"))
    at = last.finished_at
    assert at is not None
    assert await store.prune(before=at) == 0
    assert await store.prune(before=at + 0.1) == 3
    assert await store.prune(before=at + 1e6) == 0
    for use in (store.load, store.journal, store.signals):
        with pytest.raises(UnknownRelaunch):
            await use("r0")
    assert [stored.run.relaunch_id for stored in await store.history(Filter())] == ["r9"]
    assert len(await other.journal("r0")) == 1
    assert (await store.create(new_run("r0"), at=T0, key="k0"))[1]
    assert await store.journal("r0") == ()


# --- shared texts, and watching -------------------------------------------------------------


@contract()
async def test_no_change_of_a_shared_text_is_lost(stores: Stores) -> None:
    places = [await stores.open(), await stores.open()]

    def count(text: str | None) -> tuple[str | None, int]:
        number = int(text or 0) + 1
        return str(number), number

    answers = await asyncio.gather(*(places[n % 2].change("count", count) for n in range(60)))
    assert sorted(answers) == list(range(1, 61))
    assert await places[0].change("count", lambda text: (text, text)) == "60"
    assert await places[0].change("other", lambda text: (text, text)) is None
    assert await places[1].change("count", lambda text: (None, text)) == "60"
    assert await places[0].change("count", lambda text: (None, text)) is None


@contract()
async def test_a_change_that_fails_changes_nothing(stores: Stores) -> None:
    store = await stores.open()
    await store.change("text", lambda text: ("as it was", None))

    def fail(text: str | None) -> tuple[str | None, None]:
        raise ValueError(text)

    with pytest.raises(ValueError, match="as it was"):
        await store.change("text", fail)
    assert await store.change("text", lambda text: (text, text)) == "as it was"


class _Watching:
    """Collects what a watcher is told."""

    def __init__(self, store: RunStore) -> None:
        self.told: set[str | None] = set()
        self._more = asyncio.Event()
        self.stop = store.watch(self._changed)

    def _changed(self, relaunch_id: str | None) -> None:
        self.told.add(relaunch_id)
        self._more.set()

    async def until(self, relaunch_id: str) -> None:
        """Wait until this run may have changed; too long is a failure of the test."""
        async with asyncio.timeout(10):
            while not self.told & {relaunch_id, None}:
                await self._more.wait()
                self._more.clear()
        self.told.clear()


@contract()
async def test_every_change_is_told_to_who_watches_here_or_elsewhere(stores: Stores) -> None:
    here, elsewhere = await stores.open(), await stores.open()
    watching = [_Watching(here), _Watching(elsewhere)]

    async def told(relaunch_id: str) -> None:
        for each in watching:
            await each.until(relaunch_id)

    await here.create(new_run("r1"), at=T0)
    await told("r1")
    stored = await here.claim("r1", "me", at=T0)
    assert stored is not None
    stored = await taken(here, stored, State.TEARING_DOWN, target=5)
    if elsewhere is not here:
        await watching[1].until("r1")
    await elsewhere.hint(5, at=T0)
    await told("r1")
    await here.request_abort("r1", at=T0)
    await told("r1")
    await here.release("r1", stored.epoch)
    await told("r1")
    stored = await here.claim("r1", "me", at=T0)
    assert stored is not None
    await elsewhere.retire("me")
    await told("r1")
    await taken(here, stored, State.LAUNCHED)
    await told("r1")
    for each in watching:
        each.stop()
        each.stop()


@contract()
async def test_an_owner_is_not_told_of_what_it_does_before_the_end(stores: Stores) -> None:
    store = await stores.open()
    told: list[str] = []
    is_told = asyncio.Event()

    def tell(relaunch_id: str | None) -> None:
        if relaunch_id is not None:
            told.append(relaunch_id)
            is_told.set()

    stop = store.watch(tell)
    stored, _ = await store.create(new_run("r1"), at=T0, owner="me")
    await taken(store, stored, State.TEARING_DOWN, target=5)
    await store.hint(5, at=T0)
    await asyncio.wait_for(is_told.wait(), 10)
    assert told == ["r1"]
    stop()


@contract()
async def test_who_has_stopped_watching_is_told_no_more(stores: Stores) -> None:
    store = await stores.open()
    gone, watching = _Watching(store), _Watching(store)
    gone.stop()
    await asyncio.sleep(0)
    gone.told.clear()
    await store.create(new_run("r1"), at=T0)
    await watching.until("r1")
    assert gone.told == set()
    watching.stop()


# --- following ------------------------------------------------------------------------------


@contract()
async def test_of_many_runs_those_that_have_moved_on_are_told(stores: Stores) -> None:
    store = await stores.open()
    still, moving, ending = [await begun(store, new_run(f"r{n}", ODD_IDS[n])) for n in (1, 2, 3)]
    seen = {stored.run.relaunch_id: 0 for stored in (still, moving, ending)}
    assert await store.moved_on(seen) == {}
    await taken(store, await taken(store, moving, State.DISPLACING), State.TEARING_DOWN)
    await taken(store, ending, State.LAUNCHED)
    # What reaches a run from outside is no step of it.
    await store.request_abort("r1", at=T0)
    moved = await store.moved_on(seen)
    assert moved == {"r2": (2, False), "r3": (1, True)}
    assert await store.moved_on({**seen, "r2": 2, "r3": 1}) == {}
    # Somebody may claim to have seen more than there is.
    assert await store.moved_on({"r2": 99}) == {"r2": (2, False)}
    assert await store.moved_on({}) == {}


@contract()
async def test_a_run_that_is_gone_has_moved_on_to_its_end(stores: Stores) -> None:
    store, other = await stores.open(), await stores.open("other")
    await ended(store, new_run("r1"))
    await begun(other, new_run("r2"))
    odd = dict.fromkeys(ODD_IDS, 3)
    assert await store.prune(before=T0 + 1_000) == 1
    gone = dict.fromkeys(["r1", "r2", *ODD_IDS], (3, True))
    assert await store.moved_on({"r1": 3, "r2": 3, **odd}) == gone


@contract()
async def test_any_number_of_runs_is_looked_at(stores: Stores) -> None:
    store = await stores.open()
    await begun(store, new_run("r1700"))
    many = {f"r{n}": 0 for n in range(2_500)}
    moved = await store.moved_on(many)
    assert len(moved) == 2_499
    assert "r1700" not in moved


# --- versions -------------------------------------------------------------------------------


@contract(*DATABASES)
async def test_runs_of_a_newer_program_are_left_alone(stores: Stores) -> None:
    store = await stores.open()
    await store.create(new_run("r1"), at=T0, key="k")
    assert stores.make_newer is not None
    stores.make_newer()
    await store.create(new_run("r2", "bob"), at=T0)
    assert await store.claim("r1", "me", at=T0, take_over=True) is None
    assert await store.due("me", at=T0) == ("r2",)
    assert await store.next_due("me", after=T0 - 1) == T0
    assert [stored.run.relaunch_id for stored in await store.history(Filter(limit=1))] == ["r2"]
    assert [stored.run.relaunch_id for stored in await store.history(Filter())] == ["r2"]
    for again in (new_run("r3"), new_run("r4", "cay")):
        with pytest.raises(StoreIncompatible, match="newer"):
            await store.create(again, at=T0, key="k")
    with pytest.raises(StoreIncompatible, match="newer"):
        await store.create(new_run("r5"), at=T0)
    with pytest.raises(StoreIncompatible, match="newer"):
        await store.load("r1")
    assert await store.request_abort("r1", at=T0)
    assert (await store.signals("r1")).abort_requested
