"""Batches in the SQLite file that keeps the relaunches, through the same thread.

A batch is stored with all its items in one transaction: half a second for 100,000, for which others
that write wait. What begins or ends at the same time shares a commit, as all writes do.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any

from orchestrator.durable import batch_rows as rows
from orchestrator.durable.batches import (
    Batch,
    BatchState,
    Counts,
    Item,
    ItemResult,
    Pace,
    StoredItem,
)
from orchestrator.durable.rows import as_key
from orchestrator.durable.sqlite import batch_statements as sql
from orchestrator.durable.sqlite.thread import SqliteThread
from orchestrator.errors import UnknownBatch
from orchestrator.machine.run import Policy

#: How many items are turned into rows, or read, before others get their turn.
_AT_ONCE = 1000


class SQLiteBatchStore:
    """:class:`~orchestrator.durable.batches.BatchStore` beside the relaunches of a file."""

    def __init__(self, thread: SqliteThread, consumer: str) -> None:
        self._thread = thread
        self._consumer = consumer

    async def create(self, batch: Batch, items: Sequence[Item]) -> tuple[Batch, bool]:
        """See :class:`BatchStore`, as for every method here."""
        rows.check(batch, items)
        new = (*rows.batch_row(batch), self._consumer)
        texts: list[str] = []
        for first in range(0, len(items), _AT_ONCE):
            texts += map(rows.item_text, items[first : first + _AT_ONCE])
            await asyncio.sleep(0)
        this = self._this(batch.batch_id)

        def job(db: sqlite3.Connection) -> Sequence[Any] | None:
            same: Sequence[Any] | None = db.execute(sql.LOAD, this).fetchone()
            if same is None:
                number = db.execute(sql.INSERT, new).lastrowid
                lines = ((number, n, text) for n, text in enumerate(texts, 1))
                db.executemany(sql.INSERT_ITEM, lines)
            return same

        row = await self._thread.write(job)
        return (batch, True) if row is None else (rows.read_batch(row, batch.batch_id), False)

    async def load(self, batch_id: str) -> Batch:
        """The batch."""
        return rows.read_batch(
            await self._thread.read(lambda db: self._one(db, sql.LOAD, batch_id)), batch_id
        )

    async def find(self, fingerprint: str) -> Batch | None:
        """The newest batch of the same request."""
        this = (as_key(fingerprint), self._consumer)
        found = await self._thread.read(lambda db: db.execute(sql.FIND, this).fetchall())
        return next(rows.readable(found), None)

    async def history(
        self, *, unfinished: bool | None = None, limit: int = 100
    ) -> tuple[Batch, ...]:
        """The batches; those of a newer program are passed over."""
        query = (sql.HISTORY[unfinished], (self._consumer, limit))
        found = await self._thread.read(lambda db: db.execute(*query).fetchall())
        return tuple(rows.readable(found))

    async def items(
        self,
        batch_id: str,
        *,
        after: int = 0,
        limit: int | None = None,
        begun: bool | None = None,
        ended: bool | None = None,
    ) -> tuple[StoredItem, ...]:
        """The items that fit; between two questions others get their turn."""
        found: list[StoredItem] = []
        while True:
            some = _AT_ONCE if limit is None else max(0, min(_AT_ONCE, limit - len(found)))

            def job(
                db: sqlite3.Connection, after: int = after, some: int = some
            ) -> list[Sequence[Any]]:
                (number,) = self._one(db, sql.NUMBER, batch_id)
                return db.execute(
                    *sql.items(number, after=after, limit=some, begun=begun, ended=ended)
                ).fetchall()

            page = await self._thread.read(job)
            found += map(rows.item_of, page)
            if not page or len(page) < some or len(found) == limit:
                return tuple(found)
            after = found[-1].item.number

    async def begin(
        self, batch_id: str, number: int, *, attempt: int, relaunch_id: str, at: float
    ) -> bool:
        """An item is begun."""
        rows.check_attempt(attempt)
        new = (as_key(relaunch_id), attempt, at, attempt)

        def job(db: sqlite3.Connection) -> bool:
            (batch,) = self._one(db, sql.NUMBER, batch_id)
            begun = db.execute(sql.BEGIN, (*new, batch, number, attempt, attempt)).rowcount == 1
            if not begun and db.execute(sql.AS_STORED, (batch, number)).fetchone() is None:
                raise rows.no_item(batch_id, number)
            return begun

        return await self._thread.write(job)

    async def finish(
        self, batch_id: str, number: int, result: ItemResult, *, attempt: int, at: float
    ) -> bool:
        """An item has ended."""
        text = rows.text_of(result)
        new = (rows.standing_of(result), at, result.api_calls, text)

        def job(db: sqlite3.Connection) -> bool:
            (batch,) = self._one(db, sql.NUMBER, batch_id)
            if db.execute(sql.FINISH, (*new, batch, number, attempt)).rowcount:
                return True
            stored = db.execute(sql.AS_STORED, (batch, number)).fetchone()
            if stored is None:
                raise rows.no_item(batch_id, number)
            return bool(stored == (attempt, at, text))

        return await self._thread.write(job)

    async def counts(self, batch_id: str) -> Counts:
        """How the items stand."""

        def job(db: sqlite3.Connection) -> list[tuple[str, int, int]]:
            return db.execute(sql.COUNTS, self._one(db, sql.NUMBER, batch_id)).fetchall()

        return rows.counts_of(await self._thread.read(job))

    async def change(
        self,
        batch_id: str,
        state: BatchState,
        *,
        only_from: frozenset[BatchState],
        at: float,
        reason: str | None = None,
        pace: Pace | None = None,
        policy: Policy | None = None,
    ) -> Batch:
        """Change the state."""
        new = rows.change_row(state, at=at, reason=reason, pace=pace, policy=policy)

        def job(db: sqlite3.Connection) -> Sequence[Any]:
            number, before, schema = self._one(db, sql.STATE, batch_id)
            if before in only_from and schema <= rows.SCHEMA:
                db.execute(sql.CHANGE, (*new, number))
            return self._one(db, sql.LOAD, batch_id)

        return rows.read_batch(await self._thread.write(job), batch_id)

    async def hold(self, batch_id: str, holder: str, *, at: float, until: float) -> Batch:
        """Carry it out, unless somebody else does."""
        this, holder_key = self._this(batch_id), as_key(holder)

        def job(db: sqlite3.Connection) -> Sequence[Any]:
            db.execute(sql.HOLD, (holder_key, until, *this, holder_key, at))
            return self._one(db, sql.LOAD, batch_id)

        return rows.read_batch(await self._thread.write(job), batch_id)

    async def let_go(self, batch_id: str, holder: str) -> None:
        """Carry it out no more."""

        def job(db: sqlite3.Connection) -> None:
            (number,) = self._one(db, sql.NUMBER, batch_id)
            db.execute(sql.LET_GO, (number, as_key(holder)))

        await self._thread.write(job)

    async def prune(self, *, before: float) -> int:
        """Forget what ended before then, one batch at a time, also in SQLite's own journal."""

        def job(db: sqlite3.Connection) -> bool:
            old = db.execute(sql.OLD, (self._consumer, before)).fetchone()
            if old is not None:
                db.execute(sql.FORGET, old)
            return old is not None

        gone = 0
        while await self._thread.write(job):
            gone += 1
        if gone:
            checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
            await self._thread.read(lambda db: db.execute(checkpoint).fetchone())
        return gone

    def _this(self, batch_id: str) -> tuple[str, str]:
        return (as_key(batch_id), self._consumer)

    def _one(self, db: sqlite3.Connection, query: str, batch_id: str) -> Sequence[Any]:
        row: Sequence[Any] | None = db.execute(query, self._this(batch_id)).fetchone()
        if row is None:
            raise UnknownBatch(batch_id)
        return row
