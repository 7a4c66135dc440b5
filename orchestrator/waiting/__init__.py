"""Schedules: when to look next. Any object with ``next_delay`` and ``observe`` will do.

:mod:`~orchestrator.waiting.learned` explains the one that is used if none is chosen.
"""

from orchestrator.waiting.knowledge import Knowledge, Row, Subject, Waited
from orchestrator.waiting.knowledge_file import KnowledgeFile
from orchestrator.waiting.learned import LearnedSchedule, Typical
from orchestrator.waiting.schedules import (
    FixedSchedule,
    SequenceSchedule,
    SquareRootSchedule,
    TenacitySchedule,
)

__all__ = [
    "FixedSchedule",
    "Knowledge",
    "KnowledgeFile",
    "LearnedSchedule",
    "Row",
    "SequenceSchedule",
    "SquareRootSchedule",
    "Subject",
    "TenacitySchedule",
    "Typical",
    "Waited",
]
