"""The PostgreSQL store, beyond the contract: connections, wake-ups, group commit, outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
import pytest

from orchestrator.durable.batches import BatchState
from orchestrator.durable.migrating import Migration, migrations
from orchestrator.durable.postgres import PostgresRunStore
from orchestrator.durable.postgres.connections import Connection, Connections
from orchestrator.durable.store import Filter, Signals, StoredRun
from orchestrator.errors import (
    ConfigurationError,
    LeaseLost,
    StoreIncompatible,
    StoreUnavailable,
    UnknownRelaunch,
)
from orchestrator.machine.run import Policy, Run
from orchestrator.machine.vocabulary import State
from tests.contract.stores import T0, after, begun, new_run, next_step
from tests.contract.test_batch_stores import LAUNCHED, new_batch, new_items
from tests.postgres import OurServer, PostgresServer

T = TypeVar("T")


@asynccontextmanager
async def opened(*stores: PostgresRunStore) -> AsyncIterator[None]:
    """The stores, open."""
    try:
        await asyncio.gather(*(store.open() for store in stores))
        yield
    finally:
        for store in stores:
            await store.close()


def a_run(number: int = 1, **known: Any) -> Run:
    """A run of a learner of its own."""
    return new_run(f"run-{number}", known.pop("user_id", f"learner-{number}"), **known)


async def claimed(store: PostgresRunStore, number: int = 1) -> StoredRun:
    """A new run, claimed."""
    return await begun(store, a_run(number))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something to become true; the test's timeout ends it if it never does."""
    while not holds():  # noqa: ASYNC110 - what it waits for has no event to set
        await asyncio.sleep(0.01)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call again while the store is away, as a driver does."""
    while True:
        try:
            return await call()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


# --- opening -------------------------------------------------------------------------------------


async def many_open_at_once(url: str) -> None:
    stores = [PostgresRunStore(url) for _ in range(8)]
    async with opened(*stores):
        await stores[0].create(a_run(), at=T0)
        assert (await stores[7].load("run-1")).run == a_run()


def test_many_workers_may_open_an_empty_database_at_once(postgres_url: str) -> None:
    asyncio.run(many_open_at_once(postgres_url))


def test_schemas_of_a_database_are_stores_apart(postgres_url: str) -> None:
    async def scenario() -> None:
        here, there = (PostgresRunStore(postgres_url, schema=s) for s in ("here", "there"))
        async with opened(here, there):
            await here.create(a_run(), at=T0)
            with pytest.raises(UnknownRelaunch):
                await there.load("run-1")

    asyncio.run(scenario())


def test_a_database_of_a_later_program_is_refused_or_shared_as_it_says(postgres_url: str) -> None:
    async def scenario() -> None:
        next_one = len(migrations("postgres")) + 1
        shared = Migration(next_one, 1, "ALTER TABLE runs ADD COLUMN later text")
        closed = Migration(next_one + 1, next_one + 1, "ALTER TABLE runs DROP COLUMN later")
        for later, usable in ((shared, True), (closed, False)):
            connections = Connections(postgres_url, "lab_relaunch")
            await connections.open([*migrations("postgres"), shared, closed][: later.version])
            await connections.close()
            store = PostgresRunStore(postgres_url)
            if usable:
                async with opened(store):
                    await claimed(store)
            else:
                with pytest.raises(StoreIncompatible):
                    await store.open()

    asyncio.run(scenario())


def test_a_database_of_the_first_schema_is_brought_up_while_an_older_program_uses_it(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        older, newer, another = (PostgresRunStore(postgres_url) for _ in range(3))
        await older.connections.open(migrations("postgres")[:1])
        try:
            stored = await claimed(older)
            async with opened(newer, another):
                batch, items = new_batch(total=2), new_items(2)
                answers = await asyncio.gather(
                    *(store.batches.create(batch, items) for store in (newer, another))
                )
                assert sorted(created for _, created in answers) == [False, True]
                step = next_step(stored, State.LAUNCHED)
                await older.append(step)
                assert await newer.load("run-1") == after(stored, step)
                assert await older.prune(before=T0 + 1e6) == 1
                assert await another.batches.load("monday") == batch
        finally:
            await older.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("place", ["127.0.0.1:1/relaunch", "127.0.0.1:hunter2/", "hunter2@[::1]"])
def test_no_server_is_told_as_such_and_the_password_is_not(place: str) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(f"postgresql://relaunch:hunter2@{place}")
        with pytest.raises(StoreUnavailable) as caught:
            await store.open()
        assert "hunter2" not in str(caught.value)

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["postgresql://me:hunter2@[host/relaunch", "hunter2"])
def test_a_url_that_can_not_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresRunStore(url)
    assert "hunter2" not in str(caught.value)


# --- transitions ---------------------------------------------------------------------------------


def test_steps_recorded_together_are_judged_one_by_one(postgres_url: str) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            runs = [await claimed(store, n) for n in range(60)]
            for stale in range(0, 60, 3):
                await store.claim(f"run-{stale}", "another", at=T0, take_over=True)
            unstorable = 7
            answers = await asyncio.gather(
                *(
                    store.append(next_step(stored, target=2**70 if n == unstorable else n))
                    for n, stored in enumerate(runs)
                ),
                return_exceptions=True,
            )
            for n, answer in enumerate(answers):
                version = (await store.load(f"run-{n}")).version
                if n % 3 == 0:
                    assert (type(answer), version) == (LeaseLost, 0)
                elif n == unstorable:
                    assert isinstance(answer, psycopg.DataError)
                    assert version == 0
                else:
                    assert (answer, version) == (Signals(), 1)

    asyncio.run(scenario())


def test_a_step_whose_answer_was_lost_may_be_recorded_again(postgres_url: str) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            stored = await claimed(store)
            first = next_step(stored, target=5)
            await store.append(first)
            await store.hint(5, at=T0)
            assert await store.append(first) == Signals(hints=1, hinted=5)
            with pytest.raises(LeaseLost):
                await store.append(next_step(stored, target=6))
            last = next_step(after(stored, first), State.FAILED)
            await store.append(last)
            assert await store.append(last) == Signals(hints=1, hinted=5)
            assert len(await store.journal("run-1")) == 2

    asyncio.run(scenario())


def test_a_run_is_stored_with_what_its_creation_brings_about_or_not_at_all(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        async def note(connection: Connection, new: Sequence[StoredRun]) -> None:
            for stored in new:
                await connection.execute("INSERT INTO notes VALUES (%s)", (stored.run.relaunch_id,))

        store = PostgresRunStore(postgres_url, on_create=note)
        async with opened(store):
            with pytest.raises(StoreIncompatible):  # there is no such table yet
                await store.create(a_run(1), at=T0)
            await store.connections.run("CREATE TABLE notes (relaunch_id text)", ())
            await store.create(a_run(2), at=T0)
            await store.create(a_run(3, user_id="learner-2"), at=T0)
            assert await store.connections.run("SELECT * FROM notes", ()) == [("run-2",)]
            assert [s.run.relaunch_id for s in await store.history(Filter())] == ["run-2"]

    asyncio.run(scenario())


def test_a_run_that_launches_nothing_is_marked_for_older_programs_to_leave_alone(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            for number, policy in enumerate((Policy(), Policy(launch=False))):
                stored = await begun(store, a_run(number, policy=policy))
                await store.append(next_step(stored))
            query = "SELECT relaunch_id, run_schema FROM runs ORDER BY relaunch_id"
            assert await store.connections.run(query, ()) == [("run-0", 1), ("run-1", 2)]

    asyncio.run(scenario())


# --- batches -------------------------------------------------------------------------------------


def test_an_item_that_can_not_be_stored_keeps_no_other_from_it(postgres_url: str) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            batches, items = store.batches, new_items(20)
            await batches.create(new_batch(total=20), items)
            for item in items:
                await batches.begin(
                    "monday", item.number, attempt=1, relaunch_id=f"r{item.number}", at=T0
                )
            unstorable = 7
            answers = await asyncio.gather(
                *(
                    batches.finish(
                        "monday",
                        item.number,
                        replace(LAUNCHED, api_calls=2**70 if item.number == unstorable else 1),
                        attempt=1,
                        at=T0,
                    )
                    for item in items
                ),
                return_exceptions=True,
            )
            assert isinstance(answers.pop(unstorable - 1), psycopg.DataError)
            assert answers == [True] * 19
            counts = await batches.counts("monday")
            assert (counts.in_flight, counts.ended) == (1, {"launched": 19})

    asyncio.run(scenario())


def test_those_who_change_the_same_items_in_opposite_orders_never_wait_for_each_other(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        stores = [PostgresRunStore(postgres_url) for _ in range(2)]
        async with opened(*stores):
            total = 400
            await stores[0].batches.create(new_batch(total=total), new_items(total))
            upwards = range(1, total + 1)
            for attempt in range(1, 9):
                begun = await asyncio.gather(
                    *(
                        store.batches.begin(
                            "monday", number, attempt=attempt, relaunch_id="r", at=T0
                        )
                        for store, numbers in zip(stores, (upwards, upwards[::-1]), strict=True)
                        for number in numbers
                    )
                )
                assert all(begun)
        # (What a connection counts is told at the latest when it ends.)
        async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
            found = await connection.execute(
                "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            )
            assert await found.fetchone() == (0,)

    asyncio.run(scenario())


def test_no_item_outlives_its_batch(postgres_url: str) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            await store.batches.create(new_batch("old", 5, ended_at=T0), new_items(5))
            await store.batches.create(new_batch("going", 3), new_items(3))
            assert await store.batches.prune(before=T0 + 1) == 1
            left = await store.connections.run("SELECT count(*) FROM batch_items", ())
            assert left == [(3,)]

    asyncio.run(scenario())


def test_a_restart_of_the_server_loses_and_doubles_no_item(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    if not isinstance(postgres_server, OurServer):
        pytest.skip("this server is not ours to stop")

    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            batches, total = store.batches, 20
            await batches.create(new_batch(total=total), new_items(total))
            attempts, going = dict.fromkeys(range(1, total + 1), 0), True

            async def carry_out(number: int) -> None:
                while going:
                    attempt = attempts[number] + 1

                    async def begin(attempt: int = attempt) -> bool:
                        relaunch_id = f"r{number}.{attempt}"
                        return await batches.begin(
                            "monday", number, attempt=attempt, relaunch_id=relaunch_id, at=T0
                        )

                    async def finish(attempt: int = attempt) -> bool:
                        return await batches.finish(
                            "monday", number, LAUNCHED, attempt=attempt, at=T0 + attempt
                        )

                    # Asked again whenever the answer got lost, each still hears that it is stored.
                    assert await patiently(begin)
                    assert await patiently(finish)
                    attempts[number] = attempt

            async def hold() -> None:
                while going:
                    held = await patiently(
                        lambda: batches.hold("monday", "me", at=T0, until=T0 + 60)
                    )
                    assert held.holder == "me"
                    await asyncio.sleep(0.01)

            tasks = [asyncio.create_task(carry_out(number)) for number in attempts]
            tasks.append(asyncio.create_task(hold()))
            for _ in range(2):
                before = dict(attempts)
                await until(
                    lambda before=before: all(  # type: ignore[misc]
                        attempts[n] > was + 2 for n, was in before.items()
                    )
                )
                await asyncio.to_thread(postgres_server.stop)
                await asyncio.to_thread(postgres_server.start)
            before = dict(attempts)
            await until(lambda: all(attempts[n] > was + 2 for n, was in before.items()))
            going = False
            await asyncio.gather(*tasks)
            for stored in await batches.items("monday"):
                attempt = attempts[stored.item.number]
                assert (stored.attempt, stored.ended_at) == (attempt, T0 + attempt)
                assert stored.result == LAUNCHED

    asyncio.run(scenario())


def test_a_server_that_is_away_makes_batches_unavailable(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    if not isinstance(postgres_server, OurServer):
        pytest.skip("this server is not ours to stop")

    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            batches = store.batches
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: batches.create(new_batch(), new_items()),
                lambda: batches.load("monday"),
                lambda: batches.find("f1"),
                lambda: batches.history(),
                lambda: batches.items("monday"),
                lambda: batches.begin("monday", 1, attempt=1, relaunch_id="r", at=T0),
                lambda: batches.finish("monday", 1, LAUNCHED, attempt=1, at=T0),
                lambda: batches.counts("monday"),
                lambda: batches.hold("monday", "me", at=T0, until=T0 + 1),
                lambda: batches.let_go("monday", "me"),
                lambda: batches.change(
                    "monday", BatchState.ENDED, only_from=frozenset(BatchState), at=T0
                ),
                lambda: batches.prune(before=T0 + 1),
            ]
            await asyncio.to_thread(postgres_server.stop)
            try:
                answers = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
            finally:
                await asyncio.to_thread(postgres_server.start)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * len(calls)
            for call in calls:
                await patiently(call)
            assert await batches.history() == ()

    asyncio.run(scenario())


# --- shared texts, and the line ------------------------------------------------------------------


def test_no_change_of_a_shared_text_is_lost_among_processes(postgres_url: str) -> None:
    async def scenario() -> None:
        stores = [PostgresRunStore(postgres_url) for _ in range(4)]
        async with opened(*stores):

            async def count(store: PostgresRunStore) -> int:
                return await store.change(
                    "count", lambda text: (str(int(text or 0) + 1), int(text or 0))
                )

            seen = await asyncio.gather(*(count(stores[n % 4]) for n in range(200)))
            assert sorted(seen) == list(range(200))
            assert await stores[0].change("count", lambda text: (None, text)) == "200"
            assert await count(stores[1]) == 0

    asyncio.run(scenario())


def test_processes_let_in_no_more_than_are_allowed(postgres_url: str) -> None:
    async def scenario() -> None:
        stores = [PostgresRunStore(postgres_url) for _ in range(3)]
        async with opened(*stores):
            for n in range(30):
                await stores[0].create(a_run(n), at=T0)
            places = await asyncio.gather(
                *(stores[n % 3].admit(f"run-{n}", at=T0, most=10) for n in range(30))
            )
            assert sum(place is None for place in places) == 10

    asyncio.run(scenario())


# --- wake-ups ------------------------------------------------------------------------------------


def test_another_process_is_told_of_hints_aborts_and_transitions(postgres_url: str) -> None:
    async def scenario() -> None:
        here, there = PostgresRunStore(postgres_url), PostgresRunStore(postgres_url)
        async with opened(here, there):
            told: list[str | None] = []
            there.watch(told.append)
            await until(lambda: told == [None])  # it listens from now on
            hinted = await claimed(here, 1)
            await here.append(next_step(hinted, target=5))
            await until(lambda: "run-1" in told)
            for act in (
                lambda: here.hint(5, at=T0),
                lambda: here.request_abort("run-1", at=T0),
                lambda: here.append(next_step(after(hinted, next_step(hinted)), State.FAILED)),
            ):
                told.clear()
                await act()
                await until(lambda: "run-1" in told)

    asyncio.run(scenario())


def test_whoever_missed_notifications_is_told_that_anything_may_have_changed(
    postgres_url: str,
) -> None:
    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            told: list[str | None] = []
            store.watch(told.append)
            await until(lambda: told == [None])
            await store.connections.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN%%' OR query = 'SELECT 1'",
                (),
            )
            await until(lambda: told == [None, None])

    asyncio.run(scenario())


# --- outages -------------------------------------------------------------------------------------


def test_a_restart_of_the_server_loses_and_doubles_nothing(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    if not isinstance(postgres_server, OurServer):
        pytest.skip("this server is not ours to stop")

    async def scenario() -> None:
        store = PostgresRunStore(postgres_url)
        async with opened(store):
            told: list[str | None] = []
            store.watch(told.append)
            recorded = [0] * 20
            going = True

            async def drive(number: int) -> None:
                stored = await claimed(store, number)
                while going:
                    step = next_step(stored)
                    await patiently(lambda step=step: store.append(step))  # type: ignore[misc]
                    stored = after(stored, step)
                    recorded[number] = stored.version

            tasks = [asyncio.create_task(drive(number)) for number in range(20)]
            await until(lambda: min(recorded) > 3)
            for _ in range(3):
                await asyncio.to_thread(postgres_server.stop)
                before = list(recorded)
                told.clear()
                await asyncio.to_thread(postgres_server.start)
                await until(
                    lambda before=before: all(  # type: ignore[misc]
                        now > was + 3 for now, was in zip(recorded, before, strict=True)
                    )
                )
                await until(lambda: None in told)
            going = False
            await asyncio.gather(*tasks)
            for number, version in enumerate(recorded):
                assert (await store.load(f"run-{number}")).version == version
                journal = await store.journal(f"run-{number}")
                assert [e.progress.sequence for e in journal] == list(range(1, version + 1))

    asyncio.run(scenario())
