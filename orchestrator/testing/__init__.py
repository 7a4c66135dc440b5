"""For the tests of those who embed us: clocks moved by hand, and platforms named by how they fail.

Part of the public interface; needs nothing but the base install.
"""

from orchestrator.testing.clock import AsyncManualClock, ManualClock
from orchestrator.testing.platforms import (
    AnswersWithActiveLabsPage,
    Async,
    FakeInstance,
    HandsBackDyingInstance,
    InMemoryPlatform,
    IsUnreachable,
    LosesCancelAnswer,
    LosesLaunchAnswer,
    LosesLaunchRequest,
    NeverTearsDown,
    RateLimits,
    RefusesForGood,
    RejectsKey,
    SlotIsTaken,
)

__all__ = [
    "AnswersWithActiveLabsPage",
    "Async",
    "AsyncManualClock",
    "FakeInstance",
    "HandsBackDyingInstance",
    "InMemoryPlatform",
    "IsUnreachable",
    "LosesCancelAnswer",
    "LosesLaunchAnswer",
    "LosesLaunchRequest",
    "ManualClock",
    "NeverTearsDown",
    "RateLimits",
    "RefusesForGood",
    "RejectsKey",
    "SlotIsTaken",
]
