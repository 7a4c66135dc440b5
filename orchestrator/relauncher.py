"""The library's front door: ``Relauncher`` and ``AsyncRelauncher``.

Either is made once, with a platform and whatever else shall be injected, and starts any number of
relaunches. Without a store a relaunch does nothing until it is iterated or asked for its result,
and is gone with its process. With one it goes on by itself, whoever looks on and whatever dies: a
second request joins it, and another process takes it up.
"""

from __future__ import annotations

from typing import Self, TypeVar, Unpack

from orchestrator.clocks import AsyncSystemClock, SystemClock
from orchestrator.drivers import drive, drive_async
from orchestrator.durable.blocking import BlockingRelaunches, DurableRelaunch
from orchestrator.durable.driver import OnEnd, Parts, WorkerOptions
from orchestrator.durable.driving import GRACE
from orchestrator.durable.engines import runtime_of
from orchestrator.durable.handle import AsyncDurableRelaunch
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.store import RunStore
from orchestrator.errors import ConfigurationError, InvalidRequest
from orchestrator.handles import Active, AsyncRelaunch, Relaunch
from orchestrator.machine.run import Policy, Run
from orchestrator.ports import (
    AsyncCancelStep,
    AsyncClock,
    AsyncPlatform,
    CancelStep,
    Clock,
    Observer,
    Platform,
)
from orchestrator.progress import Outcome
from orchestrator.requests import Options, new_run
from orchestrator.session import Schedules, Session

T = TypeVar("T")

#: Options that mean nothing without a store.
_WITH_STORE = ("idempotency_key", "priority", "on_conflict")


class Relauncher:
    """Relaunches labs, blocking its caller meanwhile.

    ``platform`` is anything with the methods of :class:`orchestrator.ports.Platform`. ``cancel``
    and ``save`` replace the platform's own as the step that makes room. ``policy`` is the default
    of every relaunch. ``schedules`` decides when to look, ``clock`` is time, ``observer`` is told
    of each step before it is taken. With a ``store`` relaunches are durable and go on in a thread
    of their own, from which the platform, the steps and the observer are then called.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        cancel: CancelStep | None = None,
        save: CancelStep | None = None,
        policy: Policy | None = None,
        schedules: Schedules | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        store: RunStore | None = None,
        most_in_flight: int | None = None,
    ) -> None:
        self._platform = platform
        self._steps = {"cancel": cancel or platform.cancel, "save": save or platform.save}
        self._policy = policy or Policy()
        self._schedules = schedules or Schedules()
        self._clock = clock or SystemClock()
        self._observer = observer
        self._active: Active[Relaunch] = Active()
        self._durable: BlockingRelaunches | None = None
        if store is not None:
            self._durable = BlockingRelaunches(
                platform,
                self._steps,
                store,
                schedules=self._schedules,
                clock=self._clock,
                observer=observer,
                most_in_flight=most_in_flight,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave durable relaunches to whoever takes them up next; the store stays open."""
        if self._durable is not None:
            self._durable.close()

    def start(self, user_id: str, lab_profile_id: int, **options: Unpack[Options]) -> Relaunch:
        """Prepare a relaunch of ``lab_profile_id`` for ``user_id``; nothing is called yet.

        With a store it is stored, or one in flight joined, and goes on by itself. Raises
        :class:`~orchestrator.errors.InvalidRequest`, naming the field, and with a store
        :class:`~orchestrator.errors.RelaunchInFlight`.
        """
        run = new_run(user_id, lab_profile_id, self._policy, options, self._clock.now())
        if self._durable is not None:
            return self._durable.start(run, options)
        _refuse_durable(options)
        return self.resume(run)

    def resume(self, run: Run) -> Relaunch:
        """Go on with a stored run. A call that was in flight is looked up before anything else."""
        if self._durable is not None:
            return self._durable.start(run, {})
        session = Session(run, self._schedules, self._observer)
        events = drive(session, self._platform, self._steps, self._clock)
        return self._active.add(Relaunch(session, events))

    def resume_all(self) -> tuple[DurableRelaunch, ...]:
        """Take up every unfinished relaunch of the store, those that others leave later too."""
        return _needed(self._durable).resume_all()

    def attach(self, relaunch_id: str) -> DurableRelaunch:
        """The relaunch with this id. Raises :class:`~orchestrator.errors.UnknownRelaunch`."""
        return _needed(self._durable).attach(relaunch_id)

    def relaunch(self, user_id: str, lab_profile_id: int, **options: Unpack[Options]) -> Outcome:
        """:meth:`start` and :meth:`Relaunch.result` in one."""
        return self.start(user_id, lab_profile_id, **options).result()

    def hint(self, lab_instance_id: int) -> None:
        """Say, from any thread, that an instance seems to be torn down (a webhook, say).

        Early, late, doubled, forged and unknown ones are harmless: a launch checks each. With a
        store it is stored for whoever drives the relaunch before this returns.
        """
        self._schedules.knowledge.announced(lab_instance_id, self._clock.now())
        self._active.hint(lab_instance_id)
        if self._durable is not None:
            self._durable.hint(lab_instance_id)


