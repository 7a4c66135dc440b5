"""Ours: relaunches without durability, in an SQLite file, and on PostgreSQL with a worker."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Protocol, Self

import psutil  # type: ignore[import-untyped]  # it has no types

from orchestrator import AsyncRelauncher, Policy, Schedules
from orchestrator.durable import RunStore, SQLiteRunStore, WorkerOptions
from orchestrator.testing import Async
from orchestrator.waiting import FixedSchedule
from tests.benchmarks.durability.platform import NEW, Platform

#: No relaunch here is to reach its deadline.
_POLICY = Policy(deadline_seconds=86_400)
#: More than ever wait at a time here.
_CONCURRENCY = 100_000


class Engine(Protocol):
    """Drives relaunches against a platform; opened and closed by ``async with``.

    The first look of each wait is ``wait`` seconds after its beginning.
    """

    #: The server beside this process, if there is one that can be watched.
    server: psutil.Process | None

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def relaunch(self, user_id: str) -> None:
        """One whole relaunch."""

    async def begin(self, user_id: str) -> None:
        """Begin one, and let it go on by itself."""

    async def hint(self, user_id: str, instance_id: int) -> None:
        """Say that an instance is torn down."""

    def kept(self) -> dict[str, tuple[int, int]]:
        """Bytes and rows by what keeps them."""


class Ours:
    """What our engines have in common."""

    server: psutil.Process | None = None

    def __init__(self, platform: Platform, wait: float, store: RunStore | None) -> None:
        self.store = store
        self.relauncher = AsyncRelauncher(
            Async(platform),
            policy=_POLICY,
            schedules=Schedules(teardown=FixedSchedule(wait)),
            store=store,
            worker=WorkerOptions(concurrency=_CONCURRENCY),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.relauncher.aclose()
        if self.store is not None:
            await self.store.close()

    async def relaunch(self, user_id: str) -> None:
        """One whole relaunch."""
        (await self.relauncher.relaunch(user_id, NEW)).raise_for_outcome()

    async def begin(self, user_id: str) -> None:
        """Begin one, and let it go on by itself."""
        await self.relauncher.start(user_id, NEW).accepted()

    async def hint(self, user_id: str, instance_id: int) -> None:
        """Say that an instance is torn down."""
        await self.relauncher.announce(instance_id)

    def kept(self) -> dict[str, tuple[int, int]]:
        """Nothing."""
        return {}


class Bare(Ours):
    """Nothing is kept."""

    def __init__(self, platform: Platform, wait: float) -> None:
        super().__init__(platform, wait, None)
        self._going: set[asyncio.Task[None]] = set()

    async def __aexit__(self, *exc: object) -> None:
        for task in self._going:
            task.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        await super().__aexit__(*exc)

    async def begin(self, user_id: str) -> None:
        """Without a store a relaunch needs somebody who follows it."""
        task = asyncio.create_task(self.relaunch(user_id))
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def hint(self, user_id: str, instance_id: int) -> None:
        """Kept nowhere."""
        self.relauncher.hint(instance_id)


class SQLite(Ours):
    """In one file."""

    def __init__(self, platform: Platform, wait: float, path: Path) -> None:
        super().__init__(platform, wait, SQLiteRunStore(path))
        self._path = path

    async def __aenter__(self) -> Self:
        await self.relauncher.resume_all()
        return self

    def kept(self) -> dict[str, tuple[int, int]]:
        """The file without its write-ahead log."""
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            rows = sum(
                database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in ("runs", "journal")
            )
        return {"the file": (self._path.stat().st_size, rows)}


class Postgres(Ours):
    """On a server, with a worker in this process."""

    def __init__(self, platform: Platform, wait: float, url: str) -> None:
        from orchestrator.durable.postgres import PostgresRunStore

        super().__init__(platform, wait, PostgresRunStore(url))
        self._url = url
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.server = server_of(self._url)
        await self.relauncher.resume_all()
        self._worker = asyncio.create_task(self.relauncher.work())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        await super().__aexit__(*exc)

    def kept(self) -> dict[str, tuple[int, int]]:
        """Runs and journal; and what the queue has left."""
        tables = tables_of(self._url, "lab_relaunch")
        ours = [tables[name] for name in ("runs", "journal")]
        queue = [size for name, size in tables.items() if name.startswith("procrastinate")]
        return {
            "runs and journal": (sum(b for b, _ in ours), sum(r for _, r in ours)),
            "the queue": (sum(b for b, _ in queue), sum(r for _, r in queue)),
        }


def server_of(url: str) -> psutil.Process | None:
    """The PostgreSQL server's first process, if it is on this machine."""
    import psycopg

    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_backend_pid()").fetchone()
        try:
            return psutil.Process(found[0] if found else None).parent()
        except psutil.NoSuchProcess:
            return None


def tables_of(url: str, schema: str) -> dict[str, tuple[int, int]]:
    """Bytes (indexes and all) and rows of each table, as they lie there."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(url) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)
        ).fetchall()
        found: dict[str, tuple[int, int]] = {}
        for (name,) in names:
            table = sql.Identifier(schema, name)
            row: Any = connection.execute(
                sql.SQL("SELECT pg_total_relation_size({}), (SELECT count(*) FROM {})").format(
                    sql.Literal(table.as_string(connection)), table
                )
            ).fetchone()
            found[name] = (row[0], row[1])
    return found
