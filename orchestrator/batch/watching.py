"""Following a batch that another process carries out: whatever has ended since the last look."""

from __future__ import annotations

import time

from orchestrator.batch.outcomes import ItemOutcome, outcome_of_stored
from orchestrator.durable.store import RunStore

#: How long to rest after a look, in times of what it took: thousands of items are read at once.
_REST = 9.0


class Watch:
    """Sees each end once; what had ended before the first look is not told."""

    def __init__(self, store: RunStore, batch_id: str) -> None:
        self._batches = store.batches
        self._batch_id = batch_id
        #: By number: the attempt whose end was seen.
        self._seen: dict[int, int] = {}
        self._ends = 0
        self._is_first = True
        #: Seconds to rest before the next look.
        self.rest = 0.0

    async def look(self) -> tuple[ItemOutcome, ...]:
        """What has ended since the last look; nothing the first time."""
        counts = await self._batches.counts(self._batch_id)
        ends = sum(counts.ended.values())
        if ends == self._ends and not self._is_first and not counts.in_flight:
            return ()
        began = time.monotonic()
        new = []
        for stored in await self._batches.items(self._batch_id, ended=True):
            if self._seen.get(stored.item.number) != stored.attempt:
                self._seen[stored.item.number] = stored.attempt
                new.append(outcome_of_stored(self._batch_id, stored))
        self.rest = _REST * (time.monotonic() - began)
        self._ends = ends
        first, self._is_first = self._is_first, False
        return () if first else tuple(sorted(new, key=lambda outcome: outcome.ended_at))
