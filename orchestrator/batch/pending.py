"""What a batch goes on with, in order: what is in flight already, what is tried again, the rest.

Read page by page: a hundred thousand learners who wait are rows in the store, and nothing here.
An item of a learner who has another in flight waits for that one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from functools import partial

from orchestrator.batch.patience import patiently
from orchestrator.durable.batches import Batch, StoredItem
from orchestrator.durable.store import RunStore

PAGE = 500


class Pending:
    """See the module's docstring. What ended without success before the batch was last resumed is
    tried again."""

    def __init__(self, store: RunStore, batch: Batch) -> None:
        self._batches = store.batches
        self._batch = batch
        self._flying: set[str] = set()
        self._held_up: dict[str, deque[StoredItem]] = {}
        self._freed: deque[StoredItem] = deque()
        self._rest = self._read()

    async def begun(self) -> AsyncIterator[StoredItem]:
        """The items that are in flight already, each to be gone on with at once."""
        async for stored in self._pages(begun=True, ended=False):
            yield self._take(stored)

    async def next(self) -> StoredItem | None:
        """The next item that may begin, which counts as in flight from now on."""
        if self._freed:
            return self._take(self._freed.popleft())
        async for stored in self._rest:
            user_id = stored.item.user_id
            if user_id not in self._flying:
                return self._take(stored)
            self._held_up.setdefault(user_id, deque()).append(stored)
        return None

    def landed(self, user_id: str) -> None:
        """The learner's item has ended."""
        self._flying.discard(user_id)
        waiting = self._held_up.get(user_id)
        if waiting:
            self._freed.append(waiting.popleft())
            # Taken already, so that no third one passes it.
            self._flying.add(user_id)
            if not waiting:
                del self._held_up[user_id]

    def _take(self, stored: StoredItem) -> StoredItem:
        self._flying.add(stored.item.user_id)
        return stored

    async def _read(self) -> AsyncIterator[StoredItem]:
        if self._batch.started_at > self._batch.created_at:
            async for stored in self._pages(ended=True):
                if self._is_tried_again(stored):
                    yield stored
        async for stored in self._pages(begun=False):
            yield stored

    def _is_tried_again(self, stored: StoredItem) -> bool:
        if stored.result is None or stored.result.ok or stored.ended_at is None:
            return False
        return stored.ended_at <= self._batch.started_at

    async def _pages(
        self, *, begun: bool | None = None, ended: bool | None = None
    ) -> AsyncIterator[StoredItem]:
        ask = partial(
            self._batches.items, self._batch.batch_id, limit=PAGE, begun=begun, ended=ended
        )
        after = 0
        while True:
            page = await patiently(partial(ask, after=after))
            for stored in page:
                yield stored
            if len(page) < PAGE:
                return
            after = page[-1].item.number
