"""After a batch was aborted: what it has in flight comes to its end, whoever has to see to it.

Whoever carries the batch out does. If nobody does any more, the one who aborted it does, so that no
item is told to be in flight for ever. Nothing is begun on the way: an item whose relaunch was never
created has ended, and one that had only joined somebody's relaunch lets that go on.
"""

from __future__ import annotations

import asyncio

from orchestrator.batch.flights import Flight
from orchestrator.batch.requests import relaunch_id_of
from orchestrator.durable.batches import Batch, ItemResult, StoredItem
from orchestrator.errors import UnknownRelaunch
from orchestrator.machine.vocabulary import State
from orchestrator.relauncher import AsyncRelauncher

#: Seconds between two looks whether whoever carries the batch out has brought all to its end.
LOOK = 0.5


async def end_in_flight(relauncher: AsyncRelauncher, batch_id: str) -> None:
    """Return when nothing of an aborted batch is in flight any more."""
    batches, clock = relauncher.store.batches, relauncher.clock
    while True:
        batch, now = await batches.load(batch_id), clock.now()
        if not (await batches.counts(batch_id)).in_flight:
            return
        if not batch.is_held(now):
            left = await batches.items(batch_id, begun=True, ended=False)
            await asyncio.gather(*(_end(relauncher, batch, stored) for stored in left))
            return
        await clock.wait(LOOK, asyncio.Event())


async def _end(relauncher: AsyncRelauncher, batch: Batch, stored: StoredItem) -> None:
    store, item = relauncher.store, stored.item
    own = relaunch_id_of(batch, store.consumer, item.number, stored.attempt)
    goes_on = ""
    if stored.relaunch_id == own:
        try:
            await relauncher.attach(own)
        except UnknownRelaunch:
            pass
        else:
            await Flight(relauncher, batch, stored).fly()
            return
    else:
        goes_on = f" Relaunch {stored.relaunch_id}, which it had joined, goes on."
    told = f"Aborted for user {item.user_id}, lab {item.lab_profile_id}. No lab was ended.{goes_on}"
    await store.batches.finish(
        batch.batch_id,
        item.number,
        ItemResult(outcome=State.ABORTED, reason="aborted", message=told),
        attempt=stored.attempt,
        at=relauncher.clock.now(),
    )
