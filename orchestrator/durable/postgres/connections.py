"""Connections to PostgreSQL: where they lead, and what their failures are called.

Every failure that time may heal (the server is away, restarting, out of connections) becomes
:class:`~orchestrator.errors.StoreUnavailable`. What was asked for may then be stored or not, so
everything that goes through here must be fit to be repeated. It is repeated once when a connection
turns out to be lost: a restarted server leaves a pool of such connections behind.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from orchestrator.durable.migrating import TABLE, Migration, migrations, steps_from
from orchestrator.errors import ConfigurationError, StoreIncompatible, StoreUnavailable

Row = tuple[Any, ...]
Connection = AsyncConnection[Row]
Parameters = Sequence[Any] | Mapping[str, Any]
T = TypeVar("T")

#: Seconds to wait for a free connection, or for a new one.
PATIENCE = 3.0
#: Seconds after which replacing a lost connection is given up; who needs one then tries at once.
GIVE_UP = 1.0
#: How many connections a store has for its statements at most.
MOST = 8

#: What psycopg raises when the server, or the way to it, is not in order. (And for what we got
#: wrong, which the SQLSTATE tells.)
AWAY = (psycopg.OperationalError, psycopg.InterfaceError)

# Connection trouble, rolled back for others' sake, out of resources, locked, shutting down.
_PASSING = re.compile(r"08...|40...|53...|55P03|57...")

#: Why there is no connection, in the client's words, as far as they can be told.
_REASONS = (
    "password authentication failed", "no password supplied", "no pg_hba.conf entry",
    "does not exist", "Connection refused", "No such file or directory", "failed to resolve host",
    "timeout", "starting up", "shutting down", "too many clients", "certificate",
)  # fmt: skip


class Connections:
    """A pool of connections in autocommit mode, with one schema as their search path."""

    def __init__(self, url: str, schema: str) -> None:
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,40}", schema):
            raise ConfigurationError(
                f"{schema!r} can't be the name of a schema here: small letters, digits and '_'."
            )
        self.schema = schema
        self.conninfo = _conninfo(url, schema)
        self._pool: AsyncConnectionPool[Connection] | None = None

    async def open(self, known: Sequence[Migration] | None = None) -> None:
        """Connect, and bring the schema up to date (``known``: with these steps, not ours)."""
        if self._pool is not None:
            return
        try:
            async with await self.connect() as connection:
                await _migrate(
                    connection, self.schema, migrations("postgres") if known is None else known
                )
        except psycopg.Error as error:
            raise translated(error) from error
        self._pool = AsyncConnectionPool(
            self.conninfo,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=MOST,
            timeout=PATIENCE,
            reconnect_timeout=GIVE_UP,
            open=False,
            name="relaunches",
        )
        await self._pool.open()

    async def close(self) -> None:
        """Let go of every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def connect(self) -> Connection:
        """A connection beside the pool."""
        return await AsyncConnection.connect(self.conninfo, autocommit=True)

    async def run(self, statement: str, parameters: Parameters) -> list[Row]:
        """The rows of one statement."""
        return await self.using(lambda connection: fetch(connection, statement, parameters))

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``work`` makes of a connection in a transaction, which is committed at its end."""

        async def within(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self.using(within)

    async def using(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``work`` makes of a connection; it may be called twice."""
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("The store is not open. Nothing was changed; open it first.")
        try:
            try:
                async with pool.connection() as connection:
                    return await work(connection)
            except PoolTimeout:
                raise
            except AWAY:
                await pool.check()
                async with pool.connection() as connection:
                    return await work(connection)
        except psycopg.Error as error:
            raise translated(error) from error


async def fetch(connection: Connection, statement: str, parameters: Parameters) -> list[Row]:
    """The rows of a statement on this connection."""
    cursor = await connection.execute(statement.encode(), parameters, binary=True)
    # (Whether there are rows is asked by the number of the next one: a description would be made.)
    return [] if cursor.rownumber is None else await cursor.fetchall()


def translated(error: psycopg.Error) -> Exception:
    """The error of the store's own tree that stands for one of psycopg's; others as they are."""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return StoreIncompatible(
            f"The store's tables are not those of this program ({error.sqlstate}): changed by a "
            "newer version meanwhile, or removed. Nothing was changed. Restart with the newest "
            "version."
        )
    if not is_passing(error):
        return error
    # The client's own words are not told: of a URL that was misread they may show the password.
    told = str(error)
    reason = error.sqlstate or next((r for r in _REASONS if r in told), "no connection")
    return StoreUnavailable(
        f"PostgreSQL cannot be used right now ({type(error).__name__}: {reason}). What was asked "
        "for may or may not be stored; asking again is safe."
    )


def is_passing(error: BaseException) -> bool:
    """Whether it is a failure that time may heal."""
    if not isinstance(error, AWAY):
        return False
    return error.sqlstate is None or _PASSING.fullmatch(error.sqlstate) is not None


def _conninfo(url: str, schema: str) -> str:
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        # Without psycopg's words: they may show a piece of the password.
        raise ConfigurationError(
            "The store's URL can't be read: postgresql://user:password@host/database is the form."
        ) from None
    options = f"{given.pop('options', '')} -c search_path={schema}".strip()
    given.setdefault("connect_timeout", 5)
    given.setdefault("application_name", "lab-relaunch")
    return make_conninfo("", **given, options=options)


async def _migrate(connection: Connection, schema: str, known: Sequence[Migration]) -> None:
    if not await _steps(connection, known):
        return
    async with connection.transaction():
        # Many workers may start at once: one makes the schema, the others find it.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext(%s))", (f"lab-relaunch schema {schema}",)
        )
        if await fetch(connection, "SELECT 1 WHERE to_regnamespace(%b) IS NULL", (schema,)):
            await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        await connection.execute(TABLE)
        for step in await _steps(connection, known):
            await connection.execute(step.sql.encode())
            await connection.execute("DELETE FROM relaunch_schema")
            await connection.execute(
                "INSERT INTO relaunch_schema (version, readable_by) VALUES (%s, %s)",
                (step.version, step.readable_by),
            )


async def _steps(connection: Connection, known: Sequence[Migration]) -> tuple[Migration, ...]:
    if await fetch(connection, "SELECT 1 WHERE to_regclass('relaunch_schema') IS NULL", ()):
        return steps_from(None, known)
    rows = await fetch(connection, "SELECT version, readable_by FROM relaunch_schema", ())
    return steps_from((rows[0][0], rows[0][1]) if rows else None, known)
