"""Relaunches kept in PostgreSQL, for a fleet of processes on any number of machines.

The tables are in a schema of their own, made and brought up to date by whoever opens the store
first. Whether the holder of a run lives is not this store's business: the fleet's workers say so
(:mod:`orchestrator.durable.fleet`), so a run that has an owner counts as held until it is released
or taken over. A commit is on the server's disk when it returns, as the server is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from orchestrator.durable import rows
from orchestrator.durable.postgres import statements
from orchestrator.durable.postgres.batches import PostgresBatchStore
from orchestrator.durable.postgres.connections import Connection, Connections
from orchestrator.durable.postgres.notify import COLLECT, SILENCE, Wakeups
from orchestrator.durable.postgres.writer import OnCreate, Transition, Writer, insert, record
from orchestrator.durable.store import (
    Entry,
    Filter,
    Signals,
    Step,
    StoredRun,
    new_stored,
)
from orchestrator.durable.watching import Watchers
from orchestrator.errors import UnknownRelaunch
from orchestrator.machine.run import Run
from orchestrator.requests import Priority

T = TypeVar("T")

#: How many runs to forget in one transaction.
_PRUNED_AT_ONCE = 500
#: How many runs are looked at by one statement.
_LOOKED_AT_ONCE = 1000
#: How often a run may get in the way of a new one and be gone when it is looked at.
_ATTEMPTS = 5


class _NotStored(Exception):
    """Something is in the way: what the transaction has done so far is taken back."""


class PostgresRunStore:
    """:class:`~orchestrator.durable.store.RunStore` in the database that ``url`` names.

    ``consumer`` is the label of the API consumer whose runs these are; several may share a
    database. ``schema`` is where the tables are. ``on_create`` is called in the transaction that
    stores new runs; what it brings about there is gone if they are not stored in the end.
    Belongs to the event loop that opens it.
    """

    engine = "fleet"
    latency = max(COLLECT, SILENCE)

    def __init__(
        self,
        url: str,
        *,
        consumer: str = "default",
        schema: str = "lab_relaunch",
        on_create: OnCreate | None = None,
    ) -> None:
        self.consumer = consumer
        self.connections = Connections(url, schema)
        self._watchers = Watchers()
        self._writer = Writer(self.connections, consumer)
        self.batches = PostgresBatchStore(self.connections, consumer)
        self.on_create = on_create
        self._wakeups = Wakeups(self.connections, consumer, self._watchers)
        self._is_open = False

    @property
    def on_create(self) -> OnCreate | None:
        """What is called in the transaction that stores new runs."""
        return self._writer.on_create

    @on_create.setter
    def on_create(self, on_create: OnCreate | None) -> None:
        self._writer.on_create = on_create

    async def open(self) -> None:
        """See :class:`RunStore`, as for every method here."""
        await self.connections.open()
        self._is_open = True
        if self._watchers:
            self._wakeups.listen()

    async def close(self) -> None:
        """Write what is to be written, and disconnect."""
        self._is_open = False
        await self._writer.finish()
        await self.batches.written()
        await self._wakeups.close()
        await self.connections.close()

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
        ending = Transition.of(replacing) if replacing and replacing.run.state.is_terminal else None
        for _ in range(_ATTEMPTS):
            if ending is None:
                new = await self._writer.insert(stored)
            else:
                new = await self._replace(stored, ending)
            if new:
                if ending is not None:
                    self._wakeups.note(rows.from_key(ending.relaunch_id), soon=True)
                self._wakeups.note(run.relaunch_id, here=owner is None)
                return stored, True
            found = await self.connections.run(
                statements.IN_THE_WAY,
                {
                    **self._this(run.relaunch_id),
                    "key": None if key is None else rows.as_key(key),
                    "user_id": rows.as_key(run.user_id),
                },
            )
            if found:
                relaunch_id, *columns = found[0]
                in_the_way = _read(columns, relaunch_id)
                # Ours, stored by a call whose answer got lost, and nobody has gone on with it yet.
                return in_the_way, in_the_way.version == 0 and in_the_way.run == run
        raise AssertionError("what is in the way of a new run was gone again each time")

    async def load(self, relaunch_id: str) -> StoredRun:
        """The run."""
        return _read(await self._one(statements.LOAD, relaunch_id), relaunch_id)

    async def claim(
        self, relaunch_id: str, owner: str, *, at: float, take_over: bool = False
    ) -> StoredRun | None:
        """Take the lease."""
        values = {**self._this(relaunch_id), "owner": owner, "take_over": take_over}
        found = await self.connections.run(statements.CLAIM, values)
        if not found:
            await self._one(statements.EXISTS, relaunch_id)
            return None
        return _read(found[0], relaunch_id)

    async def release(self, relaunch_id: str, epoch: int) -> None:
        """Let the lease go."""
        await self.connections.run(statements.RELEASE, {**self._this(relaunch_id), "epoch": epoch})
        self._wakeups.note(relaunch_id)

    async def beat(self, owner: str, *, until: float) -> None:
        """Nothing to do: the fleet's workers have heartbeats of their own."""

    async def retire(self, owner: str) -> None:
        """Let everything go."""
        values = {"consumer": self.consumer, "owner": owner}
        for (relaunch_id,) in await self.connections.run(statements.RETIRE, values):
            self._wakeups.note(rows.from_key(relaunch_id))

    async def append(self, step: Step) -> Signals:
        """Record a transition."""
        signals = await self._writer.append(step)
        ended = step.run.state.is_terminal
        self._wakeups.note(step.run.relaunch_id, soon=ended, here=ended)
        return signals

    async def holds(self, relaunch_id: str, epoch: int) -> bool:
        """Whether the lease is in force."""
        (holds,) = await self._one(statements.HOLDS, relaunch_id, epoch=epoch)
        return bool(holds)

    async def signals(self, relaunch_id: str) -> Signals:
        """What has reached the run."""
        return await self._writer.signals(relaunch_id)

    async def hint(self, lab_instance_id: int, *, at: float) -> tuple[str, ...]:
        """Store a hint with the runs that wait for it, and wake whoever drives them."""
        values = {"consumer": self.consumer, "target": lab_instance_id, "at": at}
        found = await self.connections.run(statements.HINT, {**values, **self._told()})
        return tuple(self._tell(relaunch_id) for relaunch_id, _ in found)

    async def request_abort(self, relaunch_id: str, *, at: float) -> bool:
        """Store the wish to abort, and wake whoever drives the run."""
        values = {**self._this(relaunch_id), **self._told(), "at": at}
        if not await self.connections.run(statements.REQUEST_ABORT, values):
            await self._one(statements.EXISTS, relaunch_id)
            return False
        self._watchers.tell(relaunch_id)
        return True

    async def due(self, owner: str | None, *, at: float, limit: int = 1000) -> tuple[str, ...]:
        """The runs due by then."""
        values = {"consumer": self.consumer, "owner": owner, "at": at, "limit": limit}
        found = await self.connections.run(statements.DUE, values)
        return tuple(rows.from_key(relaunch_id) for (relaunch_id,) in found)

    async def next_due(self, owner: str | None, *, after: float) -> float | None:
        """When the next one is due."""
        values = {"consumer": self.consumer, "owner": owner, "after": after}
        ((due_at,),) = await self.connections.run(statements.NEXT_DUE, values)
        return None if due_at is None else float(due_at)

    async def admit(self, relaunch_id: str, *, at: float, most: int) -> int | None:
        """Let the run begin, or say how many are before it."""
        return await self._writer.admit(relaunch_id, at=at, most=most)

    async def to_be_driven(self) -> tuple[tuple[str, Priority], ...]:
        """The runs that have not ended, whoever holds them, in the order in which they begin."""
        found = await self.connections.run(statements.TO_BE_DRIVEN, {"consumer": self.consumer})
        return tuple((rows.from_key(i), Priority(priority)) for i, priority in found)

    async def journal(self, relaunch_id: str, *, after: int = 0) -> tuple[Entry, ...]:
        """The journal."""
        values = {**self._this(relaunch_id), "after": after}
        found = await self.connections.run(statements.JOURNAL, values)
        if not found:
            raise UnknownRelaunch(relaunch_id)
        return tuple(rows.entry_of(*line) for line in found if line[0] is not None)

    async def moved_on(self, seen: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
        """The runs whose version is another one."""
        moved: dict[str, tuple[int, bool]] = {}
        pairs = iter(seen.items())
        while some := list(islice(pairs, _LOOKED_AT_ONCE)):
            ids, versions = zip(*some, strict=True)
            values = {
                "consumer": self.consumer,
                "ids": [rows.as_key(relaunch_id) for relaunch_id in ids],
                "versions": list(versions),
            }
            for column, version, has_ended in await self.connections.run(
                statements.MOVED_ON, values
            ):
                moved[rows.from_key(column)] = (version, has_ended)
        return moved

    async def history(self, which: Filter) -> tuple[StoredRun, ...]:
        """The runs that fit; those of a newer program are passed over."""
        values = {
            "consumer": self.consumer,
            "user_id": None if which.user_id is None else rows.as_key(which.user_id),
            "state": which.state,
            "unfinished": which.unfinished,
            "created_since": which.created_since,
            "limit": which.limit,
        }
        found = await self.connections.run(statements.history(which), values)
        return tuple(rows.readable(found))

    async def unfinished(self) -> int:
        """How many have not ended."""
        ((count,),) = await self.connections.run(statements.UNFINISHED, {"consumer": self.consumer})
        return int(count)

    async def prune(self, *, before: float) -> int:
        """Forget what ended before then."""
        values = {"consumer": self.consumer, "before": before, "limit": _PRUNED_AT_ONCE}
        gone, some = 0, _PRUNED_AT_ONCE
        while some == _PRUNED_AT_ONCE:
            ((some,),) = await self.connections.run(statements.PRUNE, values)
            gone += some
        return gone

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change a shared text."""
        return await self._writer.change(name, step)

    def watch(self, changed: Callable[[str | None], object]) -> Callable[[], None]:
        """Tell of changes."""
        stop = self._watchers.add(changed)
        if self._is_open:
            self._wakeups.listen()
        return stop

    async def _replace(self, stored: StoredRun, ending: Transition) -> bool:
        """Whether the run is stored, and what ``ending`` ends has ended, if it was in the way."""

        async def work(connection: Connection) -> None:
            while not (await insert(connection, self.consumer, [stored]))[0]:
                if not await record(connection, self.consumer, [ending]):
                    raise _NotStored
            if self.on_create is not None:
                await self.on_create(connection, [stored])

        try:
            await self.connections.transaction(work)
        except _NotStored:
            return False
        return True

    async def _one(self, statement: str, relaunch_id: str, **values: Any) -> Sequence[Any]:
        found = await self.connections.run(statement, {**self._this(relaunch_id), **values})
        if not found:
            raise UnknownRelaunch(relaunch_id)
        return found[0]

    def _this(self, relaunch_id: str) -> dict[str, Any]:
        return {"consumer": self.consumer, "relaunch_id": rows.as_key(relaunch_id)}

    def _told(self) -> dict[str, Any]:
        return {"channel": self._wakeups.channel, "origin": self._wakeups.origin}

    def _tell(self, column: str) -> str:
        relaunch_id = rows.from_key(column)
        self._watchers.tell(relaunch_id)
        return relaunch_id


def _read(columns: Sequence[Any], relaunch_id: str) -> StoredRun:
    try:
        return rows.stored_of(columns)
    except ValueError as error:
        raise rows.unreadable(relaunch_id) from error
