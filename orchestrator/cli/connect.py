"""From settings to a client, a store and a relauncher; logging is set up on the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import platformdirs
import structlog

from orchestrator import AsyncRelauncher, Schedules, logs
from orchestrator.cli.settings import Loaded, load
from orchestrator.cli.stores import store_of
from orchestrator.durable.driver import WorkerOptions
from orchestrator.durable.store import RunStore
from orchestrator.errors import ConfigurationError
from orchestrator.ports import AsyncPlatform, AsyncRoster
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.traffic import Gate, Limits, PolitePlatform
from orchestrator.waiting import Knowledge, KnowledgeFile

if TYPE_CHECKING:
    from orchestrator.service.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A relauncher, and what it was made of; without a ``store`` it is not durable."""

    relauncher: AsyncRelauncher
    platform: AsyncPlatform
    schedules: Schedules
    knowledge: KnowledgeFile | None
    store: RunStore | None

    @property
    def roster(self) -> AsyncRoster:
        """The platform, as one that is asked about the whole API consumer."""
        # What is made here is one; whoever made another platform has no batches to select.
        return cast(AsyncRoster, self.platform)

    def save_knowledge(self) -> None:
        """Keep what was learned."""
        if self.knowledge is not None and self.schedules.knowledge.changed:
            self.knowledge.save(self.schedules.knowledge)


@contextlib.asynccontextmanager
async def connected(loaded: Loaded, *, metrics: Metrics | None = None) -> AsyncIterator[Connected]:
    """A relauncher as the settings want it; ``metrics`` counts its calls and what ends here.

    At the end unfinished relaunches are left to others, and calls that are still under way dropped;
    whoever would wait for their answers closes the relauncher first.
    """
    policy, options = loaded.policy(), loaded.settings.worker.model_dump()
    file = knowledge_file_of(loaded)
    schedules = schedules_of(loaded, file)
    store = store_of(loaded)
    client = client_of(loaded)
    platform = _polite(_metered(AsyncSkillablePlatform(client), metrics), loaded, store)
    relauncher = AsyncRelauncher(
        platform,
        policy=policy,
        schedules=schedules,
        store=store,
        most_in_flight=loaded.settings.traffic.most_in_flight,
        worker=WorkerOptions(**options),
        on_end=metrics.counts_ends_of(store) if metrics is not None and store is not None else None,
    )
    parts = Connected(
        relauncher=relauncher,
        platform=platform,
        schedules=schedules,
        knowledge=file,
        store=store,
    )
    try:
        yield parts
    finally:
        await relauncher.aclose(grace=0)
        if metrics is not None:
            await metrics.settled()
        parts.save_knowledge()
        if store is not None:
            await store.close()
        await close(client)


def _metered(platform: AsyncPlatform, metrics: Metrics | None) -> AsyncPlatform:
    if metrics is None:
        return platform
    # It needs the extra of the service, which whoever has metrics has.
    from orchestrator.service.metered import MeteredPlatform

    return MeteredPlatform(platform, metrics)


def _polite(platform: AsyncPlatform, loaded: Loaded, store: RunStore | None) -> AsyncPlatform:
    """The platform behind a gate that all processes of the store share."""
    chosen = loaded.settings.traffic
    limits = Limits(calls_per_second=chosen.calls_per_second, burst=chosen.burst)
    try:
        return PolitePlatform(platform, Gate(store, limits=limits))
    except ConfigurationError:
        if chosen.calls_per_second is not None:
            raise
        return platform


def settings_for(file: Path | None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Load the settings and set logging up by them. ``None`` in ``flags`` means not given."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    loaded = load(file, given)
    _set_up_logging(loaded)
    return loaded


def client_of(loaded: Loaded) -> AsyncSkillableClient:
    """A client of the platform that the settings name."""
    platform = loaded.settings.platform
    return AsyncSkillableClient(
        loaded.api_key(), base_url=platform.base_url, allow_http=platform.allow_http
    )


def knowledge_file_of(loaded: Loaded) -> KnowledgeFile | None:
    """Where what was learned is kept; lab profiles of different platforms are never mixed."""
    chosen = loaded.settings.knowledge.file
    if chosen == "none":
        return None
    if chosen != "auto":
        return KnowledgeFile(Path(chosen).expanduser())
    place = urlsplit(loaded.settings.platform.base_url).netloc.replace(":", "-")
    name = f"teardowns-{re.sub(r'[^A-Za-z0-9.-]', '_', place)}.json"
    return KnowledgeFile(platformdirs.user_state_path("lab-relaunch") / name)


def schedules_of(loaded: Loaded, file: KnowledgeFile | None) -> Schedules:
    """The schedules that the settings name, with what was learned so far."""
    cost = loaded.settings.schedule.cost_per_look
    # A grid of times that ends before the deadline could not tell what happens after.
    deadline = max(900.0, loaded.settings.policy.deadline_seconds)
    if file is None:
        knowledge = Knowledge(cost, deadline)
    else:
        knowledge = file.load(cost_per_look=cost, deadline=deadline)
    return Schedules(knowledge=knowledge, teardown=loaded.schedule())


async def close(client: AsyncSkillableClient) -> None:
    """Cut off whatever is still open: nobody waits for a hanging connection's farewell."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.aclose()


def _set_up_logging(loaded: Loaded) -> None:
    chosen = loaded.settings.logging
    salt = chosen.hash_user_ids
    logs.hash_user_ids(salt.get_secret_value() if salt else None)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if chosen.format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    # Its own level as well: others may listen to more.
    handler.setLevel(chosen.level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(allow=logs.FIELDS),
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ]
        )
    )
    logger = logging.getLogger("orchestrator")
    logger.handlers[:] = [handler]
    logger.setLevel(chosen.level)
    logger.propagate = False
    # Tells the database's address for each try; that the store is away is told by our own words.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
