"""The SQL about batches of the SQLite store; see :mod:`.statements` for the rules."""
# ruff: noqa: S608 - what is put together here are constants; every value is bound

from __future__ import annotations

from typing import Any

from orchestrator.durable import batch_rows

_BATCH = ", ".join(batch_rows.BATCH)
_ITEM = ", ".join(batch_rows.ITEM)
_THIS = "batch_id = ? AND consumer = ?"

# About one batch: (batch_id, consumer).
LOAD = f"SELECT {_BATCH} FROM batches WHERE {_THIS}"
NUMBER = f"SELECT number FROM batches WHERE {_THIS}"

INSERT = (
    f"INSERT INTO batches ({_BATCH}, consumer)"
    f" VALUES ({', '.join('?' for _ in batch_rows.BATCH)}, ?)"
)
INSERT_ITEM = "INSERT INTO batch_items (batch, number, item) VALUES (?, ?, ?)"

FIND = (
    f"SELECT {_BATCH} FROM batches WHERE fingerprint = ? AND consumer = ?"
    " ORDER BY created_at DESC, batch_id DESC"
)
_HISTORY = (
    f"SELECT {_BATCH} FROM batches WHERE consumer = ? AND batch_schema <= {batch_rows.SCHEMA}"
)
HISTORY = {
    wanted: f"{_HISTORY}{condition} ORDER BY created_at DESC, batch_id DESC LIMIT ?"
    for wanted, condition in {
        None: "",
        True: " AND ended_at IS NULL",
        False: " AND ended_at IS NOT NULL",
    }.items()
}

CHANGE = (
    "UPDATE batches SET state = ?, reason = ?, started_at = coalesce(?, started_at),"
    " ended_at = ?, policy = coalesce(?, policy), pace = coalesce(?, pace) WHERE number = ?"
)
HOLD = (
    f"UPDATE batches SET holder = ?, held_until = ? WHERE {_THIS}"
    f" AND batch_schema <= {batch_rows.SCHEMA}"
    " AND (holder IS NULL OR holder = ? OR held_until IS NULL OR held_until <= ?)"
)
LET_GO = "UPDATE batches SET holder = NULL, held_until = NULL WHERE number = ? AND holder = ?"
STATE = f"SELECT number, state, batch_schema FROM batches WHERE {_THIS}"

BEGIN = (
    f"UPDATE batch_items SET standing = '{batch_rows.IN_FLIGHT}', relaunch_id = ?,"
    " begun_at = CASE WHEN attempt = ? THEN begun_at ELSE ? END, attempt = ?,"
    " ended_at = NULL, api_calls = 0, result = NULL"
    " WHERE batch = ? AND number = ? AND (attempt < ? OR attempt = ? AND ended_at IS NULL)"
)
FINISH = (
    "UPDATE batch_items SET standing = ?, ended_at = ?, api_calls = ?, result = ?"
    " WHERE batch = ? AND number = ? AND attempt = ? AND attempt > 0 AND ended_at IS NULL"
)
AS_STORED = "SELECT attempt, ended_at, result FROM batch_items WHERE batch = ? AND number = ?"

COUNTS = (
    "SELECT standing, count(*), sum(api_calls) FROM batch_items WHERE batch = ? GROUP BY standing"
)

OLD = "SELECT number FROM batches WHERE consumer = ? AND ended_at < ? LIMIT 1"
FORGET = "DELETE FROM batches WHERE number = ?"


def items(
    batch: int, *, after: int, limit: int, begun: bool | None, ended: bool | None
) -> tuple[str, tuple[Any, ...]]:
    """The query for some items of a batch in order, and its values."""
    these = f"SELECT {_ITEM} FROM batch_items WHERE batch = ? AND number > ?"
    order = "ORDER BY number LIMIT ?"
    standings = batch_rows.standings(begun=begun, ended=ended)
    if standings is None:
        if ended is not None:
            these += " AND ended_at IS NOT NULL"
        elif begun is not None:
            these += " AND attempt > 0"
        return f"{these} {order}", (batch, after, limit)
    # Each standing is read in order from the index, and no more of it than is asked for.
    one = f"{these} AND standing = ? {order}"
    values = [value for s in standings for value in (batch, after, s, limit)]
    if len(standings) == 1:
        return one, tuple(values)
    several = " UNION ALL ".join([f"SELECT * FROM ({one})"] * len(standings))
    return f"{several} {order}", (*values, limit)
