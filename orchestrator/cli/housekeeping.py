"""What a process that runs for long does now and then: forget the old, keep what was learned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from orchestrator.cli.connect import Connected
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import prune
from orchestrator.durable.store import RunStore
from orchestrator.errors import StoreUnavailable

#: Seconds between two times.
NOW_AND_THEN = 600.0


async def keep_house(
    parts: Connected,
    store: RunStore,
    loaded: Loaded,
    *,
    tell: Callable[[str], object],
    also: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Until cancelled; ``also`` is what else is to be done each time."""
    while True:
        # A store that is away for the moment is asked the next time.
        with contextlib.suppress(StoreUnavailable):
            gone = await prune(store, loaded)
            if gone:
                tell(f"Forgot {gone} relaunches that ended long ago.")
        parts.save_knowledge()
        if also is not None:
            await also()
        await asyncio.sleep(NOW_AND_THEN)
