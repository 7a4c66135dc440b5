"""A batch from its beginning: stored or found again, stopped, resumed, aborted; and all in one.

:func:`reset_many` is the short way for embedders; the command line and the service use the parts.
The same request again goes on with its batch: nobody who has what was asked for is touched twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from orchestrator.batch.carrying_out import BatchRun
from orchestrator.batch.outcomes import ItemOutcome
from orchestrator.batch.requests import Row, batch_of, pace_problems, relaunch_id_of
from orchestrator.durable.batches import Batch, BatchState, Item, Pace
from orchestrator.durable.store import RunStore
from orchestrator.errors import InvalidBatch, InvalidRequest, UnknownRelaunch
from orchestrator.machine.run import Policy
from orchestrator.relauncher import AsyncRelauncher

_STOPPABLE = frozenset({BatchState.RUNNING})
_RESUMABLE = frozenset({BatchState.RUNNING, BatchState.STOPPED, BatchState.ENDED})
_ABORTABLE = frozenset({BatchState.RUNNING, BatchState.STOPPED})


async def begin(store: RunStore, batch: Batch, items: Sequence[Item]) -> tuple[Batch, bool]:
    """Store a batch (``True``), or find the one that was asked for before (``False``).

    One that was selected is found while it is unfinished; after that the same selection is a new
    batch. Raises :class:`~orchestrator.errors.InvalidRequest` if the id is another request's.
    """
    if batch.selection is not None:
        known = await unfinished_selection(store, batch.fingerprint, at=batch.created_at)
        if known is not None:
            return known, False
    stored, is_new = await store.batches.create(batch, items)
    if stored.fingerprint != batch.fingerprint:
        raise InvalidRequest(
            "batch_id",
            f"{batch.batch_id!r} was given to another request, which stays as it is; take a new "
            "one, or resume that batch by its id.",
        )
    return stored, is_new


async def unfinished_selection(store: RunStore, fingerprint: str, *, at: float) -> Batch | None:
    """The newest batch of a selection, if anything of it is left to do."""
    known = await store.batches.find(fingerprint)
    if known is None or await is_done(store, known, at=at):
        return None
    return known if known.state in _ABORTABLE else None


async def is_done(store: RunStore, batch: Batch, *, at: float) -> bool:
    """Whether all of a batch has come to a good end.

    If nobody could say so, since its process died or was stopped right then, it is ended here: it
    must not be in the way of those who are selected another time.
    """
    if (await store.batches.counts(batch.batch_id)).ok < batch.total:
        return False
    await store.batches.change(batch.batch_id, BatchState.ENDED, only_from=_ABORTABLE, at=at)
    return True


async def resume(
    store: RunStore,
    batch_id: str,
    *,
    at: float,
    pace: Pace | None = None,
    policy: Policy | None = None,
) -> Batch:
    """Let a batch go on, at another pace or by another policy if told.

    Raises :class:`~orchestrator.errors.UnknownBatch`, and ``InvalidRequest`` if it was aborted.
    """
    if pace is not None and (problems := tuple(pace_problems(pace))):
        raise InvalidBatch(problems)
    batch = await store.batches.change(
        batch_id, BatchState.RUNNING, only_from=_RESUMABLE, at=at, pace=pace, policy=policy
    )
    if batch.state is BatchState.ABORTED:
        raise InvalidRequest(
            "batch_id",
            f"batch {batch_id} was aborted, which is for good. Ask for the learners that are left "
            "in a new batch.",
        )
    return batch


async def stop(store: RunStore, batch_id: str, *, at: float, reason: str = "stopped") -> Batch:
    """Begin no item any more until the batch is resumed; what is in flight comes to its end."""
    return await store.batches.change(
        batch_id, BatchState.STOPPED, only_from=_STOPPABLE, at=at, reason=reason
    )


async def abort(relauncher: AsyncRelauncher, batch_id: str) -> Batch:
    """Never go on with a batch; its relaunches in flight end at their next step.

    The labs stay as they are then. A relaunch that an item had only joined is somebody else's, and
    goes on.
    """
    store = relauncher.store
    batch = await store.batches.change(
        batch_id,
        BatchState.ABORTED,
        only_from=_ABORTABLE,
        at=relauncher.clock.now(),
        reason="aborted",
    )
    if batch.state is not BatchState.ABORTED:
        return batch
    for stored in await store.batches.items(batch_id, begun=True, ended=False):
        own = relaunch_id_of(batch, store.consumer, stored.item.number, stored.attempt)
        if stored.relaunch_id != own:
            continue
        try:
            handle = await relauncher.attach(own)
        except UnknownRelaunch:
            continue  # begun, and the process died before its relaunch was created
        await handle.wish_abort()
    return batch


async def reset_many(
    relauncher: AsyncRelauncher,
    rows: Iterable[Row],
    *,
    batch_id: str | None = None,
    policy: Policy | None = None,
    note: str | None = None,
    pace: Pace | None = None,
) -> AsyncIterator[ItemOutcome]:
    """Relaunch (or free, by ``policy.launch``) many learners' labs; each outcome as it ends.

    ``relauncher`` needs a store. Without a ``batch_id`` it is derived from the rows. Asked for
    again, the batch goes on: what has ended well is neither repeated nor told again, what has ended
    otherwise is tried once more. Leaving the loop early leaves the rest for another time.
    Raises :class:`~orchestrator.errors.InvalidBatch`, naming every bad row, before anything is
    stored.
    """
    store, clock = relauncher.store, relauncher.clock
    asked, items = batch_of(
        rows,
        policy=policy or relauncher.policy,
        consumer=store.consumer,
        at=clock.now(),
        batch_id=batch_id,
        note=note,
        pace=pace,
    )
    await store.open()
    batch, is_new = await begin(store, asked, items)
    del items
    if not is_new:
        if await is_done(store, batch, at=clock.now()):
            return
        batch = await resume(
            store, batch.batch_id, at=clock.now(), pace=asked.pace, policy=asked.policy
        )
    outcomes = BatchRun(relauncher, batch).outcomes()
    try:
        async for outcome in outcomes:
            yield outcome
    finally:
        await outcomes.aclose()  # type: ignore[attr-defined]  # it is a generator
