"""The words of the state machine: its states, the events it takes, the commands it gives.

Values only, no logic. An event says what came back, and when (``at``, Unix epoch seconds); a
command says what a driver is to do next. Answers of the platform become events in
:mod:`orchestrator.machine.answers`; what each event does in each state is the table in
:mod:`orchestrator.machine.table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.labs import InstanceDetails, Labs, LaunchParameters

#: The code of a call in flight whose own process died: the platform has refused nothing.
CRASHED = "crashed"


class State(StrEnum):
    """Where a run stands. Every state but the last eight asks the driver for one command."""

    NEW = "new"
    SURVEYING = "surveying"
    PROBING = "probing"
    COUNTING = "counting"
    INSPECTING = "inspecting"
    DISPLACING = "displacing"
    CONFIRMING_DISPLACE = "confirming_displace"
    TEARING_DOWN = "tearing_down"
    LOOKING = "looking"
    LAUNCHING = "launching"
    RESURVEYING = "resurveying"
    CONFIRMING_LAUNCH = "confirming_launch"
    VERIFYING = "verifying"
    ENTERING = "entering"
    BACKING_OFF = "backing_off"

    LAUNCHED = "launched"
    REUSED = "reused"
    FREED = "freed"
    CHOOSE = "choose"
    REFUSED = "refused"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABORTED = "aborted"

    @property
    def is_terminal(self) -> bool:
        """Whether a run in this state has ended."""
        return self in TERMINAL


TERMINAL = frozenset(
    {
        State.LAUNCHED,
        State.REUSED,
        State.FREED,
        State.CHOOSE,
        State.REFUSED,
        State.FAILED,
        State.TIMED_OUT,
        State.ABORTED,
    }
)


# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something came back. ``at`` is when, in Unix epoch seconds."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The run may begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued(Event):
    """As many relaunches as may run at a time do so; ``ahead`` others will begin before this."""

    ahead: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed(Event):
    """The platform listed the user's labs."""

    labs: Labs


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected(Event):
    """The platform described the instances that were asked about, in that order."""

    details: tuple[InstanceDetails, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted(Event):
    """``num_active`` labs of the whole API consumer count as active."""

    num_active: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchAccepted(Event):
    """The platform accepted the launch and named an instance that this run did not know."""

    instance_id: int
    url: str | None
    expires_at: float | None
    estimated_ready_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchHandedBack(Event):
    """The platform "accepted" by handing back an instance that was known before."""

    instance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserLimitReached(Event):
    """The user holds as many labs as they may. ``url`` leads to the platform's own page on which
    the learner manages active labs, where the consumer is set up to answer with that."""

    result: int | None
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityExhausted(Event):
    """Somebody or something other than the user's own limit is in the way for now."""

    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedInstanceExists(Event):
    """The user has a saved instance of the wanted lab profile."""

    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRefused(Event):
    """The launch was refused for good; repeating it would change nothing."""

    result: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchErred(Event):
    """The platform answered "error" (Result 0, or no Result at all) to the launch."""

    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplaceAccepted(Event):
    """The platform accepted the cancel or the save: the slot will become free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplaceRefused(Event):
    """The platform did not accept the cancel or the save."""

    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplaceForeign(Event):
    """The instance was launched by another API consumer: this one cannot end it."""

    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessGranted(Event):
    """The platform gave a URL to enter the instance."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined(Event):
    """The platform read a question (never a launch or a cancel) and would not answer it."""

    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent(Event):
    """The call in flight provably had no effect and may be made again.

    ``code`` is the error's stable code, ``retry_after`` the seconds the platform asked for.
    """

    code: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(Event):
    """Whether the call in flight had an effect is unknown: time-out, reset, 5xx, garbage, crash."""

    code: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRefused(Event):
    """The platform does not accept the API key."""

    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke(Event):
    """The wait is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hinted(Event):
    """Somebody outside says that ``instance_id`` is torn down. Checked, never believed."""

    instance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortRequested(Event):
    """The caller wants the run to end now. ``in_flight`` is true if a call may be on the wire.

    ``reason`` is ``superseded`` if another request for the same learner took this one's place.
    """

    in_flight: bool = False
    reason: str = "aborted"


# --- commands -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInLine:
    """Wait until fewer relaunches are in flight, then let this one begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """List the user's running and saved labs."""

    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """Describe these instances."""

    instance_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Ask how many labs of the API consumer are active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Launch the lab profile once, with these parameters (the run's tag is in them)."""

    user_id: str
    lab_profile_id: int
    parameters: LaunchParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Resume this saved instance once."""

    instance_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Displace:
    """Carry out the injected step (``"cancel"`` or ``"save"``) on this instance once."""

    instance_id: int
    step: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAccessUrl:
    """Fetch a URL to enter this instance."""

    instance_id: int


class WaitKind(StrEnum):
    """Which schedule decides how long a wait lasts."""

    TEARDOWN = "teardown"
    BACKOFF = "backoff"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Wait for look number ``attempt`` of a wait that began at ``since``.

    Not before ``not_before`` (the platform named a time), not beyond ``until``; both, like
    ``since``, in Unix epoch seconds. A hint or an abort ends the wait at once.
    """

    kind: WaitKind
    attempt: int
    since: float
    not_before: float | None
    until: float


Command = (
    StandInLine | Survey | Inspect | Count | Launch | Resume | Displace | FetchAccessUrl | Wait
)
