"""Following a relaunch to its end, with progress on stderr; and what a signal makes of it.

Without a store a signal ends the relaunch. With one it ends only the following, at once and without
another call: the relaunch is kept for whoever goes on with it, or goes on where it is driven.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

from orchestrator.cli.connect import Connected
from orchestrator.cli.display import display
from orchestrator.cli.stores import is_driven
from orchestrator.durable.handle import AsyncDurableRelaunch
from orchestrator.durable.runtime import outcome_so_far
from orchestrator.durable.store import RunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.handles import AsyncRelaunch
from orchestrator.progress import Outcome, Progress, interrupted_of

#: Seconds after which a fleet that has not begun is asked about.
_NO_WORKER = 5.0
#: Seconds between two questions whether a store is back.
_COME_BACK = 0.5


def say(text: str) -> None:
    """A line beside the progress."""
    print(text, file=sys.stderr, flush=True)


async def follow(
    handle: AsyncRelaunch, task: asyncio.Task[object], *, teardown_seconds: float | None = None
) -> Outcome:
    """Follow a relaunch without a store, which this drives; a signal ends it.

    ``task`` is what a signal cancels: see :func:`.interrupts.cancelling`.
    """
    with display(teardown_seconds=teardown_seconds) as shown:
        try:
            async for progress in handle.events():
                shown.show(progress)
        except asyncio.CancelledError:
            task.uncancel()
    if handle.outcome is None:
        # The signal came before the first step.
        handle.abort()
        return await handle.result()
    return handle.outcome


async def follow_durable(
    parts: Connected,
    store: RunStore,
    handle: AsyncDurableRelaunch,
    task: asyncio.Task[object],
    *,
    requested: bool = True,
) -> Outcome:
    """Follow a relaunch of the store; a signal leaves it. Raises what starting it raises.

    ``requested``: it was asked for, so that it is news if another request's was joined.
    """
    try:
        await handle.accepted()
        if handle.joined and requested:
            say(_joined(handle))
        asking = asyncio.create_task(_ask_for_a_worker(store, handle))
        try:
            with display() as shown:
                async for progress in _patiently(handle):
                    asking.cancel()
                    shown.show(progress)
        finally:
            asking.cancel()
        return await handle.result()
    except asyncio.CancelledError:
        task.uncancel()
    # Its id, even if the signal came while it was being stored.
    relaunch_id = await handle.accepted()
    await parts.relauncher.aclose(grace=0)
    return await left(store, relaunch_id)


async def _patiently(handle: AsyncDurableRelaunch) -> AsyncIterator[Progress]:
    """Every progress, also while the store is away for a while: whoever drives it waits as well."""
    after, told = 0, False
    while True:
        try:
            async for progress in handle.events(after=after):
                after = progress.sequence
                yield progress
            return
        except StoreUnavailable as error:
            if time.time() > handle.run.deadline_at:
                raise
            if not told:
                say(f"The store is away, so the relaunch waits where it is: {error}")
            told = True
            await asyncio.sleep(_COME_BACK)


async def left(store: RunStore, relaunch_id: str) -> Outcome:
    """What is told of a relaunch that is not followed any more; its end if it has ended."""
    stored = await store.load(relaunch_id)
    if stored.finished_at is not None:
        return await outcome_so_far(store, stored)
    goes_on = store.engine == "fleet" or await is_driven(store, stored)
    again = "follow it" if goes_on else "go on with it"
    return interrupted_of(
        stored.run,
        at=time.time(),
        api_calls=stored.api_calls,
        events=tuple(entry.progress for entry in await store.journal(relaunch_id)),
        goes_on=goes_on,
        remedy=(
            f"Run the same command again to {again}, or `relaunch runs abort {relaunch_id}` to "
            "end it."
        ),
    )


def _joined(handle: AsyncDurableRelaunch) -> str:
    if handle.run.state.is_terminal:
        return f"Relaunch {handle.relaunch_id} had this idempotency key; this is how it ended."
    return f"Joined relaunch {handle.relaunch_id}, which is in flight for this learner and lab."


async def _ask_for_a_worker(store: RunStore, handle: AsyncDurableRelaunch) -> None:
    if store.engine != "fleet":
        return
    await asyncio.sleep(_NO_WORKER)
    say(
        f"No worker has begun with relaunch {handle.relaunch_id} yet; it is stored, and begins "
        "when one has room. (Is one running? `relaunch worker` is one.)"
    )
