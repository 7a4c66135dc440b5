"""Processes of a fleet, each with a gate, before a wire that all share; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import (
    HeldBack,
    PlatformError,
    PlatformPaused,
    PlatformUnavailable,
    RateLimited,
    StoreUnavailable,
)
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.traffic import Circuit, Gate, Limits, Shared, priority

T = TypeVar("T")


class CountingStore(MemoryRunStore):
    """Counts how often the shared text is changed or looked at; ``down``: it cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.down = False

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        self.changes += 1
        if self.down:
            raise StoreUnavailable("gone for a moment")
        await asyncio.sleep(0.001)
        return await super().change(name, step)


@dataclass
class Wire:
    """What was really sent: (seconds since the beginning, what), and what comes of it."""

    error: Callable[[str], PlatformError | None] = lambda what: None
    seconds: float = 0.05
    sent: list[tuple[float, str]] = field(default_factory=list)

    async def send(self, what: str, left: float) -> str:
        self.sent.append((round(asyncio.get_running_loop().time(), 3), what))
        error = self.error(what)
        await asyncio.sleep(self.seconds)
        if error is not None:
            raise error
        return what

    @property
    def names(self) -> list[str]:
        return [what for _, what in self.sent]


@dataclass
class Process:
    """One process of the fleet: a gate, before the wire that all share."""

    wire: Wire
    store: Shared
    limits: Limits = field(default_factory=Limits)
    jitter: Callable[[], float] = lambda: 0.0

    def __post_init__(self) -> None:
        self.gate = Gate(self.store, limits=self.limits, clock=VirtualClock(), jitter=self.jitter)

    async def call(self, what: str, *, timeout: float = 60.0, bulk: bool = False) -> str:
        """An effect if its name begins so; says "held back" (and why) instead of raising that."""
        priority.set(int(bulk))
        try:
            return await self.gate.through(
                what,
                lambda left: self.wire.send(what, left),
                timeout=timeout,
                effect=what.startswith(("launch", "cancel")),
            )
        except PlatformPaused:
            return "paused"
        except HeldBack:
            return "limited"
        except RateLimited:
            return "429"
        except PlatformError as error:
            return error.code

    def start(self, what: str, **options: Any) -> asyncio.Task[str]:
        return asyncio.get_running_loop().create_task(self.call(what, **options))


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Let a test run in virtual time."""

    def run() -> None:
        run_virtual(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def turned_away(retry_after: float | None = 4.0) -> RateLimited:
    return RateLimited("slow down", status=429, retry_after=retry_after)


def fails(what: str) -> PlatformError:
    return PlatformUnavailable("HTTP 503", status=503)


async def out_of_order(*fleet: Process) -> None:
    """Let the circuit open, and everybody know."""
    fleet[0].wire.error = fails
    for _ in range(5):
        await fleet[0].call("details")
    for process in fleet:
        await process.gate.look()
        assert process.gate.snapshot().circuit is Circuit.OPEN
    fleet[0].wire.sent.clear()
