"""Group commit: what is asked for at the same time is stored by one statement.

The first who asks is served at once; whoever asks meanwhile waits for the next round, together with
all others who do. So one alone pays no delay, and many pay a share of one statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from orchestrator.errors import StoreUnavailable

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

#: How many are served by one statement at most.
MOST = 200


class GroupCommit(Generic[Asked, Answer]):
    """Collects what is asked for, in one event loop.

    ``serve`` gets at least one and at most :data:`MOST` at a time, and gives an answer, or the
    error to raise, for each, in the same order. What it raises, it raises for all of them; and if
    that is ``StoreUnavailable``, for all who wait by then as well.
    """

    def __init__(
        self, serve: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]]
    ) -> None:
        self._serve = serve
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._serving: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answer:
        """Be served in the next round. A cancelled caller is served all the same."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._serving is None:
            self._serving = asyncio.create_task(self._work(), name="group commit")
        return await answer

    async def finish(self) -> None:
        """Wait until everybody who has asked is served."""
        while self._serving is not None:
            await asyncio.wait([self._serving])

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                for (_, future), answer in zip(batch, await self._answers(batch), strict=True):
                    if future.done():
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._serving = None

    async def _answers(
        self, batch: Sequence[tuple[Asked, asyncio.Future[Answer]]]
    ) -> Sequence[Answer | Exception]:
        try:
            return await self._serve([asked for asked, _ in batch])
        except Exception as error:
            if isinstance(error, StoreUnavailable):
                waiting, self._waiting = self._waiting, []
                for _, future in waiting:
                    if not future.done():
                        future.set_exception(error)
            return [error] * len(batch)
