"""From settings to a client and a platform, and logging set up on the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import structlog

from orchestrator import Schedules, logs
from orchestrator.cli.settings import Loaded, load
from orchestrator.skillable import AsyncSkillableClient
from orchestrator.waiting import Knowledge, KnowledgeFile


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
