"""What a relaunch tells the traffic about itself, by context variables: no port needs to carry it.

Whoever drives a relaunch sets them for its task; nobody has to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

#: Awaited right before each call with an effect is sent, after any waiting for its turn; what it
#: raises goes up to the caller, and nothing is sent. The place to check a lease once more.
before_effect: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar(
    "before_effect", default=None
)

#: Which of several calls that wait goes first: those of 0, somebody at a button, before a bulk
#: run's. Takes a :class:`~orchestrator.requests.Priority`.
priority: ContextVar[int] = ContextVar("priority", default=0)


async def check() -> None:
    """Await what must hold before an effect, if anything was set."""
    hook = before_effect.get()
    if hook is not None:
        await hook()
