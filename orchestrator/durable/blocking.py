"""Durable relaunches for callers without an event loop: a loop of their own in a thread.

There is one implementation of everything durable, and it is async. Here it is run in a thread, and
the caller's own platform, steps and observer, which block, are called from further threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from orchestrator.durable.driver import Parts
from orchestrator.durable.engines import runtime_of
from orchestrator.durable.handle import AsyncDurableRelaunch
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.store import RunStore
from orchestrator.handles import Relaunch
from orchestrator.labs import DisplaceAnswer, InstanceDetails, Labs, LaunchAnswer, LaunchParameters
from orchestrator.machine.run import Run
from orchestrator.ports import AsyncCancelStep, CancelStep, Clock, Observer, Platform
from orchestrator.progress import Outcome, Progress
from orchestrator.requests import Options
from orchestrator.session import Schedules

T = TypeVar("T")

#: Calls of the caller's platform that may block at a time.
THREADS = 64


class LoopThread:
    """An event loop in a thread, begun at first need."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the loop and wait for what it returns or raises."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run ``last`` and end the loop; nothing happens if it never began."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            last.close()
            return
        asyncio.run_coroutine_threadsafe(last, loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(THREADS))
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="relaunches", daemon=True
                )
                self._thread.start()
            return self._loop


class BlockingRelaunches:
    """What a sync relauncher with a store does."""

    def __init__(
        self,
        platform: Platform,
        steps: Mapping[str, CancelStep],
        store: RunStore,
        *,
        schedules: Schedules,
        clock: Clock,
        observer: Observer | None,
        most_in_flight: int | None,
    ) -> None:
        self._thread = LoopThread()
        self._runtime: Runtime = runtime_of(
            Parts(
                store=store,
                platform=_Threaded(platform),
                steps={name: _threaded(step) for name, step in steps.items()},
                clock=_LoopClock(clock),
                schedules=schedules,
                observer=observer,
                most_in_flight=most_in_flight,
            )
        )

    def start(self, run: Run, options: Options) -> DurableRelaunch:
        """Store the run or join the one in flight; raises what that raises."""

        async def begin() -> AsyncDurableRelaunch:
            handle = AsyncDurableRelaunch.begin(self._runtime, run, options)
            await handle.accepted()
            return handle

        return DurableRelaunch(self._thread, self._thread.call(begin()))

    def attach(self, relaunch_id: str) -> DurableRelaunch:
        """See to a stored relaunch."""

        async def find() -> AsyncDurableRelaunch:
            return AsyncDurableRelaunch(self._runtime, await self._runtime.attach(relaunch_id))

        return DurableRelaunch(self._thread, self._thread.call(find()))

    def resume_all(self) -> tuple[DurableRelaunch, ...]:
        """Take up everything."""

        async def take() -> list[AsyncDurableRelaunch]:
            found = await self._runtime.resume_all()
            return [AsyncDurableRelaunch(self._runtime, stored) for stored in found]

        return tuple(DurableRelaunch(self._thread, h) for h in self._thread.call(take()))

    def hint(self, lab_instance_id: int) -> bool:
        """Store a hint."""
        return self._thread.call(self._runtime.hint(lab_instance_id))

    def close(self) -> None:
        """Leave everything to others and end the thread."""
        self._thread.close(self._runtime.close())


class DurableRelaunch(Relaunch):
    """:class:`~orchestrator.handles.Relaunch`, durable: it goes on in a thread of its own."""

    def __init__(self, thread: LoopThread, inner: AsyncDurableRelaunch) -> None:
        self._thread = thread
        self._inner = inner

    @property
    def relaunch_id(self) -> str:
        """The id of the relaunch, of the one that was joined."""
        return self._inner.relaunch_id

    @property
    def joined(self) -> bool:
        """Whether the relaunch was there before."""
        return self._inner.joined

    @property
    def run(self) -> Run:
        """The run as it was when this handle last looked."""
        return self._inner.run

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, once :meth:`result` has returned."""
        return self._inner.outcome

    def abort(self) -> None:
        """Wish that the relaunch ends at its next step; stored before this returns."""
        self._thread.call(self._inner.wish_abort())

    def hint(self, lab_instance_id: int) -> None:
        """Say that an instance seems to be torn down. From any thread; checked, not believed."""
        self._inner.hint(lab_instance_id)

    def events(self, *, after: int = 0) -> Iterator[Progress]:
        """Every progress from sequence number ``after`` + 1 on; leaving early changes nothing."""
        events = self._inner.events(after=after)

        async def next_one() -> Progress | None:
            return await anext(events, None)

        while (progress := self._thread.call(next_one())) is not None:
            yield progress

    def result(self) -> Outcome:
        """Wait for the end and return the outcome; giving up waiting changes nothing."""
        return self._thread.call(self._inner.result())


class _LoopClock:
    """The caller's time for reading, the loop's for waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def wait(self, seconds: float, wakeup: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await wakeup.wait()


def _threaded(step: CancelStep) -> AsyncCancelStep:
    async def make_room(instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        return await asyncio.to_thread(step, instance_id, note=note, timeout=timeout)

    return make_room


class _Threaded:
    """A blocking platform as an async one; each call in a thread."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        return await asyncio.to_thread(self._platform.survey, user_id, timeout=timeout)

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        return await asyncio.to_thread(self._platform.inspect, instance_id, timeout=timeout)

    async def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        return await asyncio.to_thread(
            self._platform.launch, user_id, lab_profile_id, parameters, timeout=timeout
        )

    async def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        return await asyncio.to_thread(self._platform.resume, instance_id, timeout=timeout)

    async def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        return await asyncio.to_thread(
            self._platform.cancel, instance_id, note=note, timeout=timeout
        )

    async def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        return await asyncio.to_thread(self._platform.save, instance_id, note=note, timeout=timeout)

    async def access_url(self, instance_id: int, *, timeout: float) -> str:
        return await asyncio.to_thread(self._platform.access_url, instance_id, timeout=timeout)

    async def count_active(self, *, timeout: float) -> int:
        return await asyncio.to_thread(self._platform.count_active, timeout=timeout)
