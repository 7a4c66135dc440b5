"""Wake-ups between the processes that share a PostgreSQL store, by LISTEN and NOTIFY.

* A payload is a JSON list: who tells, then the ids of the runs that changed (none: any of them).
  Each process tells its own watchers by itself, and passes over what it told.
* What somebody must act on, a hint or a wish to abort, is told by the statement that stores it. The
  rest is news for those who follow a run, so it is collected and told a few times a second: every
  NOTIFY of a transition would be work for every process of the fleet.
* NOTIFY reaches whoever is connected. A listener that was not, for a while or from the beginning,
  tells its watchers that any run may have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import uuid
from collections.abc import Iterator

from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from orchestrator.durable.postgres.connections import AWAY, Connection, Connections
from orchestrator.durable.watching import Watchers
from orchestrator.errors import StoreUnavailable
from orchestrator.logs import get_logger

_log = get_logger("orchestrator.durable")

#: Seconds for which news is collected, at most.
COLLECT = 0.25
#: Seconds of silence after which a listener asks whether the server is still there, and how long it
#: waits for the answer.
SILENCE = 1.0
ANSWER = 5.0
#: Bytes that PostgreSQL takes as one payload are 7999; ids are 64 bytes at most.
_MOST_IDS = 100


class Wakeups:
    """Tells other processes of changes, and this one's ``watchers`` of theirs."""

    def __init__(self, connections: Connections, consumer: str, watchers: Watchers) -> None:
        self._connections = connections
        self._watchers = watchers
        told_apart = hashlib.sha256(f"{connections.schema}\0{consumer}".encode()).hexdigest()
        self.channel = f"lab_relaunch_{told_apart[:24]}"
        self.origin = uuid.uuid4().hex[:12]
        self._news: dict[str, None] = {}
        self._soon = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def note(self, relaunch_id: str, *, soon: bool = False, here: bool = True) -> None:
        """A run has changed: tell this process now (if ``here``), the others with the next news."""
        if here:
            self._watchers.tell(relaunch_id)
        self._news[relaunch_id] = None
        if soon:
            self._soon.set()
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell(), name="news")

    def listen(self) -> None:
        """Begin to listen, unless that has begun."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="listener")

    async def close(self) -> None:
        """Tell what is still to be told, and end."""
        self._soon.set()
        if self._telling is not None:
            await asyncio.wait([self._telling])
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _tell(self) -> None:
        try:
            while self._news:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COLLECT):
                        await self._soon.wait()
                self._soon.clear()
                news, self._news = self._news, {}
                # Whoever follows a run asks now and then by itself: not worth a second try.
                with contextlib.suppress(StoreUnavailable):
                    for payload in self._payloads(list(news)):
                        await self._connections.run(
                            "SELECT pg_notify(%b, %b)", (self.channel, payload)
                        )
        finally:
            self._telling = None

    def _payloads(self, ids: list[str]) -> Iterator[str]:
        for first in range(0, len(ids), _MOST_IDS):
            yield json.dumps([self.origin, *ids[first : first + _MOST_IDS]])

    async def _listen(self) -> None:
        while True:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f"LISTEN {self.channel}".encode())
                    self._watchers.tell(None)
                    await self._hear(connection)
            except (*AWAY, TimeoutError) as error:
                _log.warning("listener_lost", reason=type(error).__name__)

    async def _connect(self) -> Connection:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(AWAY),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
        ):
            with attempt:
                return await self._connections.connect()
        raise AssertionError("tenacity ends only by an answer")

    async def _hear(self, connection: Connection) -> None:
        while True:
            async for notification in connection.notifies(timeout=SILENCE):
                self._pass_on(notification.payload)
            async with asyncio.timeout(ANSWER):
                await connection.execute("SELECT 1")

    def _pass_on(self, payload: str) -> None:
        try:
            origin, *ids = json.loads(payload)
        except ValueError:
            origin, ids = "", []  # not ours: somebody else's use of the channel
        if origin == self.origin:
            return
        for relaunch_id in ids or (None,):
            self._watchers.tell(relaunch_id)
