"""The fleet, with real worker processes: killed, stopped, cut off from the database."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("procrastinate", reason="needs the extra: pip install lab-relaunch[fleet]")

import psycopg
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import ConnectorException

from orchestrator.durable.fleet.queue import Fleet
from orchestrator.durable.postgres import PostgresRunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.machine.vocabulary import State
from orchestrator.requests import Priority
from tests.contract.stores import T0, new_run, next_step
from tests.durable.fleet_worker import Diary, a_fleet
from tests.postgres import OurServer, PostgresServer

ROOT = Path(__file__).parents[2]


@contextmanager
def worker(url: str, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; killed at the end."""
    command = [sys.executable, "-m", "tests.durable.fleet_worker", url, name]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def a_starter(url: str) -> AsyncIterator[tuple[Fleet, PostgresRunStore, Diary]]:
    """The part of a process that only starts relaunches."""
    async with a_fleet(url, "starter") as (fleet, store):
        await fleet.open()
        diary = Diary(store)
        await diary.open()
        yield fleet, store, diary


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something to become true; the test's timeout ends it if it never does."""
    while not await holds():  # noqa: ASYNC110 - what it waits for is done by other processes
        await asyncio.sleep(0.05)


async def start(store: PostgresRunStore, *numbers: int) -> None:
    """Store runs."""
    for number in numbers:
        await store.create(new_run(f"run-{number}", f"learner-{number}"), at=T0)


async def has(diary: Diary, *lines: tuple[str, str, str]) -> bool:
    """Whether all that was done."""
    return set(lines) <= set(await diary.read())


async def ended(store: PostgresRunStore) -> bool:
    """Whether every run has."""
    return not await store.unfinished()


def test_another_worker_goes_on_with_what_a_killed_one_drove(postgres_url: str) -> None:
    async def scenario() -> None:
        async with a_starter(postgres_url) as (_, store, diary):
            with worker(postgres_url, "a") as first:
                await start(store, 1, 2)
                await until(lambda: has(diary, ("run-1", "a", "began"), ("run-2", "a", "began")))
                with worker(postgres_url, "b"):
                    first.send_signal(signal.SIGKILL)
                    await until(
                        lambda: has(diary, ("run-1", "b", "began"), ("run-2", "b", "began"))
                    )
                    await diary.let_end()
                    await until(lambda: ended(store))

    asyncio.run(scenario())


def test_a_stopping_worker_hands_over_what_it_drives(postgres_url: str) -> None:
    async def scenario() -> None:
        async with a_starter(postgres_url) as (_, store, diary):
            with worker(postgres_url, "a") as first:
                await start(store, 1)
                await until(lambda: has(diary, ("run-1", "a", "began")))
                with worker(postgres_url, "b"):
                    first.send_signal(signal.SIGTERM)
                    assert await asyncio.to_thread(first.wait) == 0
                    assert await has(diary, ("run-1", "a", "left"))
                    await until(lambda: has(diary, ("run-1", "b", "began")))
                    await diary.let_end()
                    await until(lambda: ended(store))

    asyncio.run(scenario())


