"""The SQL of the PostgreSQL store: one statement, one round trip, one transaction each.

Every statement that changes several runs takes their locks in one order, and those that change one
are repeated by :mod:`.postgres_connections` if they were rolled back for another's sake.
"""

# ruff: noqa: S608 - what is put together here are the names of columns, never a value

from __future__ import annotations

from orchestrator.durable import rows
from orchestrator.durable.store import Filter
from orchestrator.machine.run import SCHEMA

_STORED = ", ".join(f"runs.{name}" for name in rows.STORED)
_THIS = "consumer = %(consumer)b AND relaunch_id = %(relaunch_id)b"
_OPEN = "consumer = %(consumer)b AND finished_at IS NULL"
# Those that this program reads and that nobody holds, except perhaps whoever asks. Whether a
# holder lives is not known here: on a fleet its worker's heartbeat tells.
_FREE = f"{_OPEN} AND run_schema <= {SCHEMA} AND (owner IS NULL OR owner = %(owner)b::text)"

EXISTS = f"SELECT 1 FROM runs WHERE {_THIS}"
LOAD = f"SELECT {_STORED} FROM runs WHERE {_THIS}"
SIGNALS = """
SELECT relaunch_id, hints, hinted, abort_requested FROM runs
WHERE consumer = %b AND relaunch_id = ANY(%b::text[])
"""
HOLDS = f"SELECT epoch = %(epoch)b::int AND finished_at IS NULL FROM runs WHERE {_THIS}"

_NEW_TYPES = [
    {"priority": "smallint", "run_schema": "int", "target": "bigint", "epoch": "int"}.get(
        name, "float8" if name.endswith("_at") else "text"
    )
    for name in rows.NEW
]
_NEW = ", ".join(rows.NEW)


def _insert(source: str) -> str:
    return f"""
INSERT INTO runs ({_NEW}) SELECT * FROM {source} AS new ({_NEW})
ON CONFLICT DO NOTHING RETURNING relaunch_id
"""


#: Takes the values of one new run; gives its id, unless something is in its way.
INSERT_ONE = _insert(f"(VALUES ({', '.join(f'%b::{kind}' for kind in _NEW_TYPES)}))")
#: Takes a list for each column; gives the ids of those that nothing is in the way of.
INSERT_MANY = _insert(f"unnest({', '.join(f'%b::{kind}[]' for kind in _NEW_TYPES)})")

# The run itself comes before the one with the same key, and that before the learner's.
IN_THE_WAY = f"""
SELECT relaunch_id, {_STORED} FROM runs
WHERE consumer = %(consumer)b AND (
    relaunch_id = %(relaunch_id)b
    OR idempotency_key = %(key)b::text
    OR (user_id = %(user_id)b AND finished_at IS NULL)
)
ORDER BY relaunch_id = %(relaunch_id)b DESC, idempotency_key = %(key)b::text DESC NULLS LAST
LIMIT 1
"""

CLAIM = f"""
UPDATE runs SET epoch = epoch + 1, owner = %(owner)b
WHERE {_THIS} AND finished_at IS NULL AND run_schema <= {SCHEMA}
AND (%(take_over)b OR owner IS NULL OR owner = %(owner)b)
RETURNING {_STORED}
"""

RELEASE = f"UPDATE runs SET owner = NULL WHERE {_THIS} AND epoch = %(epoch)b"

RETIRE = f"""
WITH held AS (
    SELECT number FROM runs WHERE {_OPEN} AND owner = %(owner)b ORDER BY number FOR UPDATE
)
UPDATE runs SET owner = NULL FROM held WHERE runs.number = held.number AND owner = %(owner)b
RETURNING relaunch_id
"""

HINT = f"""
WITH waiting AS (
    SELECT number FROM runs WHERE {_OPEN} AND target = %(target)b ORDER BY number FOR UPDATE
), hit AS (
    UPDATE runs SET hints = hints + 1, hinted = %(target)b, due_at = least(due_at, %(at)b)
    FROM waiting WHERE runs.number = waiting.number
    RETURNING relaunch_id
)
SELECT relaunch_id,
    pg_notify(%(channel)b, json_build_array(%(origin)b::text, relaunch_id)::text) IS NULL
FROM hit
"""

REQUEST_ABORT = f"""
WITH hit AS (
    UPDATE runs SET abort_requested = true, due_at = least(due_at, %(at)b)
    WHERE {_THIS} AND finished_at IS NULL
    RETURNING relaunch_id
)
SELECT pg_notify(%(channel)b, json_build_array(%(origin)b::text, relaunch_id)::text) IS NULL
FROM hit
"""

DUE = f"""
SELECT relaunch_id FROM runs WHERE {_FREE} AND due_at <= %(at)b
ORDER BY due_at, relaunch_id LIMIT %(limit)b
"""

NEXT_DUE = f"SELECT min(due_at) FROM runs WHERE {_FREE} AND due_at > %(after)b"

UNFINISHED = f"SELECT count(*) FROM runs WHERE {_OPEN}"
TO_BE_DRIVEN = f"SELECT relaunch_id, priority FROM runs WHERE {_OPEN} ORDER BY priority, created_at"

JOURNAL = f"""
SELECT entries.version, entries.entry FROM runs
LEFT JOIN journal AS entries ON entries.run = runs.number AND entries.version > %(after)b
WHERE {_THIS} ORDER BY entries.version
"""

#: Takes a list of ids and one of versions.
MOVED_ON = """
SELECT seen.id, coalesce(runs.version, seen.version),
    runs.version IS NULL OR runs.finished_at IS NOT NULL
FROM unnest(%(ids)b::text[], %(versions)b::int[]) AS seen (id, version)
LEFT JOIN runs ON runs.relaunch_id = seen.id AND runs.consumer = %(consumer)b
WHERE runs.version IS DISTINCT FROM seen.version
"""


