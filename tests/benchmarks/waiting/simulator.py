"""Waits in virtual time: a schedule is asked when to look, and told what the looks have shown."""

from __future__ import annotations

import math

import numpy as np

from orchestrator.ports import Schedule
from orchestrator.waiting.replay import wait_for
from tests.benchmarks.waiting.families import DEADLINE, Floats


def looks_of(schedule: Schedule, until: float = DEADLINE) -> Floats:
    """When the schedule would look if the teardown never ended."""
    looks: list[float] = []
    elapsed = 0.0
    while len(looks) < 100_000:
        elapsed += schedule.next_delay(elapsed, len(looks) + 1)
        if elapsed >= until:
            break
        looks.append(elapsed)
    return np.array([*looks, until])


def wait(schedule: Schedule, time: float) -> tuple[float, int]:
    """One wait for a teardown of ``time`` seconds, and learn from it: idle seconds and looks."""
    return wait_for(time, schedule, DEADLINE)


def wait_with_webhook(
    schedule: Schedule, time: float, *, delay: float, arrives: bool
) -> tuple[float, int]:
    """:func:`wait`, but a webhook may announce the end ``delay`` seconds after it.

    Nothing tells of an end that never comes. The launch that checks the webhook is needed anyway,
    so it counts as no look.
    """
    if not arrives or not math.isfinite(time):
        return wait(schedule, time)
    elapsed, low, looks = 0.0, 0.0, 0
    while True:
        elapsed = min(elapsed + schedule.next_delay(elapsed, looks + 1), DEADLINE)
        if time + delay < elapsed:
            schedule.observe(time + delay, time + delay)
            return delay, looks
        looks += 1
        if time <= elapsed:
            schedule.observe(low, elapsed)
            return elapsed - time, looks
        low = elapsed