def test_a_restart_of_the_server_moves_no_run_and_loses_none(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    if not isinstance(postgres_server, OurServer):
        pytest.skip("this server is not ours to stop")

    async def scenario() -> None:
        async with a_starter(postgres_url) as (_, store, diary):
            with worker(postgres_url, "a"), worker(postgres_url, "b"):
                await start(store, *range(10))

                async def all_begun() -> bool:
                    return len(await diary.read()) == 10

                await until(all_begun)
                await asyncio.to_thread(postgres_server.stop)
                # This takes longer than a worker may be silent.
                with pytest.raises(StoreUnavailable):
                    await store.load("run-0")
                await asyncio.to_thread(postgres_server.start)
                # Only a worker that has found its way back can drive this one.
                await start(store, 10)
                await until(lambda: _anybody_began(diary, "run-10"))
                await diary.let_end()
                await until(lambda: ended(store))
            done = await diary.read()
            assert sorted(i for i, _, what in done if what == "began") == sorted(
                f"run-{n}" for n in range(11)
            )
            assert {what for _, _, what in done} == {"began", "ended"}

    asyncio.run(scenario())


async def _anybody_began(diary: Diary, relaunch_id: str) -> bool:
    return any(i == relaunch_id for i, _, _ in await diary.read())


def test_workers_may_start_at_once_on_an_empty_database(postgres_url: str) -> None:
    async def scenario() -> None:
        with worker(postgres_url, "a"), worker(postgres_url, "b"):
            async with a_starter(postgres_url) as (_, store, diary):
                await diary.let_end()
                await start(store, *range(20))
                await until(lambda: ended(store))

    asyncio.run(scenario())


def test_a_server_that_goes_away_while_the_queue_is_opened_may_be_asked_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with psycopg's own error, which whoever waits for a server doesn't expect."""
    check = App.check_connection_async
    losses: list[type[psycopg.Error]] = [psycopg.errors.AdminShutdown, psycopg.OperationalError]

    async def lost(_: App) -> bool:
        error = losses.pop()("terminating connection due to administrator command")
        if losses:
            raise ConnectorException from error
        raise error

    async def scenario() -> None:
        async with a_fleet(postgres_url, "starter") as (fleet, _):
            monkeypatch.setattr(App, "check_connection_async", lost)
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await fleet.open()
            monkeypatch.setattr(App, "check_connection_async", check)
            await fleet.open()
        assert losses == []

    asyncio.run(scenario())


def test_a_run_without_a_job_is_given_one(postgres_url: str) -> None:
    async def scenario() -> None:
        async with a_starter(postgres_url) as (fleet, store, diary):
            await diary.let_end()
            await fleet.close()
            await start(store, 1)  # nobody queues it: this process has no part in the fleet now
            with worker(postgres_url, "a"):
                await until(lambda: ended(store))

    asyncio.run(scenario())


@asynccontextmanager
async def working(
    url: str, note: Callable[[str], object], *, prepare: Sequence[Priority] = (), **settings: int
) -> AsyncIterator[PostgresRunStore]:
    """A worker in this process, that notes each run and ends it. Runs may wait for it already."""
    store = PostgresRunStore(url)

    async def drive(relaunch_id: str) -> None:
        note(relaunch_id)
        stored = await store.claim(relaunch_id, "me", at=T0, take_over=True)
        if stored is not None:
            await store.append(next_step(stored, State.LAUNCHED))

    fleet = Fleet(store, drive, stalled_after_seconds=1.0, **settings)
    await fleet.open()
    for number, priority in enumerate(prepare):
        run = new_run(f"run-{number}", f"learner-{number}")
        await store.create(run, at=T0, priority=priority)
    work = asyncio.create_task(fleet.work())
    try:
        yield store
    finally:
        fleet.stop()
        await work
        await fleet.close()
        await store.close()


def test_a_driver_that_fails_is_tried_again(postgres_url: str) -> None:
    async def scenario() -> None:
        tries: list[str] = []

        def note(relaunch_id: str) -> None:
            tries.append(relaunch_id)
            if len(tries) == 1:
                raise ValueError("a bug")

        async with working(postgres_url, note) as store:
            await start(store, 1)
            await until(lambda: ended(store))
        assert tries == ["run-1", "run-1"]

    asyncio.run(scenario())


def test_a_job_that_a_worker_was_given_without_hearing_of_it_is_found(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []
    execute = PsycopgConnector.execute_query_one_async

    async def lose_one(self: PsycopgConnector, query: str, **arguments: Any) -> dict[str, Any]:
        row: dict[str, Any] = await execute(self, query, **arguments)
        if not lost and row.get("task_name") == "drive":
            lost.append(row["id"])
            raise ConnectorException from psycopg.OperationalError("the connection was lost")
        return row

    async def scenario() -> None:
        driven: list[str] = []
        async with working(postgres_url, driven.append) as store:
            await start(store, 1)
            await until(lambda: ended(store))
        assert lost
        assert driven == ["run-1"]

    monkeypatch.setattr(PsycopgConnector, "execute_query_one_async", lose_one)
    asyncio.run(scenario())


def test_a_job_that_another_worker_has_ended_is_left_at_that(postgres_url: str) -> None:
    def end_it(_: str) -> None:
        path = "-c search_path=lab_relaunch"
        with psycopg.connect(postgres_url, options=path, autocommit=True) as connection:
            connection.execute("DELETE FROM procrastinate_jobs WHERE task_name = 'drive'")

    async def scenario() -> None:
        complaints: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
        async with working(postgres_url, end_it) as store:
            await start(store, 1)
            await until(lambda: ended(store))
        gc.collect()  # a failure that nobody asks for is told when it is collected
        assert complaints == []

    asyncio.run(scenario())


def test_many_runs_created_at_once_are_each_driven_once(postgres_url: str) -> None:
    async def scenario() -> None:
        driven: list[str] = []
        async with working(postgres_url, driven.append) as store:
            await asyncio.gather(*(start(store, number) for number in range(500)))
            await until(lambda: ended(store))
        assert sorted(driven) == sorted(f"run-{number}" for number in range(500))

    asyncio.run(scenario())


def test_whoever_waits_at_a_button_goes_first(postgres_url: str) -> None:
    async def scenario() -> None:
        driven: list[str] = []
        waiting = (Priority.BULK, Priority.BULK, Priority.BUTTON, Priority.BUTTON)
        async with working(postgres_url, driven.append, prepare=waiting, concurrency=1) as store:
            await until(lambda: ended(store))
        assert driven == ["run-2", "run-3", "run-0", "run-1"]

    asyncio.run(scenario())
