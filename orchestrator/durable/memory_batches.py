"""Batches kept in memory, beside the relaunches of :mod:`orchestrator.durable.memory`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.durable.batch_rows import FINAL, check, check_attempt, no_item
from orchestrator.durable.batches import (
    Batch,
    BatchState,
    Counts,
    Item,
    ItemResult,
    Pace,
    StoredItem,
)
from orchestrator.errors import UnknownBatch
from orchestrator.machine.run import Policy


@dataclass(slots=True)
class _Kept:
    batch: Batch
    items: list[StoredItem]


class MemoryBatchStore:
    """:class:`~orchestrator.durable.batches.BatchStore` without a database."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    async def create(self, batch: Batch, items: Sequence[Item]) -> tuple[Batch, bool]:
        """See :class:`BatchStore`, as for every method here."""
        check(batch, items)
        if (kept := self._kept.get(batch.batch_id)) is not None:
            return kept.batch, False
        self._kept[batch.batch_id] = _Kept(batch, [StoredItem(item=item) for item in items])
        return batch, True

    async def load(self, batch_id: str) -> Batch:
        """The batch."""
        return self._find(batch_id).batch

    async def find(self, fingerprint: str) -> Batch | None:
        """The newest batch of the same request."""
        return next((b for b in self._newest_first() if b.fingerprint == fingerprint), None)

    async def history(
        self, *, unfinished: bool | None = None, limit: int = 100
    ) -> tuple[Batch, ...]:
        """The batches."""
        fitting = (b for b in self._newest_first() if unfinished in (None, b.ended_at is None))
        return tuple(fitting)[:limit]

    async def items(
        self,
        batch_id: str,
        *,
        after: int = 0,
        limit: int | None = None,
        begun: bool | None = None,
        ended: bool | None = None,
    ) -> tuple[StoredItem, ...]:
        """The items that fit."""
        found: list[StoredItem] = []
        for stored in self._find(batch_id).items[max(after, 0) :]:
            if limit is not None and len(found) >= limit:
                break
            if begun in (None, stored.attempt > 0) and ended in (None, stored.result is not None):
                found.append(stored)
        return tuple(found)

    async def begin(
        self, batch_id: str, number: int, *, attempt: int, relaunch_id: str, at: float
    ) -> bool:
        """An item is begun."""
        check_attempt(attempt)
        items, stored = self._item(batch_id, number)
        if stored.attempt > attempt or (stored.attempt == attempt and stored.result is not None):
            return False
        again = stored.attempt == attempt
        items[number - 1] = StoredItem(
            item=stored.item,
            attempt=attempt,
            relaunch_id=relaunch_id,
            begun_at=stored.begun_at if again else at,
        )
        return True

    async def finish(
        self, batch_id: str, number: int, result: ItemResult, *, attempt: int, at: float
    ) -> bool:
        """An item has ended."""
        items, stored = self._item(batch_id, number)
        if stored.attempt != attempt or attempt < 1:
            return False
        if stored.result is not None:
            return stored.result == result and stored.ended_at == at
        items[number - 1] = replace(stored, result=result, ended_at=at)
        return True

    async def counts(self, batch_id: str) -> Counts:
        """How the items stand."""
        items = self._find(batch_id).items
        results = [stored.result for stored in items if stored.result is not None]
        waiting = sum(stored.attempt == 0 for stored in items)
        return Counts(
            waiting=waiting,
            in_flight=len(items) - waiting - len(results),
            ended=dict(Counter(result.outcome for result in results)),
            api_calls=sum(result.api_calls for result in results),
        )

    async def change(
        self,
        batch_id: str,
        state: BatchState,
        *,
        only_from: frozenset[BatchState],
        at: float,
        reason: str | None = None,
        pace: Pace | None = None,
        policy: Policy | None = None,
    ) -> Batch:
        """Change the state."""
        kept = self._find(batch_id)
        batch = kept.batch
        if batch.state in only_from:
            kept.batch = replace(
                batch,
                state=state,
                reason=reason,
                pace=batch.pace if pace is None else pace,
                policy=batch.policy if policy is None else policy,
                started_at=at if state is BatchState.RUNNING else batch.started_at,
                ended_at=at if state in FINAL else None,
            )
        return kept.batch

    async def hold(self, batch_id: str, holder: str, *, at: float, until: float) -> Batch:
        """Carry it out, unless somebody else does."""
        kept = self._find(batch_id)
        held_until = kept.batch.held_until
        if kept.batch.holder in (None, holder) or held_until is None or held_until <= at:
            kept.batch = replace(kept.batch, holder=holder, held_until=until)
        return kept.batch

    async def let_go(self, batch_id: str, holder: str) -> None:
        """Carry it out no more."""
        kept = self._find(batch_id)
        if kept.batch.holder == holder:
            kept.batch = replace(kept.batch, holder=None, held_until=None)

    async def prune(self, *, before: float) -> int:
        """Forget what ended before then."""
        old = [
            batch_id
            for batch_id, kept in self._kept.items()
            if kept.batch.ended_at is not None and kept.batch.ended_at < before
        ]
        for batch_id in old:
            del self._kept[batch_id]
        return len(old)

    def _find(self, batch_id: str) -> _Kept:
        kept = self._kept.get(batch_id)
        if kept is None:
            raise UnknownBatch(batch_id)
        return kept

    def _item(self, batch_id: str, number: int) -> tuple[list[StoredItem], StoredItem]:
        items = self._find(batch_id).items
        if not 1 <= number <= len(items):
            raise no_item(batch_id, number)
        return items, items[number - 1]

    def _newest_first(self) -> list[Batch]:
        batches = [kept.batch for kept in self._kept.values()]
        return sorted(batches, key=lambda b: (b.created_at, b.batch_id), reverse=True)
