"""The thread that owns a connection to SQLite: what waits for it is done in one transaction.

Calls come from any event loop and any thread. Whatever waits while the thread is busy is taken
together: reads first, outside of any transaction; then the writes, each in a savepoint of one
transaction, so that all of them cost one commit (group commit). One that fails undoes itself only.
Nobody is answered before the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

#: Seconds after which to poll again if it could not be done.
_POLL_AGAIN = 1.0

#: Reads or writes, and says so by how it is handed over.
Job = Callable[[sqlite3.Connection], T]


class Host(Protocol):
    """Whose connection it is. Everything here is called in the thread."""

    def connect(self) -> sqlite3.Connection:
        """Open the connection, in autocommit mode."""

    def translated(self, error: Exception) -> Exception:
        """What the caller is to see of an error."""

    def committed(self) -> None:
        """What was written is in the database for good."""

    def poll(self, connection: sqlite3.Connection) -> float | None:
        """Look for changes by others; in how many seconds to do so again (``None``: not at all).

        ``committed`` follows.
        """


class _Call:
    __slots__ = ("error", "future", "job", "loop", "result", "writes")

    def __init__(self, job: Job[Any], *, writes: bool = False) -> None:
        self.job = job
        self.writes = writes
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: Exception | None = None


class _Close(_Call):
    """The last call of a connection."""


class SqliteThread:
    """See the module's docstring. The thread starts with the first call."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._working: _Working | None = None

    async def read(self, job: Job[T]) -> T:
        """What the job reads."""
        result: T = await self._submit(_Call(job))
        return result

    async def write(self, job: Job[T]) -> T:
        """What the job returns, once everything it wrote is committed."""
        result: T = await self._submit(_Call(job, writes=True))
        return result

    def wake(self) -> None:
        """Have :meth:`Host.poll` called soon."""
        with self._lock:
            self._start().queue.put(None)

    async def close(self) -> None:
        """Do what waits, then close the connection. A later call opens it again."""
        last = _Close(_nothing)
        with self._lock:
            working, self._working = self._working, None
            if working is None:
                return
            working.queue.put(last)
        await last.future

    def _submit(self, call: _Call) -> asyncio.Future[Any]:
        with self._lock:
            self._start().queue.put(call)
        return call.future

    def _start(self) -> _Working:
        if self._working is None:
            self._working = _Working(self._host)
            self._working.start()
        return self._working


class _Working(threading.Thread):
    """One life of the thread, from the first call to :meth:`SqliteThread.close`."""

    def __init__(self, host: Host) -> None:
        # A process may end without having closed: what it was told to be stored is.
        super().__init__(name="relaunch-sqlite", daemon=True)
        self.queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._host = host
        self._connection: sqlite3.Connection | None = None
        self._poll_at: float | None = None

    def run(self) -> None:
        last = None
        while last is None:
            calls, last = self._take()
            try:
                self._perform(calls)
            except Exception as error:
                for call in calls:
                    call.error = self._host.translated(error)
                _answer(calls)
                if self._poll_at is not None:
                    self._poll_at = time.monotonic() + _POLL_AGAIN
        if self._connection is not None:
            self._connection.close()
        _answer([last])

    def _take(self) -> tuple[list[_Call], _Close | None]:
        """Everything that waits, as soon as there is something; and what ends the thread."""
        timeout = None if self._poll_at is None else max(0.0, self._poll_at - time.monotonic())
        calls: list[_Call] = []
        try:
            call = self.queue.get(timeout=timeout)
            while True:
                if call is None:
                    self._poll_at = 0.0
                elif isinstance(call, _Close):
                    return calls, call
                else:
                    calls.append(call)
                call = self.queue.get_nowait()
        except Empty:
            return calls, None

    def _perform(self, calls: list[_Call]) -> None:
        if self._connection is None:
            self._connection = self._host.connect()
        connection = self._connection
        if reads := [call for call in calls if not call.writes]:
            for call in reads:
                self._attempt(call, connection)
            _answer(reads)
        if writes := [call for call in calls if call.writes]:
            self._transact(writes, connection)
            self._host.committed()
            _answer(writes)
        if self._poll_at is not None and self._poll_at <= time.monotonic():
            wait = self._host.poll(connection)
            self._poll_at = None if wait is None else time.monotonic() + wait
            self._host.committed()

    def _transact(self, calls: list[_Call], connection: sqlite3.Connection) -> None:
        execute = connection.execute
        alone = len(calls) == 1
        try:
            execute("BEGIN IMMEDIATE")
            for call in calls:
                if not alone:
                    execute("SAVEPOINT one")
                self._attempt(call, connection)
                if not connection.in_transaction:
                    # Such as a full disk: SQLite has undone everything, not only this call.
                    raise sqlite3.OperationalError("the transaction was undone")
                if call.error is not None:
                    execute("ROLLBACK" if alone else "ROLLBACK TO one")
                if not alone:
                    execute("RELEASE one")
            if connection.in_transaction:
                execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    execute("ROLLBACK")
            for call in calls:
                call.error = call.error or self._host.translated(error)

    def _attempt(self, call: _Call, connection: sqlite3.Connection) -> None:
        try:
            call.result = call.job(connection)
        except Exception as error:
            call.error = self._host.translated(error)


def _answer(calls: Sequence[_Call]) -> None:
    """Tell each caller, with one message for each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
    for call in calls:
        loops.setdefault(call.loop, []).append(call)
    for loop, theirs in loops.items():
        # A loop that is closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, theirs)


def _settle(calls: Sequence[_Call]) -> None:
    for call in calls:
        if call.future.done():
            continue
        if call.error is not None:
            call.future.set_exception(call.error)
        else:
            call.future.set_result(call.result)


def _nothing(connection: sqlite3.Connection) -> None:
    """Only to be answered."""
