"""What is measured, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry


class Metrics:
    """One registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
