"""procrastinate's connection to PostgreSQL, made patient.

By itself its worker stops, and aborts everything that it drives, when a heartbeat finds the server
away. Here it waits until the server is back, so a restart of the server moves no run to another
worker. What may have happened meanwhile without an answer is for the sweeper to find:
:attr:`PatientConnector.failures` tells it that there is something to look for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import RaiseException
from psycopg_pool import AsyncConnectionPool
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from orchestrator.durable.postgres.connections import GIVE_UP, PATIENCE, is_passing

T = TypeVar("T")

#: How many connections a worker has for its jobs.
_MOST = 4


class PatientConnector(PsycopgConnector):
    """Repeats what failed because the server was away, until :meth:`hurry` limits that."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(
            pool_factory=_pool,
            conninfo=_by_index(conninfo),
            configure=_autocommit,
            min_size=1,
            max_size=_MOST,
            timeout=PATIENCE,
            reconnect_timeout=GIVE_UP,
            name="jobs",
        )
        #: How often the server was found away, and when last (by the monotonic clock).
        self.failures = 0
        self.failed_at = float("-inf")
        self._give_up_at = float("inf")

    def hurry(self, seconds: float | None) -> None:
        """Give up what doesn't succeed within so many seconds from now; ``None``: never."""
        self._give_up_at = float("inf") if seconds is None else time.monotonic() + seconds

    async def execute_query_async(self, query: Any, **arguments: Any) -> None:
        """See procrastinate's connector, as for every method here.

        A job that this worker is to end, or to put back, may be another's by now: one that was
        taken for dead finds out last. That is left at that.
        """
        execute = super().execute_query_async
        try:
            await self._patiently(lambda: execute(query, **arguments))
        except ConnectorException as error:
            if not isinstance(database_error(error), RaiseException):
                raise

    async def execute_query_one_async(self, query: Any, **arguments: Any) -> dict[str, Any]:
        """One row."""
        execute = super().execute_query_one_async
        return await self._patiently(lambda: execute(query, **arguments))

    async def execute_query_all_async(self, query: Any, **arguments: Any) -> list[dict[str, Any]]:
        """All rows."""
        execute = super().execute_query_all_async
        return await self._patiently(lambda: execute(query, **arguments))

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen until cancelled."""
        listen = super().listen_notify
        await self._patiently(lambda: listen(on_notification, channels))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except ConnectorException as error:
            if not self._is_passing(error):
                raise
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(self._is_passing),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=self._is_late,
            reraise=True,
        ):
            with attempt:
                await self.pool.check()  # throws away the connections that were lost
                return await call()
        raise AssertionError("tenacity ends only by an answer or an error")

    def _is_passing(self, error: BaseException) -> bool:
        cause = error.__cause__ if isinstance(error, ConnectorException) else error
        if cause is None or not is_passing(cause):
            return False
        self.failures += 1
        self.failed_at = time.monotonic()
        return True

    def _is_late(self, _: RetryCallState) -> bool:
        return time.monotonic() >= self._give_up_at


def database_error(error: ConnectorException) -> psycopg.Error | None:
    """What psycopg raised."""
    return error.__cause__ if isinstance(error.__cause__, psycopg.Error) else None


def _by_index(conninfo: str) -> str:
    # Jobs are deleted when they end, so the table is usually empty when the database looks how
    # big it is, and for an empty table it plans to sort all that wait whenever one is fetched:
    # 0.2 s of CPU a job once 3,000 wait. There is an index for everything that the queue asks.
    off = ("bitmapscan", "hashjoin", "mergejoin", "seqscan", "sort")
    options = conninfo_to_dict(conninfo).get("options") or ""
    return make_conninfo(
        conninfo, options=f"{options} {' '.join(f'-c enable_{name}=off' for name in off)}"
    )


def _pool(**given: Any) -> AsyncConnectionPool:
    # Lost connections are found by use; asking each time would double every round trip.
    return AsyncConnectionPool(**{**given, "check": None})


async def _autocommit(connection: psycopg.AsyncConnection) -> None:
    await connection.set_autocommit(True)
