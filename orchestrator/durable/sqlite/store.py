"""Relaunches kept in one SQLite file: the embedded default, without a server.

Any number of processes of one machine may share the file, which must be on a local disk. Each
store has one thread (:mod:`orchestrator.durable.sqlite.thread`) and one connection; it is opened by
the first call. What is committed survives a power cut.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.durable import rows
from orchestrator.durable.sqlite import opening
from orchestrator.durable.sqlite import statements as sql
from orchestrator.durable.sqlite.batches import SQLiteBatchStore
from orchestrator.durable.sqlite.recording import Recording
from orchestrator.durable.sqlite.thread import SqliteThread
from orchestrator.durable.store import (
    STANDING,
    Entry,
    Filter,
    Signals,
    Step,
    StoredRun,
    new_stored,
)
from orchestrator.durable.watching import Watchers
from orchestrator.errors import UnknownRelaunch
from orchestrator.machine.run import SCHEMA, Run
from orchestrator.requests import Priority

T = TypeVar("T")

Row = Sequence[Any]

#: How often to ask whether another process has changed something, in seconds.
_POLL = 0.04

#: How many runs to forget in one transaction.
_PRUNED_AT_ONCE = 200

#: Owners that died so many seconds before one that retires are forgotten with it.
_LONG_DEAD = 86_400.0


class SQLiteRunStore:
    """:class:`~orchestrator.durable.store.RunStore` in the file ``path``.

    The file and its folder are made if need be, readable by nobody else. ``consumer`` is the label
    of the API consumer whose runs these are; several may share a file.
    """

    engine = "embedded"
    latency = 0.05

    def __init__(self, path: str | os.PathLike[str], *, consumer: str = "default") -> None:
        self.path = Path(path)
        self.consumer = consumer
        self._thread = SqliteThread(self)
        self.batches = SQLiteBatchStore(self._thread, consumer)
        self._watchers = Watchers()
        # Both belong to the thread: what was changed since the last commit, and what
        # `PRAGMA data_version` said last (it changes with every commit of another connection).
        self._changed: list[str | None] = []
        self._data_version: int | None = None

    async def open(self) -> None:
        """See :class:`RunStore`, as for every method here."""
        await self._thread.read(lambda db: None)

    async def close(self) -> None:
        """Close the file."""
        await self._thread.close()

    async def create(
        self,
        run: Run,
        *,
        at: float,
        key: str | None = None,
        priority: Priority = Priority.BUTTON,
        replacing: Step | None = None,
        owner: str | None = None,
    ) -> tuple[StoredRun, bool]:
        """Store a new run, or say what is in its way."""
        stored = new_stored(run, at=at, key=key, priority=priority, owner=owner)
        new = rows.new_row(self.consumer, stored)
        ending = None
        if replacing is not None and replacing.run.state.is_terminal:
            ending = Recording(replacing, self.consumer)

        def job(db: sqlite3.Connection) -> Row | None:
            same: Row | None = db.execute(sql.LOAD, self._this(run.relaunch_id)).fetchone()
            if same is not None:
                return same
            if key is not None:
                keyed: Row | None = db.execute(
                    sql.BY_KEY, (rows.as_key(key), self.consumer)
                ).fetchone()
                if keyed is not None:
                    return keyed
            learner = (rows.as_key(run.user_id), self.consumer)
            found: Row | None = db.execute(sql.BY_LEARNER, learner).fetchone()
            if found is not None:
                relaunch_id, *in_the_way = found
                if ending is None or ending.relaunch_id != relaunch_id:
                    return in_the_way
                if ending.write(db) is None:
                    return in_the_way
                self._changed.append(relaunch_id)
            db.execute(sql.INSERT, new)
            if owner is None:
                self._changed.append(run.relaunch_id)
            return None

        row = await self._thread.write(job)
        if row is None:
            return stored, True
        kept = _read(row, run.relaunch_id)
        # Ours, stored by a call whose answer got lost, and nobody has gone on with it yet.
        return kept, kept.version == 0 and kept.run == run

    async def load(self, relaunch_id: str) -> StoredRun:
        """The run."""
        row = await self._thread.read(lambda db: self._one(db, sql.LOAD, relaunch_id))
        return _read(row, relaunch_id)

    async def claim(
        self, relaunch_id: str, owner: str, *, at: float, take_over: bool = False
    ) -> StoredRun | None:
        """Take the lease."""

        def job(db: sqlite3.Connection) -> StoredRun | None:
            *row, number, schema, alive_until = self._one(db, sql.TO_CLAIM, relaunch_id)
            try:
                stored = rows.stored_of(row)
            except ValueError:
                return None
            held = stored.owner not in (None, owner) and (alive_until or 0.0) > at
            if stored.finished_at is not None or schema > SCHEMA or (held and not take_over):
                return None
            claimed = replace(stored, epoch=stored.epoch + 1, owner=owner)
            db.execute(sql.CLAIM, (claimed.epoch, owner, number))
            return claimed

        return await self._thread.write(job)

    async def release(self, relaunch_id: str, epoch: int) -> None:
        """Let the lease go."""

        def job(db: sqlite3.Connection) -> None:
            if db.execute(sql.RELEASE, (*self._this(relaunch_id), epoch)).rowcount:
                self._changed.append(relaunch_id)

        await self._thread.write(job)

    async def beat(self, owner: str, *, until: float) -> None:
        """Live until then."""

        def job(db: sqlite3.Connection) -> None:
            db.execute(sql.BEAT, (self.consumer, owner, until))

        await self._thread.write(job)

    async def retire(self, owner: str) -> None:
        """Let everything go, and forget those who died long ago."""

        def job(db: sqlite3.Connection) -> None:
            mine = (self.consumer, owner)
            db.execute(sql.LET_GO, mine)
            db.execute(sql.FORGET_DEAD, (self.consumer, *mine, _LONG_DEAD))
            db.execute(sql.FORGET_OWNER, mine)
            self._changed.append(None)

        await self._thread.write(job)

    async def append(self, step: Step) -> Signals:
        """Record a transition."""
        recording = Recording(step, self.consumer)
        ended = step.run.state.is_terminal

        def job(db: sqlite3.Connection) -> Signals:
            signals = recording.write(db)
            if signals is None:
                raise rows.lease_lost(recording.relaunch_id)
            if ended:
                self._changed.append(recording.relaunch_id)
            return signals

        return await self._thread.write(job)

    async def holds(self, relaunch_id: str, epoch: int) -> bool:
        """Whether the lease is in force."""
        lease = await self._thread.read(lambda db: self._one(db, sql.LEASE, relaunch_id))
        return tuple(lease) == (epoch, None)

    async def signals(self, relaunch_id: str) -> Signals:
        """What has reached the run."""
        found = await self._thread.read(lambda db: self._one(db, sql.SIGNALS, relaunch_id))
        return rows.signals_of(*found)

    async def hint(self, lab_instance_id: int, *, at: float) -> tuple[str, ...]:
        """Store a hint with the runs that wait for it."""
        waiting = (lab_instance_id, self.consumer)

        def job(db: sqlite3.Connection) -> tuple[str, ...]:
            hit = _ids(db.execute(sql.HINTED, waiting))
            if hit:
                db.execute(sql.HINT, (at, *waiting))
                self._changed.extend(hit)
            return hit

        return await self._thread.write(job)

    async def request_abort(self, relaunch_id: str, *, at: float) -> bool:
        """Store the wish to abort."""

        def job(db: sqlite3.Connection) -> bool:
            number, finished_at = self._one(db, sql.NUMBER, relaunch_id)
            if finished_at is not None:
                return False
            db.execute(sql.ABORT, (at, number))
            self._changed.append(relaunch_id)
            return True

        return await self._thread.write(job)

    async def due(self, owner: str | None, *, at: float, limit: int = 1000) -> tuple[str, ...]:
        """The runs due by then."""
        which = (self.consumer, owner, at, at, limit)
        return await self._thread.read(lambda db: _ids(db.execute(sql.DUE, which)))

    async def next_due(self, owner: str | None, *, after: float) -> float | None:
        """When the next one is due."""
        which = (self.consumer, owner, after, after)
        found = await self._thread.read(lambda db: db.execute(sql.NEXT_DUE, which).fetchone())
        return None if found is None else found[0]

    async def admit(self, relaunch_id: str, *, at: float, most: int) -> int | None:
        """Let the run begin, or say how many are before it."""

        def job(db: sqlite3.Connection) -> int | None:
            has_begun, number, *place = self._one(db, sql.TO_ADMIT, relaunch_id)
            if has_begun:
                return None
            (going,) = db.execute(sql.GOING, (self.consumer, at)).fetchone()
            (ahead,) = db.execute(sql.AHEAD, (self.consumer, at - STANDING, *place)).fetchone()
            begins = going + ahead < most
            db.execute(sql.ASK, (begins, at, number))
            return None if begins else int(ahead)

        return await self._thread.write(job)

    async def journal(self, relaunch_id: str, *, after: int = 0) -> tuple[Entry, ...]:
        """The journal."""

        def job(db: sqlite3.Connection) -> list[tuple[int, str]]:
            number, _ = self._one(db, sql.NUMBER, relaunch_id)
            return db.execute(sql.JOURNAL, (number, after)).fetchall()

        return tuple(rows.entry_of(*line) for line in await self._thread.read(job))

    async def moved_on(self, seen: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
        """The runs whose version is another one; between two questions others get their turn."""
        moved: dict[str, tuple[int, bool]] = {}
        pairs = iter(seen.items())
        while some := list(islice(pairs, sql.MOVED_AT_ONCE)):
            query = sql.moved_on(len(some))
            values = [*chain.from_iterable((rows.as_key(i), v) for i, v in some), self.consumer]

            def job(
                db: sqlite3.Connection, query: str = query, values: Sequence[Any] = values
            ) -> list[Row]:
                return db.execute(query, values).fetchall()

            for column, version, has_ended in await self._thread.read(job):
                moved[rows.from_key(column)] = (version, bool(has_ended))
        return moved

    async def history(self, which: Filter) -> tuple[StoredRun, ...]:
        """The runs that fit; those of a newer program are passed over."""
        query = sql.history(self.consumer, which)
        found = await self._thread.read(lambda db: db.execute(*query).fetchall())
        return tuple(rows.readable(found))

    async def unfinished(self) -> int:
        """How many have not ended."""
        mine = (self.consumer,)
        found = await self._thread.read(lambda db: db.execute(sql.UNFINISHED, mine).fetchone())
        return int(found[0])

    async def prune(self, *, before: float) -> int:
        """Forget what ended before then, also in SQLite's own journal."""
        which = (self.consumer, before, _PRUNED_AT_ONCE)
        gone, some = 0, _PRUNED_AT_ONCE
        while some == _PRUNED_AT_ONCE:
            some = await self._thread.write(lambda db: db.execute(sql.PRUNE, which).rowcount)
            gone += some
        if gone:
            checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
            await self._thread.read(lambda db: db.execute(checkpoint).fetchone())
        return gone

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change a shared text."""
        this = (self.consumer, name)

        def job(db: sqlite3.Connection) -> T:
            (before,) = db.execute(sql.READ_SHARED, this).fetchone() or (None,)
            after, answer = step(before)
            if after is None:
                db.execute(sql.FORGET_SHARED, this)
            elif after != before:
                db.execute(sql.WRITE_SHARED, (*this, after))
            return answer

        return await self._thread.write(job)

    def watch(self, changed: Callable[[str | None], object]) -> Callable[[], None]:
        """Tell of changes."""
        stop = self._watchers.add(changed)
        self._thread.wake()
        return stop

    # --- in the thread ----------------------------------------------------------------------

    def connect(self) -> sqlite3.Connection:
        """For the thread."""
        return opening.connect(self.path)

    def translated(self, error: Exception) -> Exception:
        """For the thread."""
        return opening.translated(error, self.path)

    def committed(self) -> None:
        """For the thread."""
        changed, self._changed = self._changed, []
        for relaunch_id in dict.fromkeys(changed):
            self._watchers.tell(relaunch_id)

    def poll(self, connection: sqlite3.Connection) -> float | None:
        """For the thread."""
        if not self._watchers:
            return None
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._data_version = version
            self._changed.append(None)
        return _POLL

    def _this(self, relaunch_id: str) -> tuple[str, str]:
        return (rows.as_key(relaunch_id), self.consumer)

    def _one(self, db: sqlite3.Connection, query: str, relaunch_id: str) -> Row:
        row: Row | None = db.execute(query, self._this(relaunch_id)).fetchone()
        if row is None:
            raise UnknownRelaunch(relaunch_id)
        return row


def _read(row: Row, relaunch_id: str) -> StoredRun:
    try:
        return rows.stored_of(row)
    except ValueError as error:
        raise rows.unreadable(relaunch_id) from error


def _ids(found: Iterable[tuple[str]]) -> tuple[str, ...]:
    return tuple(relaunch_id for (relaunch_id,) in found)
