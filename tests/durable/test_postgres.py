"""The PostgreSQL store, beyond the contract: connections, wake-ups, group commit, outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
import pytest

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
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import State
from tests.contract.stores import T0, after, begun, new_run, next_step
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
