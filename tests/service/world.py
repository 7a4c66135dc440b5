"""The service with the platform behind it: in virtual time, or on real ports; and who asks it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from orchestrator import AsyncRelauncher, Policy, Schedules
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import RunStore
from orchestrator.labs import Labs
from orchestrator.sandbox import Sandbox
from orchestrator.sandbox.server import SandboxServer
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.learner_tokens import LearnerTokens
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.access.service_keys import ServiceKeys, new_key
from orchestrator.service.app import create_app
from orchestrator.service.parts import ServiceOptions, ServiceParts
from orchestrator.service.server import ServiceServer
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.testing import Async, InMemoryPlatform
from orchestrator.testing.virtual import VirtualClock
from orchestrator.waiting import FixedSchedule, Knowledge
from tests.service.signing import SECRET, claims, signed

OLD, NEW, EXAM = 1001, 1002, 1003
_MADE = {scope: new_key(scope, [scope]) for scope in Scope}
#: A service key for each scope.
KEYS = {scope: key for scope, (key, _) in _MADE.items()}
KEY = KEYS[Scope.START]


def bearer(credential: str = KEY, **more: str) -> dict[str, str]:
    """The headers of one who brings this."""
    return {"Authorization": f"Bearer {credential}"} | more


def learner(user_id: str = "ada", **claimed: object) -> dict[str, str]:
    """The headers of a learner's browser."""
    return bearer(signed(claims(sub=user_id, **claimed)))


def authority() -> Authority:
    """Lets in the keys, and the learners of the LMS."""
    entries = [kept.entry for _, kept in _MADE.values()]
    return Authority(keys=ServiceKeys(entries), tokens=LearnerTokens(secret=SECRET))


class _Unhurried(Async):
    """A platform that takes its time to list a learner's labs."""

    survey_takes = 0.0

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        await asyncio.sleep(self.survey_takes)
        return await super().survey(user_id, timeout=timeout)


class Within:
    """A service in virtual time on a platform in memory; belongs to one virtual loop."""

    def __init__(
        self,
        *,
        store: RunStore | None = None,
        platform: type[InMemoryPlatform] = InMemoryPlatform,
        policy: Policy | None = None,
        limits: CallerLimits | None = None,
        teardown: float = 50.0,
        survey_takes: float = 0.0,
        **options: Any,
    ) -> None:
        # Tokens are made by the real clock.
        self.clock = VirtualClock(time.time())
        self.platform = platform(self.clock.now)
        self.platform.teardown_seconds = teardown
        self.store: Any = store or MemoryRunStore()
        self.knowledge = Knowledge()
        called = _Unhurried(self.platform)
        called.survey_takes = survey_takes
        self.relauncher = AsyncRelauncher(
            called,
            store=self.store,
            clock=self.clock,
            schedules=Schedules(knowledge=self.knowledge, teardown=FixedSchedule(10.0)),
        )
        self.parts = ServiceParts(
            relauncher=self.relauncher,
            platform=called,
            store=self.store,
            authority=authority(),
            policy=policy or Policy(),
            knowledge=self.knowledge,
            limits=limits or CallerLimits(),
            options=ServiceOptions(**options),
            clock=self.clock,
        )
        self.app = create_app(self.parts)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client, while the relauncher is open; what escapes the application is raised."""
        transport = httpx.ASGITransport(self.app)
        async with (
            self.relauncher,
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            yield client

    def replica(self) -> Within:
        """Another service on the same store and platform."""
        other = Within(store=self.store)
        other.platform = self.platform
        other.relauncher = AsyncRelauncher(
            Async(self.platform), store=self.store, clock=other.clock
        )
        other.parts = replace(other.parts, relauncher=other.relauncher)
        other.app = create_app(other.parts)
        return other

    @asynccontextmanager
    async def following(
        self, relaunch_id: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Following]:
        """A stream of events; at the end of the block its client vanishes."""
        headers = bearer() if headers is None else headers
        stream = Following(self.app, f"/relaunches/{relaunch_id}/events", headers)
        try:
            yield stream
        finally:
            await stream.leave()


class Following:
    """One who follows a stream over bare ASGI: httpx would wait for its end."""

    def __init__(self, app: Any, path: str, headers: Mapping[str, str]) -> None:
        self.text = ""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        #: Set: the client reads no further, so that what is sent to it waits.
        self.stalled = False
        self._more = asyncio.Condition()
        self._gone = asyncio.Event()
        self._asked = False
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("192.0.2.1", 1),
            "server": ("service", 80),
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        if self.stalled:
            await asyncio.Event().wait()
        async with self._more:
            self.text += message["body"].decode()
            self._more.notify_all()

    async def until(self, mark: str) -> str:
        """Wait for a text in the stream; everything up to now."""
        async with self._more:
            await self._more.wait_for(lambda: mark in self.text)
        return self.text

    async def end(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Wait for the end of the stream; its events."""
        await self.task
        return events_in(self.text)

    async def leave(self) -> None:
        """Vanish."""
        self._gone.set()
        await self.task


