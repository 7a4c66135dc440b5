"""How the traffic of an API consumer stands, for metrics and for people."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.traffic.pace import Circuit


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The traffic of the consumer, as this process knows it.

    ``calls_per_second`` were sent of late, ``limit`` is how many may be (``None``: any number).
    ``paused_until`` and ``trial_at`` are Unix epoch seconds, ``None`` where there is no pause or
    outage. ``waiting`` calls of this process stand in line.
    """

    calls_per_second: float
    limit: float | None
    paused_until: float | None
    circuit: Circuit
    trial_at: float | None
    waiting: int
