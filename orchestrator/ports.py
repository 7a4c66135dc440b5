"""The ports: what the orchestrator needs from the world, as small protocols, sync and async.

Rules for whoever implements one:

* Raise the classes of :mod:`orchestrator.errors`, and choose the branch with care: ``NotSent``
  only if the call provably had no effect, ``AnswerLost`` whenever it may have had one.
* Never repeat ``launch``, ``resume``, ``cancel`` or ``save`` on your own: the state machine does.
* ``timeout`` is how many seconds the run has left for the call; give up by then, ``AnswerLost``.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Protocol

from orchestrator.labs import (
    DisplaceAnswer,
    InstanceDetails,
    Labs,
    LaunchAnswer,
    LaunchParameters,
    RosterEntry,
    RosterPage,
)

if TYPE_CHECKING:
    from orchestrator.progress import Progress


class CancelStep(Protocol):
    """The injected step that makes room: ends (or saves) one lab instance."""

    def __call__(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Ask for the end of ``instance_id``; return as soon as the platform has answered."""


class AsyncCancelStep(Protocol):
    """:class:`CancelStep` for the async driver."""

    async def __call__(
        self, instance_id: int, *, note: str | None, timeout: float
    ) -> DisplaceAnswer:
        """Ask for the end of ``instance_id``; return as soon as the platform has answered."""


class Platform(Protocol):
    """A lab platform, as the sync driver sees it."""

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        """List the user's running and saved labs; a user never seen before has none."""

    def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """Describe one instance; ``readable=False`` if the platform refuses to."""

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Launch once. The probe before harm is this same call."""

    def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """Resume a saved instance once."""

    def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Cancel once; the default :class:`CancelStep`."""

    def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Save once; fits the same socket as ``cancel``."""

    def access_url(self, instance_id: int, *, timeout: float) -> str:
        """A single-use URL to enter a running instance; ``CallRefused`` if there is none now."""

    def count_active(self, *, timeout: float) -> int:
        """How many labs of the whole API consumer count as active, tearing down ones included."""


class AsyncPlatform(Protocol):
    """:class:`Platform` for the async driver, method by method the same."""

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        """See :meth:`Platform.survey`."""

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """See :meth:`Platform.inspect`."""

    async def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """See :meth:`Platform.launch`."""

    async def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """See :meth:`Platform.resume`."""

    async def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """See :meth:`Platform.cancel`."""

    async def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """See :meth:`Platform.save`."""

    async def access_url(self, instance_id: int, *, timeout: float) -> str:
        """See :meth:`Platform.access_url`."""

    async def count_active(self, *, timeout: float) -> int:
        """See :meth:`Platform.count_active`."""


class AsyncRoster(Protocol):
    """What a platform says of the whole API consumer. Only batches need it, and only questions
    are in it: each may be asked again, and none changes anything."""

    async def roster(self, *, timeout: float) -> tuple[RosterEntry, ...]:
        """List every running and saved lab of the API consumer, never another one's."""

    async def search(
        self,
        *,
        class_id: str | None = None,
        lab_profile_id: int | None = None,
        since: float | None = None,
        page: int = 0,
        timeout: float,
    ) -> RosterPage:
        """One page (the first is 0) of the labs that match, oldest first.

        ``since``: only those that started then or later. Those that have ended are among them.
        """

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """See :meth:`Platform.inspect`."""


class Schedule(Protocol):
    """Decides when to look next while waiting. ``orchestrator.waiting`` has several."""

    def next_delay(self, elapsed: float, attempt: int) -> float:
        """Seconds from now to look number ``attempt`` (1, 2, ...), ``elapsed`` s into the wait."""

    def observe(self, low: float, high: float) -> None:
        """Learn that the wait ended between ``low`` and ``high`` s (``math.inf``: it never did)."""


class Clock(Protocol):
    """Time for the sync driver."""

    def now(self) -> float:
        """Unix epoch seconds; never goes backwards within a process."""

    def wait(self, seconds: float, wakeup: threading.Event) -> None:
        """Return after ``seconds``, or at once when ``wakeup`` is or becomes set."""


class AsyncClock(Protocol):
    """Time for the async driver."""

    def now(self) -> float:
        """Unix epoch seconds; never goes backwards within a process."""

    async def wait(self, seconds: float, wakeup: asyncio.Event) -> None:
        """Return after ``seconds``, or at once when ``wakeup`` is or becomes set."""


class Observer(Protocol):
    """Is told of every step, in order, *before* the call that the step announces is made."""

    def __call__(self, progress: Progress) -> None:
        """Take note of ``progress``; must not raise and should be quick."""