def events_in(text: str) -> list[tuple[str, int, dict[str, Any]]]:
    """The whole events of a stream: name, id, data."""
    found = []
    for block in text.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith((":", "retry:"))]
        if lines:
            told = dict(line.split(": ", 1) for line in lines)
            found.append((told["event"], int(told["id"]), json.loads(told["data"])))
    return found


@dataclass
class OnPorts:
    """A service and a sandbox on real ports, with a store in a file."""

    sandbox: Sandbox
    sandbox_url: str
    path: Path
    server: ServiceServer
    client: httpx.Client
    policy: Policy = field(default_factory=Policy)

    @property
    def address(self) -> tuple[str, int]:
        """Where the service listens."""
        url = httpx.URL(self.server.base_url)
        return url.host, url.port or 80

    def begin(
        self, user_id: str = "ada", lab: int = NEW, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Begin a relaunch."""
        answer = self.client.post(
            "/relaunches",
            json={"user_id": user_id, "lab_profile_id": lab},
            headers=headers or bearer(),
        )
        assert answer.status_code == 202, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def follow(
        self, relaunch_id: str, headers: Mapping[str, str] | None = None, base_url: str = ""
    ) -> list[tuple[str, int, dict[str, Any]]]:
        """The events of a stream, up to its end."""
        url = f"{base_url}/relaunches/{relaunch_id}/events"
        answer = self.client.get(url, headers=headers or bearer())
        assert answer.status_code == 200, answer.text
        return events_in(answer.text)


@contextmanager
def on_ports(
    folder: Path,
    *,
    teardown: str = "fixed:0.2",
    limits: CallerLimits | None = None,
    options: Mapping[str, Any] | None = None,
    **sandbox: Any,
) -> Iterator[OnPorts]:
    """Both, running."""
    emulated = Sandbox(teardown=teardown, **sandbox)
    path = folder / "relaunch.db"
    with (
        SandboxServer(emulated) as platform,
        service_on(platform.base_url, path, limits=limits, options=options) as server,
        httpx.Client(base_url=server.base_url, timeout=20) as client,
    ):
        yield OnPorts(emulated, platform.base_url, path, server, client)


def service_on(
    platform_url: str,
    path: Path,
    *,
    limits: CallerLimits | None = None,
    options: Mapping[str, Any] | None = None,
) -> ServiceServer:
    """A service before that platform, on that store."""

    @asynccontextmanager
    async def made(origin: str) -> AsyncIterator[tuple[FastAPI, ServiceParts]]:
        store = SQLiteRunStore(path)
        await store.open()
        client = AsyncSkillableClient("sandbox-key", base_url=platform_url, allow_http=True)
        platform = AsyncSkillablePlatform(client)
        relauncher = AsyncRelauncher(
            platform, store=store, schedules=Schedules(teardown=FixedSchedule(0.1))
        )
        parts = ServiceParts(
            relauncher=relauncher,
            platform=platform,
            store=store,
            authority=authority(),
            limits=limits or CallerLimits(),
            options=ServiceOptions(public_url=origin, **(options or {})),
        )
        try:
            yield create_app(parts), parts
        finally:
            await relauncher.aclose()
            await store.close()
            await client.aclose()

    return ServiceServer(made)
