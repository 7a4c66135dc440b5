"""The way to the platform: slow at times; what is on it arrives even if its sender is dead.

Keeps, for the judge, who has asked for what in whose name. The platform itself is the sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import httpx

from orchestrator.sandbox import Reply, Sandbox

if TYPE_CHECKING:
    from tests.simulation.process import Process

_EFFECTS = ("launch", "cancel", "save", "resume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request that left its process, in the name of a relaunch, at this (true) time."""

    at: float
    process: str
    relaunch_id: str
    operation: str
    #: 0 if it is about none.
    instance_id: int

    @property
    def displaces(self) -> bool:
        """Whether it is to make room."""
        return self.operation in ("cancel", "save")

    @property
    def has_effect(self) -> bool:
        """Whether it is to change something."""
        return self.operation in _EFFECTS


@dataclass(slots=True)
class Network:
    """The way to the sandbox. ``slowest`` is how long a request or an answer may take."""

    sandbox: Sandbox
    now: Callable[[], float]
    told: Callable[[str, str, str], None]
    key: str = "sandbox-key"
    slowest: float = 0.1
    sent: list[Sent] = field(default_factory=list)
    on_sent: list[Callable[[Sent], object]] = field(default_factory=list)

    def send(self, sent: Sent) -> None:
        """Note that a request is on its way."""
        self.sent.append(sent)
        for hook in self.on_sent:
            hook(sent)


class Wire(httpx.AsyncBaseTransport):
    """A process's end of it."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; whatever becomes of the sender meanwhile, it arrives (or not)."""
        network, process = self._network, self._process
        await process.through()
        loop = asyncio.get_running_loop()
        query = parse_qsl(request.url.query.decode(), keep_blank_values=True)
        there, back = (process.luck.uniform(0.001, network.slowest) for _ in range(2))
        is_dropped = process.luck.random() < 0.3
        sent = self._note(request, dict(query))
        answer: asyncio.Future[Reply] = loop.create_future()

        def arrive() -> None:
            if process.is_dead and is_dropped:
                return
            reply = network.sandbox.handle(
                request.method, request.url.path, query, dict(request.headers.items())
            )
            got = reply.status if reply.connection == "answer" else reply.connection
            text = reply.body.decode("utf-8", "replace")[:160] if sent.has_effect else ""
            network.told(process.name, sent.relaunch_id, f"{sent.operation} got {got} {text}")
            if reply.connection != "hang":
                loop.call_later(back + reply.delay, _settle, answer, reply)

        loop.call_later(there, arrive)
        reply = await answer
        await process.through()
        if reply.connection == "break":
            raise httpx.ReadError("the connection broke", request=request)
        return httpx.Response(
            reply.status, headers=dict(reply.headers), content=reply.body, request=request
        )

    def _note(self, request: httpx.Request, query: dict[str, str]) -> Sent:
        task = asyncio.current_task()
        known = {name.lower(): value for name, value in query.items()}
        instance_id = known.get("labinstanceid")
        sent = Sent(
            at=self._network.now(),
            process=self._process.name,
            relaunch_id=(task.get_name() if task else "").removeprefix("relaunch "),
            operation=request.url.path.rpartition("/")[2].lower(),
            instance_id=int(instance_id or 0),
        )
        self._network.send(sent)
        return sent


def _settle(answer: asyncio.Future[Reply], reply: Reply) -> None:
    if not answer.done():
        answer.set_result(reply)
