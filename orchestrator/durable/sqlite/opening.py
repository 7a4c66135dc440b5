"""Opening an SQLite file that keeps relaunches: made if need be, private, and of the right schema.

Several processes may open one file at once, a fresh one too.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from orchestrator.durable.migrating import TABLE, Migration, migrations, steps_from
from orchestrator.errors import StoreIncompatible, StoreUnavailable

#: Seconds to wait while another process has the file locked.
PATIENCE = 5.0

_PRAGMAS = (
    # A launch's intent must outlive a power cut: every commit is on the disk before it returns.
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # What is pruned is to be gone from the file as well.
    "PRAGMA secure_delete = ON",
    "PRAGMA journal_size_limit = 4194304",
)


def connect(path: Path, known: Sequence[Migration] | None = None) -> sqlite3.Connection:
    """A connection in autocommit mode to the file, which is made if there is none.

    ``known`` are the steps of the schema, this program's unless given. Raises
    :class:`~orchestrator.errors.StoreIncompatible` or ``sqlite3.OperationalError``.
    """
    _make(path)
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        # Turning WAL on does not wait for a lock by itself, unlike everything else.
        for attempt in Retrying(
            retry=retry_if_exception(_is_locked),
            wait=wait_random_exponential(0.005, max=0.1),
            stop=stop_after_delay(PATIENCE),
            reraise=True,
        ):
            with attempt:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchone()
        _migrate(connection, migrations("sqlite") if known is None else known)
    except BaseException:
        connection.close()
        raise
    return connection


def translated(error: Exception, path: Path) -> Exception:
    """The error of the store's own tree that stands for one of SQLite's; others as they are."""
    if not isinstance(error, sqlite3.DatabaseError | OSError):
        return error
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return error  # a bug of ours
    if isinstance(error, OSError):
        told: Exception = StoreUnavailable(
            f"The store {path.name} cannot be opened ({type(error).__name__}). Nothing was "
            "changed. Check the folder and its permissions, then try again."
        )
    elif isinstance(error, sqlite3.OperationalError) and _code(error) != sqlite3.SQLITE_ERROR:
        told = StoreUnavailable(
            f"The store {path.name} cannot be used right now ({error}). What was asked for may or "
            "may not be stored; asking again is safe."
        )
    else:
        told = StoreIncompatible(
            f"The file {path.name} is not a store that this program can use ({error}): damaged, "
            "made by something else, or changed by a newer version meanwhile. Nothing was changed. "
            "Restart with the newest version, or give another file."
        )
    told.__cause__ = error
    return told


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one, so that they can run within a transaction."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives its journal files the mode of the file itself.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _migrate(connection: sqlite3.Connection, known: Sequence[Migration]) -> None:
    if not _steps(connection, known):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been faster: what is to be done is decided under the lock.
        connection.execute(TABLE)
        for step in _steps(connection, known):
            for statement in statements(step.sql):
                connection.execute(statement)
            connection.execute("DELETE FROM relaunch_schema")
            connection.execute(
                "INSERT INTO relaunch_schema (version, readable_by) VALUES (?, ?)",
                (step.version, step.readable_by),
            )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _steps(connection: sqlite3.Connection, known: Sequence[Migration]) -> tuple[Migration, ...]:
    made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'relaunch_schema'")
    if made.fetchone() is None:
        return steps_from(None, known)
    found = connection.execute("SELECT version, readable_by FROM relaunch_schema").fetchone()
    return steps_from(found, known)


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and _code(error) == sqlite3.SQLITE_BUSY


def _code(error: sqlite3.Error) -> int:
    # The lowest byte is the kind, the rest its details. Errors of the driver's own have no code.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL)
    return code & 0xFF
