"""What is written down while a simulation runs: who asked for what, and the time line."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import Outcome, Run
from orchestrator.requests import Options


@dataclass
class Asked:
    """A request of a learner's, and what came of it where it was made."""

    process: str
    run: Run
    options: Options
    relaunch_id: str | None = None
    outcome: Outcome | None = None
    known_at: float | None = None


@dataclass
class Told:
    """A line of the time line."""

    at: float
    who: str
    relaunch_id: str
    what: str
