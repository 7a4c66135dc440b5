"""Politeness towards the platform, of all processes of an API consumer together.

:class:`PolitePlatform` wraps any async platform; its :class:`Gate` decides who calls when. What the
processes share is one small text, kept wherever :class:`Shared` says: a store of relaunches will
do. The rules are pure: :mod:`.pace` (rate, pauses, circuit) and :mod:`.budget` (token bucket).
"""

from orchestrator.traffic.gate import Gate
from orchestrator.traffic.guard import before_effect, priority
from orchestrator.traffic.pace import Circuit, Limits
from orchestrator.traffic.platform import PolitePlatform, polite_step
from orchestrator.traffic.shared import InProcess, Shared
from orchestrator.traffic.snapshot import Snapshot

__all__ = [
    "Circuit",
    "Gate",
    "InProcess",
    "Limits",
    "PolitePlatform",
    "Shared",
    "Snapshot",
    "before_effect",
    "polite_step",
    "priority",
]
