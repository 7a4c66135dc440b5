"""Relaunch a learner's lab: cancel the old instance, wait through its teardown, launch again.

The public names, all importable from here; ``orchestrator.skillable`` has the client of the
platform, ``orchestrator.durable`` the stores of relaunches that outlive their process,
``orchestrator.waiting`` the schedules, ``orchestrator.testing`` clocks and fakes,
``orchestrator.machine`` the pure state machine.
"""

from orchestrator.clocks import AsyncSystemClock, SystemClock
from orchestrator.errors import (
    AnswerLost,
    AnswerUnreadable,
    CallRefused,
    ConfigurationError,
    HeldBack,
    IllegalTransition,
    InvalidRequest,
    KeyRejected,
    NotSent,
    PlatformError,
    PlatformPaused,
    PlatformUnavailable,
    PlatformUnreachable,
    RateLimited,
    RelaunchError,
    RelaunchInFlight,
    RelaunchNotLaunched,
    StoreError,
    StoreIncompatible,
    StoreUnavailable,
    UnknownRelaunch,
)
from orchestrator.handles import AsyncRelaunch, Relaunch
from orchestrator.labs import (
    DisplaceAnswer,
    Displaced,
    InstanceDetails,
    Labs,
    LaunchAnswer,
    LaunchParameters,
    Phase,
    RunningInstance,
    SavedInstance,
)
from orchestrator.machine.run import Policy, Run
from orchestrator.progress import Left, Outcome, Progress
from orchestrator.relauncher import AsyncRelauncher, Relauncher
from orchestrator.session import Schedules

__all__ = [
    "AnswerLost",
    "AnswerUnreadable",
    "AsyncRelaunch",
    "AsyncRelauncher",
    "AsyncSystemClock",
    "CallRefused",
    "ConfigurationError",
    "DisplaceAnswer",
    "Displaced",
    "HeldBack",
    "IllegalTransition",
    "InstanceDetails",
    "InvalidRequest",
    "KeyRejected",
    "Labs",
    "LaunchAnswer",
    "LaunchParameters",
    "Left",
    "NotSent",
    "Outcome",
    "Phase",
    "PlatformError",
    "PlatformPaused",
    "PlatformUnavailable",
    "PlatformUnreachable",
    "Policy",
    "Progress",
    "RateLimited",
    "Relaunch",
    "RelaunchError",
    "RelaunchInFlight",
    "RelaunchNotLaunched",
    "Relauncher",
    "Run",
    "RunningInstance",
    "SavedInstance",
    "Schedules",
    "StoreError",
    "StoreIncompatible",
    "StoreUnavailable",
    "SystemClock",
    "UnknownRelaunch",
]
