"""What the service is made of, injected; every route gets at it through :data:`Ours`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from orchestrator.clocks import AsyncSystemClock
from orchestrator.durable.batches import Pace
from orchestrator.durable.store import RunStore
from orchestrator.machine.run import Policy
from orchestrator.ports import AsyncClock, AsyncPlatform
from orchestrator.relauncher import AsyncRelauncher
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.metrics import Metrics
from orchestrator.service.streams import Streams
from orchestrator.waiting import Knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """How the service behaves.

    ``public_url`` is how pages reach it (no slash at its end); ``allowed_origins`` the origins of
    the pages that may; ``webhook_secrets`` what a webhook must bring (none: no webhook is let in);
    ``largest_body`` in bytes, ``slowest_body`` in seconds, ``largest_batch`` and ``slowest_batch``
    those of a batch; a silent stream gives a sign every
    ``heartbeat_seconds``, and after ``retry_milliseconds`` a client whose stream broke comes again.
    """

    public_url: str = "http://127.0.0.1:8080"
    allowed_origins: tuple[str, ...] = ()
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    largest_body: int = 65_536
    slowest_body: float = 10.0
    largest_batch: int = 8_388_608
    slowest_batch: float = 60.0
    heartbeat_seconds: float = 15.0
    retry_milliseconds: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """See the module's docstring. ``platform`` is the one that ``relauncher`` calls.

    ``policy`` is what a relaunch may do, and ``pace`` how fast a batch goes, unless a service key
    says otherwise; ``draining`` is set once the service is about to stop.
    """

    relauncher: AsyncRelauncher
    platform: AsyncPlatform
    store: RunStore
    authority: Authority
    policy: Policy = field(default_factory=Policy)
    pace: Pace = field(default_factory=Pace)
    knowledge: Knowledge = field(default_factory=Knowledge)
    limits: CallerLimits = field(default_factory=CallerLimits)
    metrics: Metrics = field(default_factory=Metrics)
    options: ServiceOptions = field(default_factory=ServiceOptions)
    clock: AsyncClock = field(default_factory=AsyncSystemClock)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    streams: Streams = field(default_factory=Streams)

    def drain(self) -> None:
        """Begin nothing any more, and close every event stream; its client comes again."""
        self.draining.set()
        self.streams.close()


async def _parts_of(request: Request) -> ServiceParts:
    parts: ServiceParts = request.app.state.parts
    return parts


Ours = Annotated[ServiceParts, Depends(_parts_of)]