class AsyncRelauncher:
    """:class:`Relauncher` for asyncio; any number of relaunches may run at a time.

    With a ``store`` it lives in one event loop; :meth:`aclose` (or ``async with``) leaves what is
    unfinished to others, and ``on_end`` is told the id of each relaunch whose last step was
    recorded here (it must not raise).
    """

    def __init__(
        self,
        platform: AsyncPlatform,
        *,
        cancel: AsyncCancelStep | None = None,
        save: AsyncCancelStep | None = None,
        policy: Policy | None = None,
        schedules: Schedules | None = None,
        clock: AsyncClock | None = None,
        observer: Observer | None = None,
        store: RunStore | None = None,
        most_in_flight: int | None = None,
        worker: WorkerOptions | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        self._platform = platform
        self._steps = {"cancel": cancel or platform.cancel, "save": save or platform.save}
        self._policy = policy or Policy()
        self._schedules = schedules or Schedules()
        self._clock = clock or AsyncSystemClock()
        self._observer = observer
        self._active: Active[AsyncRelaunch] = Active()
        self._runtime: Runtime | None = None
        if store is not None:
            self._runtime = runtime_of(
                Parts(
                    store=store,
                    platform=platform,
                    steps=self._steps,
                    clock=self._clock,
                    schedules=self._schedules,
                    observer=observer,
                    most_in_flight=most_in_flight,
                    worker=worker or WorkerOptions(),
                    on_end=on_end,
                )
            )

    @property
    def store(self) -> RunStore:
        """The store. Raises :class:`~orchestrator.errors.ConfigurationError` without one."""
        return _needed(self._runtime).store

    @property
    def clock(self) -> AsyncClock:
        """Time, as every relaunch here is told it."""
        return self._clock

    @property
    def policy(self) -> Policy:
        """The default of every relaunch."""
        return self._policy

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self, *, grace: float = GRACE) -> None:
        """Leave durable relaunches to whoever takes them up next; the store stays open.

        Calls under way get ``grace`` seconds to be answered. One that is dropped then is looked up
        by whoever goes on with its relaunch.
        """
        if self._runtime is not None:
            await self._runtime.close(grace=grace)

    def start(self, user_id: str, lab_profile_id: int, **options: Unpack[Options]) -> AsyncRelaunch:
        """See :meth:`Relauncher.start`. With a store, in a running event loop, it begins at once;
        that another lab's relaunch is in flight is raised where the handle is awaited.
        """
        run = new_run(user_id, lab_profile_id, self._policy, options, self._clock.now())
        if self._runtime is not None:
            return AsyncDurableRelaunch.begin(self._runtime, run, options)
        _refuse_durable(options)
        return self.resume(run)

    def resume(self, run: Run) -> AsyncRelaunch:
        """See :meth:`Relauncher.resume`."""
        if self._runtime is not None:
            return AsyncDurableRelaunch.begin(self._runtime, run, {})
        session = Session(run, self._schedules, self._observer)
        events = drive_async(session, self._platform, self._steps, self._clock)
        return self._active.add(AsyncRelaunch(session, events))

    async def resume_all(self) -> tuple[AsyncDurableRelaunch, ...]:
        """See :meth:`Relauncher.resume_all`."""
        runtime = _needed(self._runtime)
        return tuple(AsyncDurableRelaunch(runtime, s) for s in await runtime.resume_all())

    async def work(self) -> None:
        """Be a worker of the store: drive what needs to be driven, until cancelled."""
        await _needed(self._runtime).work()

    async def attach(self, relaunch_id: str) -> AsyncDurableRelaunch:
        """See :meth:`Relauncher.attach`."""
        runtime = _needed(self._runtime)
        return AsyncDurableRelaunch(runtime, await runtime.attach(relaunch_id))

    async def relaunch(
        self, user_id: str, lab_profile_id: int, **options: Unpack[Options]
    ) -> Outcome:
        """See :meth:`Relauncher.relaunch`."""
        return await self.start(user_id, lab_profile_id, **options).result()

    def hint(self, lab_instance_id: int) -> None:
        """See :meth:`Relauncher.hint`; for what a store keeps there is :meth:`announce`."""
        self._schedules.knowledge.announced(lab_instance_id, self._clock.now())
        self._active.hint(lab_instance_id)

    async def announce(self, lab_instance_id: int) -> bool:
        """:meth:`hint`, stored for whoever drives the relaunch before this returns.

        Says whether a relaunch waits for that instance.
        """
        self.hint(lab_instance_id)
        return await _needed(self._runtime).hint(lab_instance_id)


def _refuse_durable(options: Options) -> None:
    for name in _WITH_STORE:
        if options.get(name) is not None:
            raise InvalidRequest(name, "needs a store; give the relauncher one.")


def _needed(part: T | None) -> T:
    if part is None:
        raise ConfigurationError("store: this relauncher has none; nothing was done.")
    return part
