"""The SQL about batches of the PostgreSQL store; see :mod:`.statements` for the rules.

Items that begin or end at the same time are changed by one statement, which takes their locks in
one order, so that two processes that carry the same batch out never wait for each other.
"""

# ruff: noqa: S608 - what is put together here are the names of columns, never a value

from __future__ import annotations

from orchestrator.durable import batch_rows

_BATCH = ", ".join(batch_rows.BATCH)
_ITEM = ", ".join(batch_rows.ITEM)
_THIS = "consumer = %(consumer)b AND batch_id = %(batch_id)b"
_READABLE = f"batch_schema <= {batch_rows.SCHEMA}"
_OF_THIS = f"batch = (SELECT number FROM batches WHERE {_THIS})"

EXISTS = f"SELECT 1 FROM batches WHERE {_THIS}"
LOAD = f"SELECT {_BATCH} FROM batches WHERE {_THIS}"

_TYPES = [
    {"batch_schema": "int", "total": "int", "held_until": "float8"}.get(
        name, "float8" if name.endswith("_at") else "text"
    )
    for name in batch_rows.BATCH
]
#: Takes a batch's columns, then the consumer; gives its number, unless there is one with its id.
INSERT = f"""
INSERT INTO batches ({_BATCH}, consumer)
VALUES ({", ".join(f"%b::{kind}" for kind in _TYPES)}, %b::text)
ON CONFLICT DO NOTHING RETURNING number
"""
INSERT_ITEMS = """
INSERT INTO batch_items (batch, number, item)
SELECT %(batch)b::bigint, %(after)b::int + place, item
FROM unnest(%(items)b::text[]) WITH ORDINALITY AS new (item, place)
"""

FIND = f"""
SELECT {_BATCH} FROM batches
WHERE consumer = %(consumer)b AND fingerprint = %(fingerprint)b AND {_READABLE}
ORDER BY created_at DESC, batch_id DESC LIMIT 1
"""
#: By what is asked: those unfinished, the others, or all.
HISTORY = {
    unfinished: f"""
SELECT {_BATCH} FROM batches WHERE consumer = %(consumer)b AND {_READABLE} {condition}
ORDER BY created_at DESC, batch_id DESC LIMIT %(limit)b
"""
    for unfinished, condition in {
        None: "",
        True: "AND ended_at IS NULL",
        False: "AND ended_at IS NOT NULL",
    }.items()
}

CHANGE = f"""
UPDATE batches SET state = %(state)b, reason = %(reason)b::text,
    started_at = coalesce(%(started_at)b::float8, started_at), ended_at = %(ended_at)b::float8,
    policy = coalesce(%(policy)b::text, policy), pace = coalesce(%(pace)b::text, pace)
WHERE {_THIS} AND {_READABLE} AND state = ANY(%(only_from)b::text[])
RETURNING {_BATCH}
"""
HOLD = f"""
UPDATE batches SET holder = %(holder)b, held_until = %(until)b::float8
WHERE {_THIS} AND {_READABLE}
AND (holder IS NULL OR holder = %(holder)b OR held_until IS NULL OR held_until <= %(at)b::float8)
RETURNING {_BATCH}
"""
LET_GO = f"""
UPDATE batches SET holder = NULL, held_until = NULL WHERE {_THIS} AND holder = %(holder)b
RETURNING 1
"""

COUNTS = f"""
SELECT standing, count(*), sum(api_calls)::bigint FROM batch_items
WHERE {_OF_THIS} GROUP BY standing
"""


def items(*, begun: bool | None, ended: bool | None) -> str:
    """The query for some items of a batch in order."""
    these = f"SELECT {_ITEM} FROM batch_items WHERE {_OF_THIS} AND number > %(after)b"
    order = "ORDER BY number LIMIT %(limit)b"
    standings = batch_rows.standings(begun=begun, ended=ended)
    if standings is None:
        if ended is not None:
            these += " AND ended_at IS NOT NULL"
        elif begun is not None:
            these += " AND attempt > 0"
        return f"{these} {order}"
    # Each standing is read in order from the index, and no more of it than is asked for.
    each = " UNION ALL ".join(f"({these} AND standing = '{s}' {order})" for s in standings)
    return f"SELECT * FROM ({each}) AS fitting {order}"


# --- items, several at a time --------------------------------------------------------------------


def _many(columns: dict[str, str], changes: str, condition: str) -> str:
    lists = ", ".join(f"%b::{kind}[]" for kind in columns.values())
    return f"""
WITH asked AS (
    SELECT asked.*, batch_items.batch
    FROM unnest({lists}) AS asked ({", ".join(columns)})
    JOIN batches ON batches.consumer = %b AND batches.batch_id = asked.batch_id
    JOIN batch_items ON batch_items.batch = batches.number AND batch_items.number = asked.number
    ORDER BY batch_items.batch, batch_items.number
    FOR UPDATE OF batch_items
)
UPDATE batch_items SET {changes} FROM asked
WHERE batch_items.batch = asked.batch AND batch_items.number = asked.number AND {condition}
RETURNING asked.place
"""


_NAMED = {"place": "int", "batch_id": "text", "number": "bigint", "attempt": "bigint"}

#: Take a list for each column, the place first, then the consumer; give the places of those that
#: fitted. No two may be about the same item.
BEGIN = _many(
    {**_NAMED, "relaunch_id": "text", "at": "float8"},
    f"""standing = '{batch_rows.IN_FLIGHT}', attempt = asked.attempt,
    relaunch_id = asked.relaunch_id, begun_at =
        CASE WHEN batch_items.attempt = asked.attempt THEN batch_items.begun_at ELSE asked.at END,
    ended_at = NULL, api_calls = 0, result = NULL""",
    """(batch_items.attempt < asked.attempt
    OR batch_items.attempt = asked.attempt AND batch_items.ended_at IS NULL)""",
)
FINISH = _many(
    {**_NAMED, "standing": "text", "at": "float8", "api_calls": "int", "result": "text"},
    """standing = asked.standing, ended_at = asked.at, api_calls = asked.api_calls,
    result = asked.result""",
    """batch_items.attempt = asked.attempt AND batch_items.attempt > 0
    AND batch_items.ended_at IS NULL""",
)

#: How those stand that did not fit: takes lists of places, batch ids and numbers.
AS_STORED = """
SELECT place, batch_items.attempt, batch_items.ended_at, batch_items.result
FROM unnest(%b::int[], %b::text[], %b::bigint[]) AS asked (place, batch_id, number)
JOIN batches ON batches.consumer = %b AND batches.batch_id = asked.batch_id
LEFT JOIN batch_items ON batch_items.batch = batches.number AND batch_items.number = asked.number
"""

PRUNE = """
WITH old AS (
    DELETE FROM batches WHERE number IN (
        SELECT number FROM batches WHERE consumer = %(consumer)b AND ended_at < %(before)b
        ORDER BY number LIMIT %(limit)b FOR UPDATE SKIP LOCKED
    ) RETURNING number
), gone AS (
    DELETE FROM batch_items USING old WHERE batch_items.batch = old.number
)
SELECT count(*) FROM old
"""
