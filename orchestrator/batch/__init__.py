"""Many learners at once: a batch is read or selected, planned, carried out, and reported.

Start at :func:`reset_many`; the parts under it are what the command line and the service use.
"""

from __future__ import annotations

from orchestrator.batch.carrying_out import BatchRun
from orchestrator.batch.outcomes import ItemOutcome, Obstacle, Standing
from orchestrator.batch.requests import Row
from orchestrator.batch.resetting import reset_many
from orchestrator.durable.batches import Batch, BatchState, Item, ItemResult, Pace

__all__ = [
    "Batch",
    "BatchRun",
    "BatchState",
    "Item",
    "ItemOutcome",
    "ItemResult",
    "Obstacle",
    "Pace",
    "Row",
    "Standing",
    "reset_many",
]
