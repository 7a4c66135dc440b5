"""What a measurement costs: CPU of this process and of a server beside it, and memory."""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]  # it has no types


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds: by the wall, of this process's CPU, of the server's (0 without one)."""

    wall: float
    client: float
    server: float

    def __sub__(self, before: Usage) -> Usage:
        return Usage(
            self.wall - before.wall, self.client - before.client, self.server - before.server
        )


def usage(server: psutil.Process | None) -> Usage:
    """What was used so far."""
    return Usage(time.monotonic(), time.process_time(), 0.0 if server is None else _of_tree(server))


def memory() -> int:
    """Bytes that only this process has."""
    gc.collect()
    return int(psutil.Process().memory_full_info().uss)


def _of_tree(root: psutil.Process) -> float:
    """CPU seconds of a process and all its descendants, those that have ended among them."""
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
