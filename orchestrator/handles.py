"""One relaunch in the hands of whoever started it, sync and async.

It does nothing until it is iterated or asked for its result, and is gone with its process. The
durable ones (:mod:`orchestrator.durable.handle`) look the same and go on by themselves.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, Generic, TypeVar

from orchestrator.machine.run import Run
from orchestrator.progress import Outcome, Progress
from orchestrator.session import Session


class Handle:
    """What a sync and an async relaunch have in common."""

    @property
    def joined(self) -> bool:
        """Whether the relaunch was there before; never so without a store."""
        return False

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


class Relaunch(Handle):
    """One relaunch, driven by whoever iterates :meth:`events` or calls :meth:`result`."""

    def __init__(self, session: Session, events: Iterator[Progress]) -> None:
        super().__init__(session)
        self._events = events

    def events(self, *, after: int = 0) -> Iterator[Progress]:
        """Go on with the relaunch and yield its progress, from sequence number ``after`` + 1 on.

        Leaving the loop early aborts it.
        """
        return self._events if after == 0 else self._later_than(after)

    def _later_than(self, after: int) -> Iterator[Progress]:
        for progress in self._events:
            if progress.sequence > after:
                yield progress

    def result(self) -> Outcome:
        """Go on to the end and return the outcome."""
        for _ in self._events:
            pass
        return self._session.outcome()


class AsyncRelaunch(Handle):
    """:class:`Relaunch` for asyncio."""

    def __init__(self, session: Session, events: AsyncIterator[Progress]) -> None:
        super().__init__(session)
        self._events = events

    def events(self, *, after: int = 0) -> AsyncIterator[Progress]:
        """Go on with the relaunch and yield its progress, from sequence number ``after`` + 1 on.

        Cancelling the task aborts the relaunch. Whoever leaves the loop early closes the iterator
        (``aclose``), which aborts it as well.
        """
        return self._events if after == 0 else self._later_than(after)

    async def _later_than(self, after: int) -> AsyncIterator[Progress]:
        async for progress in self._events:
            if progress.sequence > after:
                yield progress

    async def accepted(self) -> str:
        """The relaunch's id; a durable one is stored before this returns."""
        return self.relaunch_id

    def __await__(self) -> Generator[Any, None, Outcome]:
        """``await relaunch`` is ``await relaunch.result()``."""
        return self.result().__await__()

    async def result(self) -> Outcome:
        """Go on to the end and return the outcome."""
        async for _ in self._events:
            pass
        return self._session.outcome()


H = TypeVar("H", bound=Handle)


class Active(Generic[H]):
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
