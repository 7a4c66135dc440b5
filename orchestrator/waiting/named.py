"""Schedules by name, as settings and the command line write them."""

from __future__ import annotations

import math
import re

from tenacity import wait_exponential_jitter

from orchestrator.errors import InvalidRequest
from orchestrator.ports import Schedule
from orchestrator.waiting.learned import LearnedSchedule
from orchestrator.waiting.schedules import FixedSchedule, SquareRootSchedule, TenacitySchedule

#: What a name may look like.
PATTERN = r"^(learned|square_root|(fixed|exponential):\d+(\.\d+)?)$"


def named_schedule(
    name: str, *, cost_per_look: float = 2.0, deadline: float = 900.0, longest: float = 120.0
) -> Schedule:
    """``learned``, ``square_root``, ``fixed:SECONDS`` or ``exponential:LONGEST`` (1, 2, 4, ... s).

    ``longest`` caps the gaps of ``square_root``. Raises ``InvalidRequest`` for any other name.
    """
    kind, _, number = name.partition(":") if re.fullmatch(PATTERN, name) else ("", "", "")
    seconds = float(number or "inf")
    if kind == "learned":
        return LearnedSchedule(cost_per_look, deadline)
    if kind == "square_root":
        return SquareRootSchedule(cost_per_look, longest)
    if kind == "fixed" and 0 < seconds < math.inf:
        return FixedSchedule(seconds)
    if kind == "exponential" and 0 < seconds < math.inf:
        return TenacitySchedule(wait_exponential_jitter(initial=1, max=seconds))
    raise InvalidRequest(
        "schedule", f"{name!r} is none of learned, square_root, fixed:SECONDS, exponential:LONGEST."
    )
