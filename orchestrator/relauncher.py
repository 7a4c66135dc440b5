"""The library's front door: ``Relauncher`` and ``AsyncRelauncher``.

Either is made once, with a platform and whatever else shall be injected, and starts any number of
relaunches. A relaunch does nothing until it is iterated or asked for its result.
"""

from __future__ import annotations

import re
import threading
import uuid
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypedDict, TypeVar, Unpack

from orchestrator.clocks import AsyncSystemClock, SystemClock
from orchestrator.drivers import drive, drive_async
from orchestrator.errors import InvalidRequest
from orchestrator.labs import LaunchParameters
from orchestrator.machine.run import Policy, Run
from orchestrator.plain import wrong_types
from orchestrator.ports import (
    AsyncCancelStep,
    AsyncClock,
    AsyncPlatform,
    CancelStep,
    Clock,
    Observer,
    Platform,
)
from orchestrator.progress import Outcome, Progress
from orchestrator.session import Schedules, Session

_LARGEST_INT32 = 2**31 - 1
_RELAUNCH_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Handle:
    """What a sync and an async relaunch have in common."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def relaunch_id(self) -> str:
        """The id of this relaunch; every launch it makes carries it in its tag."""
        return self._session.run.relaunch_id

    @property
    def run(self) -> Run:
        """The run as it stands: a plain value that can be stored and taken up again."""
        return self._session.run

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, or ``None`` while it hasn't."""
        return self._session.outcome() if self._session.run.state.is_terminal else None

    def abort(self) -> None:
        """End at the next step, at once if waiting. From any thread; more than once is harmless."""
        self._session.inbox.abort()

    def hint(self, lab_instance_id: int) -> None:
        """Say that an instance seems to be torn down. From any thread; checked, not believed."""
        self._session.inbox.hint(lab_instance_id)


class Relaunch(_Handle):
    """One relaunch, driven by whoever iterates :meth:`events` or calls :meth:`result`."""

    def __init__(self, session: Session, events: Iterator[Progress]) -> None:
        super().__init__(session)
        self._events = events

    def events(self) -> Iterator[Progress]:
        """Go on with the relaunch and yield its progress; leaving the loop early aborts it."""
        return self._events

    def result(self) -> Outcome:
        """Go on to the end and return the outcome."""
        for _ in self._events:
            pass
        return self._session.outcome()


class AsyncRelaunch(_Handle):
    """:class:`Relaunch` for asyncio."""

    def __init__(self, session: Session, events: AsyncIterator[Progress]) -> None:
        super().__init__(session)
        self._events = events

    def events(self) -> AsyncIterator[Progress]:
        """Go on with the relaunch and yield its progress. Cancelling the task aborts it.

        Whoever leaves the loop early closes the iterator (``aclose``), which aborts it as well.
        """
        return self._events

    async def result(self) -> Outcome:
        """Go on to the end and return the outcome."""
        async for _ in self._events:
            pass
        return self._session.outcome()


H = TypeVar("H", bound=_Handle)


class _Active(Generic[H]):
    """The relaunches that a hint may concern; forgotten when nobody holds them any more."""

    def __init__(self) -> None:
        self._handles: weakref.WeakSet[H] = weakref.WeakSet()
        # Hints come from any thread, while others start relaunches.
        self._lock = threading.Lock()

    def add(self, handle: H) -> H:
        with self._lock:
            self._handles.add(handle)
        return handle

    def hint(self, lab_instance_id: int) -> None:
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.hint(lab_instance_id)


class Options(TypedDict, total=False):
    """What a single relaunch may be given.

    ``parameters`` go with the launch, ``note`` with the cancel; ``policy`` replaces the
    relauncher's; ``relaunch_id`` (1 to 64 letters, digits, ``-``, ``_``) replaces a random one.
    """

    parameters: LaunchParameters | None
    note: str | None
    policy: Policy | None
    relaunch_id: str | None


