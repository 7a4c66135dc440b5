"""A worker process for the fleet's tests: ``python -m tests.durable.fleet_worker URL NAME``.

Its driver does what a driver must, and writes down what it does: it begins, waits to be told how
the run is to go on, and ends it, or leaves it when cancelled. SIGTERM stops it gracefully.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenacity import retry, retry_if_exception_type, wait_fixed

from orchestrator.durable.fleet.queue import Fleet
from orchestrator.durable.postgres import PostgresRunStore
from orchestrator.errors import LeaseLost, StoreUnavailable, UnknownRelaunch
from orchestrator.machine.vocabulary import State
from tests.contract.stores import T0, next_step

#: What the drivers did, and what lets all runs end.
TABLES = """
CREATE TABLE IF NOT EXISTS done (
    number bigint GENERATED ALWAYS AS IDENTITY, relaunch_id text, worker text, what text
);
CREATE TABLE IF NOT EXISTS go_on ();
"""

_patiently = retry(retry=retry_if_exception_type(StoreUnavailable), wait=wait_fixed(0.05))


class Diary:
    """What the drivers of all workers did, in the store's database."""

    def __init__(self, store: PostgresRunStore) -> None:
        self._store = store

    async def open(self) -> None:
        """Make the tables; before the first worker starts."""
        async with await self._store.connections.connect() as connection:
            await connection.execute(TABLES)

    @_patiently
    async def note(self, relaunch_id: str, worker: str, what: str) -> None:
        """Write down that a worker did something."""
        await self._store.connections.run(
            "INSERT INTO done (relaunch_id, worker, what) VALUES (%s, %s, %s)",
            (relaunch_id, worker, what),
        )

    @_patiently
    async def read(self) -> list[tuple[str, str, str]]:
        """All that was done: (relaunch id, worker, what)."""
        rows = await self._store.connections.run(
            "SELECT relaunch_id, worker, what FROM done ORDER BY number", ()
        )
        return [(relaunch_id, worker, what) for relaunch_id, worker, what in rows]

    @_patiently
    async def let_end(self) -> None:
        """Let every run end."""
        await self._store.connections.run("INSERT INTO go_on DEFAULT VALUES", ())

    @_patiently
    async def may_end(self) -> bool:
        """Whether the runs may end."""
        return bool(await self._store.connections.run("SELECT 1 FROM go_on LIMIT 1", ()))


class Driver:
    """Drives runs in the name of a worker."""

    def __init__(self, store: PostgresRunStore, name: str) -> None:
        self._store = store
        self._name = name
        self._diary = Diary(store)

    async def __call__(self, relaunch_id: str) -> None:
        """Drive a run to its end."""
        try:
            stored = await _patiently(self._store.claim)(
                relaunch_id, self._name, at=T0, take_over=True
            )
        except UnknownRelaunch:
            return
        if stored is None:
            return
        await self._diary.note(relaunch_id, self._name, "began")
        try:
            while not await self._diary.may_end():  # noqa: ASYNC110 - told by another process
                await asyncio.sleep(0.02)
            await _patiently(self._store.append)(next_step(stored, State.LAUNCHED))
            await self._diary.note(relaunch_id, self._name, "ended")
        except LeaseLost:
            await self._diary.note(relaunch_id, self._name, "lost")
        except asyncio.CancelledError:
            with contextlib.suppress(StoreUnavailable):
                await self._store.release(relaunch_id, stored.epoch)
            await self._diary.note(relaunch_id, self._name, "left")
            raise


@asynccontextmanager
async def a_fleet(url: str, name: str) -> AsyncIterator[tuple[Fleet, PostgresRunStore]]:
    """A process's part in the fleet, with signs of life fast enough for a test."""
    store = PostgresRunStore(url)
    fleet = Fleet(store, Driver(store, name), heartbeat_seconds=0.2, stalled_after_seconds=1.0)
    try:
        yield fleet, store
    finally:
        await fleet.close()
        await store.close()


async def main(url: str, name: str) -> None:
    """Work until told to stop."""
    async with a_fleet(url, name) as (fleet, _):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, fleet.stop)
        await fleet.work()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
