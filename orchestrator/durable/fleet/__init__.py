"""The fleet of workers that drive the runs of one PostgreSQL store, on procrastinate."""

from orchestrator.durable.fleet.queue import Fleet
from orchestrator.durable.fleet.runtime import FleetRuntime

__all__ = ["Fleet", "FleetRuntime"]
