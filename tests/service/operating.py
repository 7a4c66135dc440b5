"""A service in virtual time, on a platform in memory, for those who operate it; and its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import AsyncRelauncher, Schedules
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.ports import AsyncPlatform
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.learner_tokens import LearnerTokens
from orchestrator.service.access.service_keys import ServiceKeys, new_key
from orchestrator.service.app import create_app
from orchestrator.service.metered import MeteredPlatform
from orchestrator.service.metrics import Metrics
from orchestrator.service.parts import ServiceOptions, ServiceParts
from orchestrator.testing import Async, InMemoryPlatform
from orchestrator.testing.virtual import VirtualClock
from orchestrator.traffic import Gate, PolitePlatform
from orchestrator.waiting import FixedSchedule
from tests.service.signing import SECRET

KEY, _KEPT = new_key("prometheus", [Scope.READ])
WEBHOOK_SECRET = "what the platform brings"


class Service:
    """The parts of a service, and its application; belongs to one virtual loop.

    ``around`` takes the place of the platform; ``gated``: there is a gate before it.
    """

    def __init__(
        self,
        platform: InMemoryPlatform | None = None,
        *,
        store: Any = None,
        gated: bool = False,
        around: Any = None,
        schedule: float = 600.0,
        secrets: tuple[str, ...] = (WEBHOOK_SECRET,),
    ) -> None:
        self.clock = VirtualClock()
        self.platform = platform or InMemoryPlatform(self.clock.now, teardown_seconds=50)
        self.store: Any = store or MemoryRunStore()
        self.metrics = Metrics(now=self.clock.now)
        called: AsyncPlatform = Async(self.platform) if around is None else around
        called = MeteredPlatform(called, self.metrics)
        if gated:
            called = PolitePlatform(called, Gate(clock=self.clock))
        self.relauncher = AsyncRelauncher(
            called,
            store=self.store,
            clock=self.clock,
            schedules=Schedules(teardown=FixedSchedule(schedule)),
            on_end=self.metrics.counts_ends_of(self.store),
        )
        self.parts = ServiceParts(
            relauncher=self.relauncher,
            platform=called,
            store=self.store,
            authority=Authority(
                keys=ServiceKeys([_KEPT.entry]), tokens=LearnerTokens(secret=SECRET)
            ),
            metrics=self.metrics,
            options=ServiceOptions(webhook_secrets=secrets),
            clock=self.clock,
        )
        self.app = create_app(self.parts)

    @asynccontextmanager
    async def client(self, address: str = "192.0.2.1") -> AsyncIterator[httpx.AsyncClient]:
        """A client, while the relauncher is open."""
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        async with (
            self.relauncher,
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            yield client

    def value(self, name: str, **labels: str) -> float | None:
        """What is measured just now; ``None`` if nothing is."""
        return self.metrics.registry.get_sample_value(f"lab_relaunch_{name}", labels)

    def counted(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The samples of one name, by the values of these labels."""
        text = generate_latest(self.metrics.registry).decode()
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"lab_relaunch_{name}"
        }
