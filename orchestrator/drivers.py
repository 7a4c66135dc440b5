"""The two drivers, sync and async: carry out commands, bring back what came of them.

They share everything but the waiting (:mod:`orchestrator.session`). Whatever interrupts them in the
middle of a call (Ctrl-C, a cancelled task, a bug in a port) ends the run as aborted, with the call
on the wire recorded as such, before it goes on upwards; no further call is made. The durable driver
(:mod:`orchestrator.durable.driver`) is the async one with a journal at each step; what interrupts
it leaves the run as it was stored.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping

from orchestrator.errors import CallRefused, PlatformError
from orchestrator.machine.vocabulary import Wait
from orchestrator.ports import (
    AsyncCancelStep,
    AsyncClock,
    AsyncPlatform,
    CancelStep,
    Clock,
    Platform,
)
from orchestrator.progress import Progress
from orchestrator.session import Session


def drive(
    session: Session, platform: Platform, steps: Mapping[str, CancelStep], clock: Clock
) -> Iterator[Progress]:
    """Drive a session to its end, yielding each progress before the call it announces."""
    wakeup = threading.Event()
    session.inbox.connect(wakeup.set)
    in_flight = False
    try:
        if (first := session.begin(clock.now())) is not None:
            yield first
        while (command := session.command) is not None:
            if session.inbox.abort_requested:
                yield session.aborted(clock.now())
            elif isinstance(command, Wait):
                clock.wait(max(0.0, session.wake_at - clock.now()), wakeup)
                wakeup.clear()
                progress = session.waited(clock.now())
                if progress is not None:
                    yield progress
            else:
                answers = []
                in_flight = True
                try:
                    for n, call in enumerate(session.calls(command, platform, steps, clock.now())):
                        session.api_calls += 1
                        try:
                            answers.append(call())
                        except CallRefused as error:
                            answers.append(session.refused(command, n, error))
                except PlatformError as error:
                    progress = session.errored(command, error, clock.now())
                else:
                    progress = session.answered(command, answers, clock.now())
                in_flight = False
                yield progress
    except BaseException:
        _interrupted(session, clock.now(), in_flight)
        raise


async def drive_async(
    session: Session,
    platform: AsyncPlatform,
    steps: Mapping[str, AsyncCancelStep],
    clock: AsyncClock,
    *,
    leave_on: tuple[type[BaseException], ...] = (),
    before_effect: Callable[[], Awaitable[None]] | None = None,
) -> AsyncGenerator[Progress, None]:
    """:func:`drive` for asyncio. Cancelling the task that iterates ends the run as aborted.

    ``leave_on``: what interrupts by one of these leaves the run as it is, for others to go on with.
    ``before_effect`` is awaited right before a call that changes something, and may raise instead.
    """
    wakeup = asyncio.Event()
    loop = asyncio.get_running_loop()
    session.inbox.connect(lambda: _wake(loop, wakeup))
    in_flight = False
    try:
        if (first := session.begin(clock.now())) is not None:
            yield first
        while (command := session.command) is not None:
            if session.inbox.abort_requested:
                yield session.aborted(clock.now())
            elif isinstance(command, Wait):
                await clock.wait(max(0.0, session.wake_at - clock.now()), wakeup)
                wakeup.clear()
                progress = session.waited(clock.now())
                if progress is not None:
                    yield progress
            else:
                answers = []
                in_flight = True
                try:
                    for n, call in enumerate(session.calls(command, platform, steps, clock.now())):
                        if before_effect is not None and session.run.effect_pending:
                            await before_effect()
                        session.api_calls += 1
                        try:
                            answers.append(await call())
                        except CallRefused as error:
                            answers.append(session.refused(command, n, error))
                except PlatformError as error:
                    progress = session.errored(command, error, clock.now())
                else:
                    progress = session.answered(command, answers, clock.now())
                in_flight = False
                yield progress
    except leave_on:
        raise
    except BaseException:
        _interrupted(session, clock.now(), in_flight)
        raise


def _wake(loop: asyncio.AbstractEventLoop, wakeup: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(wakeup.set)


def _interrupted(session: Session, at: float, in_flight: bool) -> None:
    if not session.run.state.is_terminal:
        session.aborted(at, in_flight=in_flight)
