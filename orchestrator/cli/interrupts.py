"""SIGINT and SIGTERM: the first ends what can be ended in good order, the second leaves at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from orchestrator.cli.exits import INTERRUPTED


@contextlib.contextmanager
def cancelling() -> Iterator[asyncio.Task[object]]:
    """While inside, a signal cancels this task: whatever call is on the wire is dropped, at once.

    Gives the task; whoever catches the cancellation says so by its ``uncancel``.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("must be entered in a task")
    with _handling(task.cancel, lambda: None):
        yield task


@contextlib.contextmanager
def two_stages(first: Callable[[], object], last_word: Callable[[], object]) -> Iterator[None]:
    """While inside, the first signal calls ``first``; the second ``last_word``, and then it leaves.

    Neither may wait for anything: they are called by the event loop.
    """
    with _handling(first, last_word):
        yield


@contextlib.contextmanager
def _handling(first: Callable[[], object], last_word: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    seen: list[int] = []

    def on_signal() -> None:
        seen.append(1)
        if len(seen) > 1:
            try:
                last_word()
            finally:
                os._exit(INTERRUPTED)
        first()

    # Not every platform's loop can do this; there, Ctrl-C stays a KeyboardInterrupt.
    with contextlib.suppress(NotImplementedError, RuntimeError):
        for number in signals:
            loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError):
            for number in signals:
                loop.remove_signal_handler(number)
