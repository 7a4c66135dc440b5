"""Durable relaunches. See :mod:`orchestrator.durable.store` for the rules they live by."""
