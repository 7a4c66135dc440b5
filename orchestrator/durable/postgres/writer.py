"""What a PostgreSQL store is asked most: new runs, transitions, signals, texts, who may begin.

What a process asks for at the same time is one statement, however many ask (group commit). A
transition whose commit got no answer may be recorded again: it is known by the run's text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg

from orchestrator.durable import rows
from orchestrator.durable.postgres import statements
from orchestrator.durable.postgres.connections import Connection, Connections, fetch
from orchestrator.durable.postgres.grouping import GroupCommit
from orchestrator.durable.store import STANDING, Signals, Step, StoredRun
from orchestrator.errors import StoreUnavailable, UnknownRelaunch

T = TypeVar("T")

#: Called in the transaction that stores new runs, with its connection.
OnCreate = Callable[[Connection, Sequence[StoredRun]], Awaitable[None]]

#: A change of a shared text: its ``step``, and what it has answered.
Change = Callable[[str | None], tuple[str | None, Any]]


@dataclass(frozen=True, slots=True)
class Transition:
    """A step as it is written."""

    relaunch_id: str
    epoch: int
    entry: str
    row: tuple[Any, ...]

    @classmethod
    def of(cls, step: Step) -> Transition:
        """The transition of a step."""
        return cls(
            rows.as_key(step.run.relaunch_id),
            step.epoch,
            rows.entry_text(step.entry),
            rows.step_row(step),
        )

    @property
    def columns(self) -> tuple[Any, ...]:
        """All columns but its place among those that are written together."""
        return (self.relaunch_id, self.epoch, self.entry, *self.row)


_VERSION, _RUN = rows.STEP.index("version"), rows.STEP.index("run")


async def record(
    connection: Connection, consumer: str, transitions: Sequence[Transition]
) -> dict[int, Signals]:
    """Record transitions, each a compare-and-set; the signals of those that fitted, by place."""
    placed = [(place, *t.columns) for place, t in enumerate(transitions)]
    if len(placed) == 1:
        found = await fetch(connection, statements.APPEND_ONE, (*placed[0], consumer))
    else:
        lists = [list(column) for column in zip(*placed, strict=True)]
        found = await fetch(connection, statements.APPEND_MANY, (*lists, consumer))
    return {place: rows.signals_of(*signals) for place, *signals in found}


async def insert(connection: Connection, consumer: str, runs: Sequence[StoredRun]) -> list[bool]:
    """Store new runs, except where something is in the way; whether each is stored."""
    new = [rows.new_row(consumer, stored) for stored in runs]
    if len(new) == 1:
        found = await fetch(connection, statements.INSERT_ONE, new[0])
    else:
        lists = [list(column) for column in zip(*new, strict=True)]
        found = await fetch(connection, statements.INSERT_MANY, lists)
    inserted = {relaunch_id for (relaunch_id,) in found}
    answers = []
    for stored in runs:
        relaunch_id = rows.as_key(stored.run.relaunch_id)
        answers.append(relaunch_id in inserted)
        inserted.discard(relaunch_id)  # another one with the same id was in its own way
    return answers


class Writer:
    """The group commits of one store."""

    def __init__(self, connections: Connections, consumer: str) -> None:
        self._connections = connections
        self._consumer = consumer
        self.on_create: OnCreate | None = None
        self._new = GroupCommit(self._insert)
        self._transitions = GroupCommit(self._record)
        self._signals = GroupCommit(self._signals_of)
        self._line = GroupCommit(self._let_in)
        self._changes: dict[str, GroupCommit[Change, Any]] = {}
        #: The shared texts as this process wrote them last, and their versions.
        self._shared: dict[str, tuple[str | None, int]] = {}

    async def insert(self, stored: StoredRun) -> bool:
        """Store a new run; ``False`` if something is in its way."""
        return await self._new.ask(stored)

    async def append(self, step: Step) -> Signals:
        """Record a step. Raises ``LeaseLost`` or ``UnknownRelaunch``."""
        return await self._transitions.ask(Transition.of(step))

    async def signals(self, relaunch_id: str) -> Signals:
        """What has reached a run. Raises ``UnknownRelaunch``."""
        return await self._signals.ask(rows.as_key(relaunch_id))

    async def admit(self, relaunch_id: str, *, at: float, most: int) -> int | None:
        """Let a run begin, or say how many are before it."""
        return await self._line.ask((rows.as_key(relaunch_id), at, most))

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change a shared text."""
        group = self._changes.get(name)
        if group is None:
            group = self._changes[name] = GroupCommit(lambda steps: self._change(name, steps))
        answer: T = await group.ask(step)
        return answer

    async def finish(self) -> None:
        """Wait until everything is written."""
        await self._new.finish()
        await self._transitions.finish()
        await self._signals.finish()
        await self._line.finish()
        for group in self._changes.values():
            await group.finish()

    async def _insert(self, asked: Sequence[StoredRun]) -> Sequence[bool | Exception]:
        on_create = self.on_create

        async def work(connection: Connection) -> list[bool]:
            inserted = await insert(connection, self._consumer, asked)
            new = [stored for stored, done in zip(asked, inserted, strict=True) if done]
            if on_create is not None and new:
                await on_create(connection, new)
            return inserted

        try:
            if on_create is None:
                return await self._connections.using(work)
            return await self._connections.transaction(work)
        except StoreUnavailable:
            raise
        except Exception as error:
            # One that can't be stored must not keep the others from it.
            if len(asked) == 1:
                return [error]
            return [(await self._insert([one]))[0] for one in asked]

    async def _record(self, asked: Sequence[Transition]) -> Sequence[Signals | Exception]:
        try:
            answers: dict[int, Signals | Exception] = {
                **await self._connections.using(lambda c: record(c, self._consumer, asked))
            }
        except psycopg.Error as error:
            # One that can't be recorded must not keep the others from it.
            if len(asked) == 1:
                return [error]
            return [(await self._record([one]))[0] for one in asked]
        missed = [place for place in range(len(asked)) if place not in answers]
        if missed:
            stored = await self._as_stored([asked[place].relaunch_id for place in missed])
            for place in missed:
                answers[place] = _why_not(asked[place], stored.get(asked[place].relaunch_id))
        return [answers[place] for place in range(len(asked))]

    async def _as_stored(self, ids: list[str]) -> dict[str, Sequence[Any]]:
        found = await self._connections.run(statements.AS_STORED, (self._consumer, ids))
        return {relaunch_id: row for relaunch_id, *row in found}

    async def _signals_of(self, ids: Sequence[str]) -> Sequence[Signals | Exception]:
        found = await self._connections.run(statements.SIGNALS, (self._consumer, list(ids)))
        signals = {relaunch_id: rows.signals_of(*columns) for relaunch_id, *columns in found}
        return [signals.get(i) or UnknownRelaunch(rows.from_key(i)) for i in ids]

    async def _let_in(
        self, asked: Sequence[tuple[str, float, int]]
    ) -> Sequence[int | Exception | None]:
        ids, times, most = zip(*asked, strict=True)
        at = max(times)
        values = {
            "consumer": self._consumer,
            "ids": list(ids),
            "at": at,
            "standing": at - STANDING,
            "most": list(most),
        }

        async def let_in(connection: Connection) -> dict[str, int | None]:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext(current_schema() || %s))",
                (f" line {self._consumer}",),
            )
            await fetch(connection, statements.LINE_UP, values)
            found = await fetch(connection, statements.LET_IN, values)
            return dict(found)

        ahead = await self._connections.transaction(let_in)
        return [ahead[i] if i in ahead else UnknownRelaunch(rows.from_key(i)) for i in ids]

    async def _change(self, name: str, steps: Sequence[Change]) -> Sequence[Any]:
        before, version = self._shared.get(name, (None, 0))
        values: dict[str, Any] = {"consumer": self._consumer, "name": name}
        after, answers = _applied(steps, before)
        swap = {**values, "text": after, "version": version}
        if await self._connections.run(statements.SWAP, swap):
            self._shared[name] = (after, version + 1)
            return answers

        async def in_turn(connection: Connection) -> tuple[str | None, int, list[Any]]:
            # Another process was faster. Now it waits for us, so that nobody is passed over.
            await fetch(connection, statements.PLACE_FOR, values)
            ((text, found),) = await fetch(connection, statements.LOCK, values)
            text, answers = _applied(steps, text)
            await fetch(connection, statements.SWAP, {**values, "text": text, "version": found})
            return text, found + 1, answers

        after, version, answers = await self._connections.transaction(in_turn)
        self._shared[name] = (after, version)
        return answers


def _why_not(transition: Transition, stored: Sequence[Any] | None) -> Signals | Exception:
    if stored is None:
        return UnknownRelaunch(rows.from_key(transition.relaunch_id))
    epoch, version, run, *signals = stored
    ours = (transition.epoch, transition.row[_VERSION], transition.row[_RUN])
    if (epoch, version, run) == ours:
        return rows.signals_of(*signals)
    return rows.lease_lost(rows.from_key(transition.relaunch_id))


def _applied(steps: Sequence[Change], text: str | None) -> tuple[str | None, list[Any]]:
    answers = []
    for step in steps:
        text, answer = step(text)
        answers.append(answer)
    return text, answers
