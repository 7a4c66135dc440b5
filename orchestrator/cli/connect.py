"""From settings to a client and a platform, and logging set up on the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from orchestrator import logs
from orchestrator.cli.settings import Loaded, load
from orchestrator.skillable import AsyncSkillableClient


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
