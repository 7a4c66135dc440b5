"""Which runtime drives the runs of a store: this process, or a fleet of workers."""

from __future__ import annotations

from orchestrator.durable.driver import Parts
from orchestrator.durable.embedded import EmbeddedRuntime
from orchestrator.durable.runtime import Runtime


def runtime_of(parts: Parts) -> Runtime:
    """The runtime for a store, by its engine."""
    if parts.store.engine == "fleet":
        # Only whoever has such a store has what it needs installed.
        from orchestrator.durable.fleet.runtime import FleetRuntime

        return FleetRuntime(parts)
    return EmbeddedRuntime(parts)
