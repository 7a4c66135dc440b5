"""The runs that one process drives right now, and what reaches them from outside."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable, Iterable

from orchestrator.durable.driver import Driven
from orchestrator.durable.store import RunStore
from orchestrator.errors import StoreError
from orchestrator.ports import AsyncClock

#: Seconds that calls under way get when their process is to leave its runs to others.
GRACE = 5.0


def owner_name() -> str:
    """What this process calls itself where it holds leases: no other ever has the same name."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class Driving:
    """See the module's docstring.

    ``missed`` is called when something has reached a run that has just been let go here.
    """

    def __init__(
        self, store: RunStore, clock: AsyncClock, missed: Callable[[], object] = lambda: None
    ) -> None:
        self._store = store
        self._clock = clock
        self._missed = missed
        self._runs: dict[str, tuple[Driven, asyncio.Task[None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def __contains__(self, relaunch_id: object) -> bool:
        return relaunch_id in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, relaunch_id: str, driven: Driven) -> asyncio.Task[None]:
        """Drive a run in a task of its own."""
        task = asyncio.create_task(driven.drive(), name=f"relaunch {relaunch_id}")
        self._runs[relaunch_id] = (driven, task)
        task.add_done_callback(lambda _: self._runs.pop(relaunch_id, None))
        return task

    async def ended(self, relaunch_id: str) -> bool:
        """Wait until the run is not driven here any more; whether it has ended then."""
        driven, task = self._runs[relaunch_id]
        await asyncio.wait([task])
        return driven.run_ended

    def deliver(self, relaunch_ids: Iterable[str] | None) -> None:
        """Fetch what was stored for these runs from outside (``None``: for all), and take it in."""
        wanted = list(self._runs) if relaunch_ids is None else relaunch_ids
        for relaunch_id in wanted:
            if relaunch_id in self._runs and not self._runs[relaunch_id][0].run_ended:
                task = asyncio.create_task(self._deliver(relaunch_id))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)

    async def _deliver(self, relaunch_id: str) -> None:
        try:
            signals = await self._store.signals(relaunch_id)
        except StoreError:
            return  # The next step's append brings them.
        if relaunch_id in self._runs:
            self._runs[relaunch_id][0].take(signals)
        else:
            self._missed()

    async def leave(self, relaunch_ids: Iterable[str] | None, grace: float) -> None:
        """Leave these runs (``None``: all) to others; calls under way get ``grace`` seconds."""
        wanted = list(self._runs) if relaunch_ids is None else relaunch_ids
        tasks = []
        for relaunch_id in wanted:
            if relaunch_id in self._runs:
                driven, task = self._runs[relaunch_id]
                tasks.append(task)
                driven.leave()
                if driven.is_idle:
                    task.cancel()
        if not tasks:
            return
        over = asyncio.create_task(self._clock.wait(grace, asyncio.Event()))
        everything = asyncio.create_task(_finished(tasks))
        await asyncio.wait({everything, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        for task in tasks:
            task.cancel()
        await everything


async def _finished(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
