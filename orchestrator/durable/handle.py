"""A durable relaunch in the hands of whoever started, joined or found it.

It goes on whether or not anybody looks; a handle only follows its journal. Any number of them, in
any number of processes, may follow one relaunch, from any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from orchestrator.durable.runtime import Runtime
from orchestrator.durable.starting import Started
from orchestrator.durable.store import StoredRun
from orchestrator.handles import AsyncRelaunch
from orchestrator.machine.run import Run
from orchestrator.progress import Outcome, Progress
from orchestrator.requests import Options, Priority


class AsyncDurableRelaunch(AsyncRelaunch):
    """:class:`~orchestrator.handles.AsyncRelaunch`, durable. Its methods belong to one loop."""

    def __init__(
        self,
        runtime: Runtime,
        stored: StoredRun | None,
        *,
        run: Run | None = None,
        starting: asyncio.Task[Started] | None = None,
    ) -> None:
        self._runtime = runtime
        self._starting = starting
        self._run = stored.run if stored is not None else run
        self._outcome: Outcome | None = None
        self._aborting: asyncio.Task[bool] | None = None
        self._loop = asyncio.get_running_loop()
        self._joined = stored is not None

    @classmethod
    def begin(cls, runtime: Runtime, run: Run, options: Options) -> AsyncDurableRelaunch:
        """Store the run, or join the one in flight, in a task of its own."""
        starting = asyncio.ensure_future(
            runtime.start(
                run,
                key=options.get("idempotency_key"),
                priority=options.get("priority") or Priority.BUTTON,
                on_conflict=options.get("on_conflict") or "refuse",
            )
        )
        return cls(runtime, None, run=run, starting=starting)

    async def accepted(self) -> str:
        """Wait until the relaunch is stored, or the one in flight joined; its id.

        Raises :class:`~orchestrator.errors.RelaunchInFlight` and ``InvalidRequest``.
        """
        if self._starting is not None:
            started = await asyncio.shield(self._starting)
            self._run, self._joined = started.stored.run, started.joined
            self._starting = None
        return self.relaunch_id

    @property
    def relaunch_id(self) -> str:
        """The id of the relaunch: of the one that was joined, once that is known."""
        return self.run.relaunch_id

    @property
    def run(self) -> Run:
        """The run as it was when this handle last looked."""
        if self._run is None:
            raise ValueError("a handle has a run from its beginning")
        return self._run

    @property
    def joined(self) -> bool:
        """Whether the relaunch was there before; known once :meth:`accepted` has returned."""
        return self._joined

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, once :meth:`result` has been awaited."""
        return self._outcome

    def abort(self) -> None:
        """Wish that the relaunch ends at its next step; from any thread. It is stored."""
        self._loop.call_soon_threadsafe(self._abort_soon)

    def _abort_soon(self) -> None:
        self._aborting = asyncio.ensure_future(self.wish_abort())

    async def wish_abort(self) -> bool:
        """:meth:`abort`, stored before this returns; ``False`` if it has ended."""
        return await self._runtime.abort(await self.accepted())

    def hint(self, lab_instance_id: int) -> None:
        """Say that an instance seems to be torn down. From any thread; checked, not believed."""
        self._loop.call_soon_threadsafe(
            lambda: asyncio.ensure_future(self._runtime.hint(lab_instance_id))
        )

    async def events(self, *, after: int = 0) -> AsyncIterator[Progress]:
        """Every progress from sequence number ``after`` + 1 on; leaving early changes nothing."""
        runtime, relaunch_id = self._runtime, await self.accepted()
        del self  # whoever follows for long needs no more of it, least of all the run
        async for progress in runtime.events(relaunch_id, after=after):
            yield progress
            del progress

    async def result(self) -> Outcome:
        """Wait for the end and return the outcome; giving up waiting changes nothing."""
        begins = self._starting is not None and not self._starting.done()
        relaunch_id = await self.accepted()
        self._outcome = await self._runtime.outcome(relaunch_id, begins=begins and not self.joined)
        return self._outcome
