"""The fleet, with real worker processes: killed, stopped, cut off from the database."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("procrastinate", reason="needs the extra: pip install lab-relaunch[fleet]")

from orchestrator.durable.fleet import Fleet
from orchestrator.durable.postgres import PostgresRunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.requests import Priority
from tests.contract.stores import T0, new_run
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
    return not await store.count_unfinished()


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


def test_a_run_without_a_job_is_given_one(postgres_url: str) -> None:
    async def scenario() -> None:
        async with a_starter(postgres_url) as (fleet, store, diary):
            await diary.let_end()
            await fleet.close()
            await start(store, 1)  # nobody queues it: this process has no part in the fleet now
            with worker(postgres_url, "a"):
                await until(lambda: ended(store))

    asyncio.run(scenario())


def test_whoever_waits_at_a_button_goes_first(postgres_url: str) -> None:
    async def scenario() -> None:
        order: list[str] = []
        store = PostgresRunStore(postgres_url)
        everything = asyncio.Event()

        async def note(relaunch_id: str) -> None:
            order.append(relaunch_id)
            if len(order) == 4:
                everything.set()

        fleet = Fleet(store, note, concurrency=1)
        await fleet.open()
        for number, priority in enumerate(
            (Priority.BULK, Priority.BULK, Priority.BUTTON, Priority.BUTTON)
        ):
            run = new_run(f"run-{number}", f"learner-{number}")
            await store.create(run, at=T0, priority=priority)
        working = asyncio.create_task(fleet.work())
        await everything.wait()
        fleet.stop()
        await working
        await fleet.close()
        await store.close()
        assert order == ["run-2", "run-3", "run-0", "run-1"]

    asyncio.run(scenario())