class Relauncher:
    """Relaunches labs, blocking its caller meanwhile.

    ``platform`` is anything with the methods of :class:`orchestrator.ports.Platform`. ``cancel``
    and ``save`` replace the platform's own as the step that makes room. ``policy`` is the default
    of every relaunch. ``schedules`` decides when to look, ``clock`` is time, ``observer`` is told
    of each step before it is taken.
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
    ) -> None:
        self._platform = platform
        self._steps = {"cancel": cancel or platform.cancel, "save": save or platform.save}
        self._policy = policy or Policy()
        self._schedules = schedules or Schedules()
        self._clock = clock or SystemClock()
        self._observer = observer
        self._active: _Active[Relaunch] = _Active()

    def start(self, user_id: str, lab_profile_id: int, **options: Unpack[Options]) -> Relaunch:
        """Prepare a relaunch of ``lab_profile_id`` for ``user_id``; nothing is called yet.

        Raises :class:`~orchestrator.errors.InvalidRequest`, naming the field.
        """
        at = self._clock.now()
        return self.resume(_new_run(user_id, lab_profile_id, self._policy, options, at))

    def resume(self, run: Run) -> Relaunch:
        """Go on with a stored run. A call that was in flight is looked up before anything else."""
        session = Session(run, self._schedules, self._observer)
        events = drive(session, self._platform, self._steps, self._clock)
        return self._active.add(Relaunch(session, events))

    def relaunch(self, user_id: str, lab_profile_id: int, **options: Unpack[Options]) -> Outcome:
        """:meth:`start` and :meth:`Relaunch.result` in one."""
        return self.start(user_id, lab_profile_id, **options).result()

    def hint(self, lab_instance_id: int) -> None:
        """Say, from any thread, that an instance seems to be torn down (a webhook, say).

        Early, late, doubled, forged and unknown ones are harmless: a launch checks each.
        """
        self._schedules.knowledge.announced(lab_instance_id, self._clock.now())
        self._active.hint(lab_instance_id)


class AsyncRelauncher:
    """:class:`Relauncher` for asyncio; any number of relaunches may run at a time."""

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
    ) -> None:
        self._platform = platform
        self._steps = {"cancel": cancel or platform.cancel, "save": save or platform.save}
        self._policy = policy or Policy()
        self._schedules = schedules or Schedules()
        self._clock = clock or AsyncSystemClock()
        self._observer = observer
        self._active: _Active[AsyncRelaunch] = _Active()

    def start(self, user_id: str, lab_profile_id: int, **options: Unpack[Options]) -> AsyncRelaunch:
        """See :meth:`Relauncher.start`."""
        at = self._clock.now()
        return self.resume(_new_run(user_id, lab_profile_id, self._policy, options, at))

    def resume(self, run: Run) -> AsyncRelaunch:
        """See :meth:`Relauncher.resume`."""
        session = Session(run, self._schedules, self._observer)
        events = drive_async(session, self._platform, self._steps, self._clock)
        return self._active.add(AsyncRelaunch(session, events))

    async def relaunch(
        self, user_id: str, lab_profile_id: int, **options: Unpack[Options]
    ) -> Outcome:
        """See :meth:`Relauncher.relaunch`."""
        return await self.start(user_id, lab_profile_id, **options).result()

    def hint(self, lab_instance_id: int) -> None:
        """See :meth:`Relauncher.hint`."""
        self._schedules.knowledge.announced(lab_instance_id, self._clock.now())
        self._active.hint(lab_instance_id)


def _new_run(user_id: str, lab_profile_id: int, policy: Policy, options: Options, at: float) -> Run:
    """A run that has not begun; refuses bad input, naming the field."""
    policy = options.get("policy") or policy
    parameters = options.get("parameters") or LaunchParameters()
    note = options.get("note")
    relaunch_id = options.get("relaunch_id")
    if not isinstance(user_id, str) or not user_id.strip():
        raise InvalidRequest("user_id", "must be a text that is not empty.")
    _check_text("user_id", user_id)
    if type(lab_profile_id) is not int or not 0 < lab_profile_id <= _LARGEST_INT32:
        raise InvalidRequest("lab_profile_id", f"{lab_profile_id!r} is not a positive 32-bit id.")
    for name, problem in wrong_types(parameters):
        raise InvalidRequest(name, problem)
    _check_text("tag", parameters.tag)
    _check_text("note", note)
    if relaunch_id is None:
        relaunch_id = uuid.uuid4().hex
    elif not _RELAUNCH_ID.fullmatch(relaunch_id):
        raise InvalidRequest("relaunch_id", "takes 1 to 64 letters, digits, '-' and '_'.")
    return Run(
        relaunch_id=relaunch_id,
        user_id=user_id,
        lab_profile_id=lab_profile_id,
        parameters=parameters,
        note=note,
        policy=policy,
        created_at=at,
        deadline_at=at + policy.deadline_seconds,
    )


def _check_text(field: str, text: str | None) -> None:
    if text is not None and any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise InvalidRequest(field, "must not contain control characters.")
