"""Batches in PostgreSQL, beside the relaunches and over the same connections.

What begins or ends at the same time is one statement (group commit). Items are written with their
batch only and removed with it, so that no foreign key has to look after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

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
from orchestrator.durable.postgres import batch_statements as sql
from orchestrator.durable.postgres.connections import Connection, Connections, Row, fetch
from orchestrator.durable.postgres.grouping import GroupCommit
from orchestrator.durable.rows import as_key, from_key
from orchestrator.errors import UnknownBatch
from orchestrator.machine.run import Policy

#: How many items are stored, or read, by one statement.
_AT_ONCE = 1000
#: How many batches to forget in one transaction.
_PRUNED_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to become of an item: the columns of the statement that changes many."""

    batch_id: str
    number: int
    attempt: int
    columns: tuple[Any, ...]


class PostgresBatchStore:
    """:class:`~orchestrator.durable.batches.BatchStore` beside the relaunches of a database."""

    def __init__(self, connections: Connections, consumer: str) -> None:
        self._connections = connections
        self._consumer = consumer
        self._begun = GroupCommit[_Change, bool](
            lambda asked: self._change_items(sql.BEGIN, asked, _never)
        )
        self._ended = GroupCommit[_Change, bool](
            lambda asked: self._change_items(sql.FINISH, asked, _is_stored)
        )

    async def written(self) -> None:
        """Wait until everything is written."""
        await self._begun.finish()
        await self._ended.finish()

    async def create(self, batch: Batch, items: Sequence[Item]) -> tuple[Batch, bool]:
        """See :class:`BatchStore`, as for every method here."""
        rows.check(batch, items)
        new = (*rows.batch_row(batch), self._consumer)

        async def work(connection: Connection) -> bool:
            inserted = await fetch(connection, sql.INSERT, new)
            if not inserted:
                return False
            for first in range(0, len(items), _AT_ONCE):
                texts = [rows.item_text(item) for item in items[first : first + _AT_ONCE]]
                values = {"batch": inserted[0][0], "after": first, "items": texts}
                await fetch(connection, sql.INSERT_ITEMS, values)
            return True

        if await self._connections.transaction(work):
            return batch, True
        return await self.load(batch.batch_id), False

    async def load(self, batch_id: str) -> Batch:
        """The batch."""
        found = await self._connections.run(sql.LOAD, self._this(batch_id))
        if not found:
            raise UnknownBatch(batch_id)
        return rows.read_batch(found[0], batch_id)

    async def find(self, fingerprint: str) -> Batch | None:
        """The newest batch of the same request."""
        values = {"consumer": self._consumer, "fingerprint": as_key(fingerprint)}
        return next(rows.readable(await self._connections.run(sql.FIND, values)), None)

    async def history(
        self, *, unfinished: bool | None = None, limit: int = 100
    ) -> tuple[Batch, ...]:
        """The batches; those of a newer program are passed over."""
        values = {"consumer": self._consumer, "limit": limit}
        return tuple(rows.readable(await self._connections.run(sql.HISTORY[unfinished], values)))

    async def items(
        self,
        batch_id: str,
        *,
        after: int = 0,
        limit: int | None = None,
        begun: bool | None = None,
        ended: bool | None = None,
    ) -> tuple[StoredItem, ...]:
        """The items that fit."""
        query, this = sql.items(begun=begun, ended=ended), self._this(batch_id)
        found: list[StoredItem] = []
        while limit is None or len(found) < limit:
            some = _AT_ONCE if limit is None else min(_AT_ONCE, limit - len(found))
            page = await self._connections.run(query, {**this, "after": after, "limit": some})
            found += map(rows.item_of, page)
            if len(page) < some:
                break
            after = found[-1].item.number
        if not found:
            await self._check(batch_id)
        return tuple(found)

    async def begin(
        self, batch_id: str, number: int, *, attempt: int, relaunch_id: str, at: float
    ) -> bool:
        """An item is begun."""
        rows.check_attempt(attempt)
        columns = (as_key(relaunch_id), at)
        return await self._begun.ask(_Change(as_key(batch_id), number, attempt, columns))

    async def finish(
        self, batch_id: str, number: int, result: ItemResult, *, attempt: int, at: float
    ) -> bool:
        """An item has ended."""
        columns = (rows.standing_of(result), at, result.api_calls, rows.text_of(result))
        return await self._ended.ask(_Change(as_key(batch_id), number, attempt, columns))

    async def counts(self, batch_id: str) -> Counts:
        """How the items stand."""
        found = await self._connections.run(sql.COUNTS, self._this(batch_id))
        if not found:
            await self._check(batch_id)
        return rows.counts_of((standing, count, calls) for standing, count, calls in found)

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
        values = {
            **self._this(batch_id),
            **dict(zip(rows.CHANGED, new, strict=True)),
            "only_from": [before.value for before in only_from],
        }
        return await self._changed(sql.CHANGE, values, batch_id)

    async def hold(self, batch_id: str, holder: str, *, at: float, until: float) -> Batch:
        """Carry it out, unless somebody else does."""
        values = {**self._this(batch_id), "holder": as_key(holder), "at": at, "until": until}
        return await self._changed(sql.HOLD, values, batch_id)

    async def let_go(self, batch_id: str, holder: str) -> None:
        """Carry it out no more."""
        values = {**self._this(batch_id), "holder": as_key(holder)}
        if not await self._connections.run(sql.LET_GO, values):
            await self._check(batch_id)

    async def prune(self, *, before: float) -> int:
        """Forget what ended before then."""
        values = {"consumer": self._consumer, "before": before, "limit": _PRUNED_AT_ONCE}
        gone, some = 0, _PRUNED_AT_ONCE
        while some == _PRUNED_AT_ONCE:
            ((some,),) = await self._connections.run(sql.PRUNE, values)
            gone += some
        return gone

    async def _changed(self, statement: str, values: dict[str, Any], batch_id: str) -> Batch:
        found = await self._connections.run(statement, values)
        return rows.read_batch(found[0], batch_id) if found else await self.load(batch_id)

    async def _check(self, batch_id: str) -> None:
        if not await self._connections.run(sql.EXISTS, self._this(batch_id)):
            raise UnknownBatch(batch_id)

    async def _change_items(
        self,
        statement: str,
        asked: Sequence[_Change],
        counts: Callable[[_Change, Sequence[Any]], bool],
    ) -> Sequence[bool | Exception]:
        """Change items; for those that do not fit ``counts`` tells what to say, by how they are."""
        answers: list[bool | Exception] = [False] * len(asked)
        for places in _apart(asked):
            some = [asked[place] for place in places]
            try:
                told = await self._change_some(statement, some, counts)
            except psycopg.Error as error:
                # One that can't be stored must not keep the others from it.
                if len(asked) == 1:
                    return [error]
                told = [(await self._change_items(statement, [one], counts))[0] for one in some]
            for place, answer in zip(places, told, strict=True):
                answers[place] = answer
        return answers

    async def _change_some(
        self,
        statement: str,
        asked: Sequence[_Change],
        counts: Callable[[_Change, Sequence[Any]], bool],
    ) -> list[bool | Exception]:
        placed = [(n, a.batch_id, a.number, a.attempt, *a.columns) for n, a in enumerate(asked)]
        done = {place for (place,) in await self._run_lists(statement, placed)}
        stored: dict[int, Sequence[Any]] = {}
        if missed := [line[:3] for line in placed if line[0] not in done]:
            found = await self._run_lists(sql.AS_STORED, missed)
            stored = {place: row for place, *row in found}
        answers: list[bool | Exception] = []
        for place, one in enumerate(asked):
            if place in done:
                answers.append(True)
            elif (row := stored.get(place)) is None:
                answers.append(UnknownBatch(from_key(one.batch_id)))
            elif row[0] is None:
                answers.append(rows.no_item(from_key(one.batch_id), one.number))
            else:
                answers.append(counts(one, row))
        return answers

    async def _run_lists(self, statement: str, lines: Sequence[tuple[Any, ...]]) -> list[Row]:
        lists = [list(column) for column in zip(*lines, strict=True)]
        return await self._connections.run(statement, (*lists, self._consumer))

    def _this(self, batch_id: str) -> dict[str, Any]:
        return {"consumer": self._consumer, "batch_id": as_key(batch_id)}


def _never(change: _Change, stored: Sequence[Any]) -> bool:
    return False


def _is_stored(change: _Change, stored: Sequence[Any]) -> bool:
    _, at, _, result = change.columns
    return tuple(stored) == (change.attempt, at, result)


def _apart(asked: Sequence[_Change]) -> list[list[int]]:
    """The places of what is asked, in rounds in which no item comes twice, in order."""
    rounds: list[list[int]] = []
    times: dict[tuple[str, int], int] = {}
    for place, one in enumerate(asked):
        item = (one.batch_id, one.number)
        nth = times[item] = times.get(item, -1) + 1
        if nth == len(rounds):
            rounds.append([])
        rounds[nth].append(place)
    return rounds
