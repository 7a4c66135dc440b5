"""Durable relaunches: stores for them, and what their users need beside the relauncher.

``orchestrator.durable.store`` has the port and the rules that every store lives by, and
``orchestrator.durable.postgres`` the store of a fleet (it needs the extra ``fleet``).
"""

from orchestrator.durable.blocking import DurableRelaunch
from orchestrator.durable.driver import WorkerOptions
from orchestrator.durable.handle import AsyncDurableRelaunch
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import Entry, Filter, RunStore, Signals, Step, StoredRun
from orchestrator.requests import Priority

__all__ = [
    "AsyncDurableRelaunch",
    "DurableRelaunch",
    "Entry",
    "Filter",
    "MemoryRunStore",
    "Priority",
    "RunStore",
    "SQLiteRunStore",
    "Signals",
    "Step",
    "StoredRun",
    "WorkerOptions",
]
