"""Schedules: when to look next. Any object with ``next_delay`` and ``observe`` will do."""

from orchestrator.waiting.schedules import (
    FixedSchedule,
    SequenceSchedule,
    SquareRootSchedule,
    TenacitySchedule,
)

__all__ = ["FixedSchedule", "SequenceSchedule", "SquareRootSchedule", "TenacitySchedule"]
