"""The SQL of the SQLite store. Every value is bound; what is put together here are constants.

SQLite may be as old as 3.31: no ``RETURNING``, no ``STRICT``.
"""
# ruff: noqa: S608 - see above

from __future__ import annotations

from typing import Any

from orchestrator.durable import rows
from orchestrator.durable.store import Filter
from orchestrator.machine.run import SCHEMA

_STORED = ", ".join(rows.STORED)
_THIS = "relaunch_id = ? AND consumer = ?"
_UNFINISHED = "consumer = ? AND finished_at IS NULL"
_ALIVE_UNTIL = (
    "SELECT alive_until FROM owners"
    " WHERE owners.consumer = runs.consumer AND owners.owner = runs.owner"
)
# Those that this program reads and that nobody living holds, except perhaps whoever asks.
_FREE = (
    f"FROM runs WHERE {_UNFINISHED} AND run_schema <= {SCHEMA}"
    f" AND (owner IS NULL OR owner = ? OR NOT EXISTS ({_ALIVE_UNTIL} AND alive_until > ?))"
)
_WAITING_FOR = "target = ? AND consumer = ? AND finished_at IS NULL"

# About one run: (relaunch_id, consumer).
LOAD = f"SELECT {_STORED} FROM runs WHERE {_THIS}"
TO_CLAIM = f"SELECT {_STORED}, number, run_schema, ({_ALIVE_UNTIL}) FROM runs WHERE {_THIS}"
TO_RECORD = (
    "SELECT number, version, epoch, due_at, finished_at, hints, hinted, abort_requested"
    f" FROM runs WHERE {_THIS}"
)
TO_ADMIT = (
    "SELECT admitted OR finished_at IS NOT NULL, number, priority, created_at, relaunch_id"
    f" FROM runs WHERE {_THIS}"
)
NUMBER = f"SELECT number, finished_at FROM runs WHERE {_THIS}"
LEASE = f"SELECT epoch, finished_at FROM runs WHERE {_THIS}"
SIGNALS = f"SELECT hints, hinted, abort_requested FROM runs WHERE {_THIS}"
RELEASE = f"UPDATE runs SET owner = NULL WHERE {_THIS} AND epoch = ?"

# What is in the way of a new one.
BY_KEY = f"SELECT {_STORED} FROM runs WHERE idempotency_key = ? AND consumer = ?"
BY_LEARNER = (
    f"SELECT relaunch_id, {_STORED} FROM runs"
    " WHERE user_id = ? AND consumer = ? AND finished_at IS NULL"
)

INSERT = f"INSERT INTO runs ({', '.join(rows.NEW)}) VALUES ({', '.join('?' for _ in rows.NEW)})"
CLAIM = "UPDATE runs SET epoch = ?, owner = ? WHERE number = ?"
ABORT = "UPDATE runs SET abort_requested = 1, due_at = min(due_at, ?) WHERE number = ?"
RUN = "SELECT run FROM runs WHERE number = ?"

# A step that doesn't end the run leaves `finished_at`, and with it most indexes, alone.
STEP = f"UPDATE runs SET {', '.join(f'{n} = ?' for n in rows.STEP[:-1])} WHERE number = ?"
LAST_STEP = (
    f"UPDATE runs SET owner = NULL, {', '.join(f'{n} = ?' for n in rows.STEP)} WHERE number = ?"
)
NOTE = "INSERT INTO journal (run, version, entry) VALUES (?, ?, ?)"
JOURNAL = "SELECT version, entry FROM journal WHERE run = ? AND version > ? ORDER BY version"

#: How many runs are asked for at once at most: SQLite takes 999 values in a statement.
MOVED_AT_ONCE = 400


def moved_on(count: int) -> str:
    """Of so many runs those whose version is not the one given; takes these, then the consumer."""
    return (
        f"WITH seen (id, version) AS (VALUES {', '.join(['(?, ?)'] * count)})"
        " SELECT seen.id, coalesce(runs.version, seen.version),"
        " runs.version IS NULL OR finished_at IS NOT NULL"
        " FROM seen LEFT JOIN runs ON relaunch_id = seen.id AND consumer = ?"
        " WHERE runs.version IS NOT seen.version"
    )


HINTED = f"SELECT relaunch_id FROM runs WHERE {_WAITING_FOR}"
HINT = (
    "UPDATE runs SET hints = hints + 1, hinted = target, due_at = min(due_at, ?)"
    f" WHERE {_WAITING_FOR}"
)

DUE = f"SELECT relaunch_id {_FREE} AND due_at <= ? ORDER BY due_at, relaunch_id LIMIT ?"
NEXT_DUE = f"SELECT due_at {_FREE} AND due_at > ? ORDER BY due_at LIMIT 1"

UNFINISHED = f"SELECT count(*) FROM runs WHERE {_UNFINISHED}"
GOING = f"SELECT count(*) FROM runs WHERE {_UNFINISHED} AND admitted = 1 AND deadline_at > ?"
AHEAD = (
    f"SELECT count(*) FROM runs WHERE {_UNFINISHED} AND admitted = 0 AND asked_at > ?"
    " AND (priority, created_at, relaunch_id) < (?, ?, ?)"
)
ASK = "UPDATE runs SET admitted = ?, asked_at = ? WHERE number = ?"

BEAT = (
    "INSERT INTO owners (consumer, owner, alive_until) VALUES (?, ?, ?)"
    " ON CONFLICT (consumer, owner) DO UPDATE SET alive_until = excluded.alive_until"
)
LET_GO = f"UPDATE runs SET owner = NULL WHERE {_UNFINISHED} AND owner = ?"
FORGET_DEAD = (
    "DELETE FROM owners WHERE consumer = ? AND alive_until <"
    " (SELECT alive_until FROM owners WHERE consumer = ? AND owner = ?) - ?"
)
FORGET_OWNER = "DELETE FROM owners WHERE consumer = ? AND owner = ?"

PRUNE = (
    "DELETE FROM runs WHERE number IN"
    " (SELECT number FROM runs WHERE consumer = ? AND finished_at < ? LIMIT ?)"
)

READ_SHARED = "SELECT text FROM shared WHERE consumer = ? AND name = ?"
FORGET_SHARED = "DELETE FROM shared WHERE consumer = ? AND name = ?"
WRITE_SHARED = (
    "INSERT INTO shared (consumer, name, text) VALUES (?, ?, ?)"
    " ON CONFLICT (consumer, name) DO UPDATE SET text = excluded.text"
)


def history(consumer: str, which: Filter) -> tuple[str, tuple[Any, ...]]:
    """The query for a history, and its values."""
    conditions: list[str] = ["consumer = ?", f"run_schema <= {SCHEMA}"]
    values: list[Any] = [consumer]
    if which.user_id is not None:
        conditions.append("user_id = ?")
        values.append(rows.as_key(which.user_id))
    if which.state is not None:
        conditions.append("state = ?")
        values.append(which.state)
    if which.unfinished is not None:
        conditions.append("finished_at IS NULL" if which.unfinished else "finished_at IS NOT NULL")
    if which.created_since is not None:
        conditions.append("created_at >= ?")
        values.append(which.created_since)
    # The plus keeps SQLite from walking the whole history in order to find the few unfinished ones.
    created_at = "+created_at" if which.unfinished else "created_at"
    query = (
        f"SELECT {_STORED} FROM runs WHERE {' AND '.join(conditions)}"
        f" ORDER BY {created_at} DESC, relaunch_id DESC LIMIT ?"
    )
    return query, (*values, which.limit)
