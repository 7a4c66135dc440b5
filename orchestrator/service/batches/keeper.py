"""Carries the service's batches out in this process, for as long as it serves.

* It looks for batches that are running and that nobody living holds, every :data:`LOOK` seconds and
  whenever one was asked for here; so what a killed process or another replica left is gone on with.
  Who carries one out where two look at once, the store decides.
* Those that the command line or an embedder has begun are theirs.
* When the service drains it begins nothing any more and lets go; what is in flight stays a relaunch
  like any other, and another process goes on with the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from orchestrator.batch.carrying_out import HOLD, BatchRun
from orchestrator.batch.outcomes import Standing
from orchestrator.durable.batches import Batch, BatchState
from orchestrator.errors import StoreError
from orchestrator.logs import get_logger
from orchestrator.service.parts import ServiceParts

_log = get_logger("orchestrator.service")

#: Seconds between two looks for batches that nobody carries out.
LOOK = 3.0
#: Batches that are looked at, the newest first.
MOST = 1000


class Keeper:
    """See the module's docstring; one for each service."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._runs: dict[str, BatchRun] = {}
        self._carrying: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        #: Held by whoever makes a batch of what the platform says; one at a time.
        self.selecting = asyncio.Lock()

    def look(self) -> None:
        """Look at once: a batch was asked for here."""
        self._wake.set()

    def standing(self, batch_id: str) -> Standing | None:
        """How a batch stands that is carried out here."""
        run = self._runs.get(batch_id)
        return None if run is None else run.standing()

    @property
    def carried_out(self) -> int:
        """How many batches are carried out here."""
        return len(self._runs)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """While inside, and until the service drains, batches are carried out."""
        working = asyncio.create_task(self._work(), name="batches")
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait({working})

    async def _work(self) -> None:
        looking = asyncio.create_task(self._look_on())
        draining = asyncio.create_task(self._parts.draining.wait())
        try:
            await asyncio.wait({looking, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = {looking, draining, *self._carrying}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _look_on(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._take_up()
            except StoreError as error:
                _log.warning("batches_not_seen", reason=error.code)
            except Exception as error:  # a bug of ours; the next look may do better
                _log.error("batches_not_seen", reason=type(error).__name__)
            await self._parts.clock.wait(LOOK, self._wake)

    async def _take_up(self) -> None:
        batches = self._parts.store.batches
        now = self._parts.clock.now()
        for batch in await batches.history(unfinished=True, limit=MOST):
            if (
                batch.origin != "service"
                or batch.state is not BatchState.RUNNING
                or batch.batch_id in self._runs
                or batch.is_held(now)
            ):
                continue
            holder = f"service-{uuid.uuid4().hex[:12]}"
            held = await batches.hold(batch.batch_id, holder, at=now, until=now + HOLD)
            if held.holder == holder:
                self._begin(held, holder)

    def _begin(self, batch: Batch, holder: str) -> None:
        # Who failed is tried again once the batch was asked for again.
        run = BatchRun(self._parts.relauncher, batch, holder=holder)
        self._runs[batch.batch_id] = run
        task = asyncio.create_task(self._carry_out(run, batch.batch_id))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry_out(self, run: BatchRun, batch_id: str) -> None:
        outcomes = run.outcomes()
        try:
            with self._parts.metrics.batch():
                async for outcome in outcomes:
                    self._parts.metrics.batch_item(outcome.result.outcome)
        except StoreError as error:
            _log.warning("batch_left", reason=error.code)
        except Exception as error:  # a bug of ours; it is taken up again
            _log.error("batch_left", reason=type(error).__name__)
        finally:
            await outcomes.aclose()  # type: ignore[attr-defined]  # it is a generator
            del self._runs[batch_id]