def history(which: Filter) -> str:
    """Only with the conditions that are asked for, so that the database can use its indexes."""
    conditions = {
        "user_id = %(user_id)b": which.user_id,
        "state = %(state)b": which.state,
        "(finished_at IS NULL) = %(unfinished)b": which.unfinished,
        "created_at >= %(created_since)b": which.created_since,
    }
    asked = [text for text, value in conditions.items() if value is not None]
    return f"""
SELECT {_STORED} FROM runs WHERE {" AND ".join(["consumer = %(consumer)b", *asked])}
ORDER BY created_at DESC, relaunch_id DESC LIMIT %(limit)b
"""


PRUNE = """
WITH old AS (
    DELETE FROM runs WHERE number IN (
        SELECT number FROM runs WHERE consumer = %(consumer)b AND finished_at < %(before)b
        ORDER BY number LIMIT %(limit)b FOR UPDATE SKIP LOCKED
    ) RETURNING number
), gone AS (
    DELETE FROM journal USING old WHERE journal.run = old.number
)
SELECT count(*) FROM old
"""

# --- standing in line: one process of the consumer at a time -------------------------------------

LINE_UP = f"""
WITH asking AS (
    SELECT number FROM runs
    WHERE {_OPEN} AND relaunch_id = ANY(%(ids)b::text[]) AND NOT admitted
    ORDER BY number FOR UPDATE
)
UPDATE runs SET asked_at = %(at)b FROM asking WHERE runs.number = asking.number
"""

LET_IN = f"""
WITH line AS (
    SELECT number, relaunch_id,
        row_number() OVER (ORDER BY priority, created_at, relaunch_id) - 1 AS ahead
    FROM runs WHERE {_OPEN} AND NOT admitted AND asked_at > %(standing)b
), going AS (
    SELECT count(*) AS runs FROM runs WHERE {_OPEN} AND admitted AND deadline_at > %(at)b
), let_in AS (
    UPDATE runs SET admitted = true
    FROM line, going, unnest(%(ids)b::text[], %(most)b::int[]) AS asking(relaunch_id, most)
    WHERE runs.number = line.number AND runs.relaunch_id = asking.relaunch_id
    AND going.runs + line.ahead < asking.most
    RETURNING runs.number
)
SELECT runs.relaunch_id, CASE WHEN let_in.number IS NULL THEN line.ahead END
FROM runs LEFT JOIN line USING (number) LEFT JOIN let_in USING (number)
WHERE consumer = %(consumer)b AND runs.relaunch_id = ANY(%(ids)b::text[])
"""

# --- transitions -------------------------------------------------------------------------------

#: A step's columns beside those of :data:`rows.STEP`, and the types of them all.
_TYPES = {
    "place": "int", "relaunch_id": "text", "epoch": "int", "entry": "text",
    "run_schema": "int", "state": "text", "target": "bigint", "run": "text", "version": "int",
    "due_at": "float8", "api_calls": "int", "hints_seen": "int", "updated_at": "float8",
    "finished_at": "float8",
}  # fmt: skip
_COLUMNS = ("place", "relaunch_id", "epoch", "entry", *rows.STEP)


#: Whatever the holder has not seen yet keeps the run due, in case it dies now.
_DUE_AT = """
CASE WHEN step.finished_at IS NULL AND (hints > step.hints_seen OR abort_requested)
THEN least(runs.due_at, step.due_at) ELSE step.due_at END
"""
_SET = {name: f"step.{name}" for name in rows.STEP} | {"due_at": _DUE_AT}


def _append(source: str) -> str:
    return f"""
WITH hit AS (
    UPDATE runs SET {", ".join(f"{name} = {value}" for name, value in _SET.items())},
        owner = CASE WHEN step.finished_at IS NULL THEN runs.owner END
    FROM {source} AS step ({", ".join(_COLUMNS)})
    WHERE runs.consumer = %b AND runs.relaunch_id = step.relaunch_id
    AND runs.epoch = step.epoch AND runs.version = step.version - 1 AND runs.finished_at IS NULL
    RETURNING runs.number, runs.version, step.place, step.entry, hints, hinted, abort_requested
), logged AS (
    INSERT INTO journal (run, version, entry) SELECT number, version, entry FROM hit
)
SELECT place, hints, hinted, abort_requested FROM hit
"""


#: Takes the values of one step; this is cheaper for one than the lists are.
APPEND_ONE = _append(f"(VALUES ({', '.join(f'%b::{_TYPES[name]}' for name in _COLUMNS)}))")
#: Takes a list for each column.
APPEND_MANY = _append(f"unnest({', '.join(f'%b::{_TYPES[name]}[]' for name in _COLUMNS)})")

#: What became of steps that found no row to change.
AS_STORED = """
SELECT relaunch_id, epoch, version, run, hints, hinted, abort_requested FROM runs
WHERE consumer = %b AND relaunch_id = ANY(%b::text[])
"""

# --- shared texts --------------------------------------------------------------------------------

#: A compare-and-set; version 0 stands for "there is none".
SWAP = """
INSERT INTO shared (consumer, name, text, version)
VALUES (%(consumer)b, %(name)b, %(text)b::text, %(version)b::bigint + 1)
ON CONFLICT (consumer, name) DO UPDATE SET text = excluded.text, version = excluded.version
WHERE shared.version = %(version)b::bigint
RETURNING 1
"""

PLACE_FOR = """
INSERT INTO shared (consumer, name, version) VALUES (%(consumer)b, %(name)b, 1)
ON CONFLICT DO NOTHING
"""

LOCK = """
SELECT text, version FROM shared WHERE consumer = %(consumer)b AND name = %(name)b FOR UPDATE
"""
