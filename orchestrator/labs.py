"""The values that cross the ports: what a platform is asked, and what it answers.

Plain frozen dataclasses in the platform's vocabulary (lab profile, lab instance, ...), free of any
wire format, so that an embedder's own platform can build them. Times are Unix epoch seconds.
``None`` always means "the platform did not say". Credentials have no field here on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchParameters:
    """The optional parameters of a launch, all passed on to the platform as they are.

    ``can_be_marked_complete`` is sent as 1 (true) or 2 (false). ``variables`` become
    ``variable-NAME`` parameters. ``max_active_labs`` and ``max_saved_labs`` can only lower what the
    API consumer allows. Names, email and address are personal data: never logged.
    """

    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    class_id: str | None = None
    can_be_marked_complete: bool | None = None
    tag: str | None = None
    ip_address: str | None = None
    region_id: int | None = None
    role_ids: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    max_saved_labs: int | None = None
    max_active_labs: int | None = None
    lang: str | None = None
    instructions_id: str | None = None
    duration_minutes: int | None = None
    last_activity_timeout_minutes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningInstance:
    """One entry of the platform's list of a user's running labs."""

    instance_id: int
    lab_profile_id: int | None = None
    lab_profile_name: str | None = None
    started_at: float | None = None
    expires_at: float | None = None
    is_exam: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedInstance:
    """One entry of the platform's list of a user's saved labs."""

    instance_id: int
    lab_profile_id: int | None = None
    lab_profile_name: str | None = None
    saved_at: float | None = None
    expires_at: float | None = None
    minutes_remaining: int | None = None
    save_in_progress: bool = False
    is_exam: bool = False
    submitted_for_grading: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Labs:
    """Everything the platform lists for one user."""

    running: tuple[RunningInstance, ...] = ()
    saved: tuple[SavedInstance, ...] = ()


class Phase(StrEnum):
    """What an instance's state means for its slot.

    ``ALIVE`` holds the slot and will go on doing so; ``SCORING`` likewise, and must not be touched;
    ``SAVING`` and ``ENDING`` will free it by themselves; ``GONE`` claims to have freed it;
    ``UNKNOWN`` says nothing (a state that this version has never heard of, or none at all).
    """

    ALIVE = "alive"
    SCORING = "scoring"
    SAVING = "saving"
    ENDING = "ending"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceDetails:
    """One lab instance as the platform describes it.

    ``readable`` is false when the platform answered that it will not or cannot describe this
    instance (``error`` has its word); ``foreign`` when that word was that the instance belongs to
    another API consumer. ``tag`` and ``class_id`` are ``""`` when the platform says that there is
    none. ``kind`` is what lab profiles that are torn down alike have in common, such as
    ``platform 20``.
    """

    instance_id: int
    readable: bool = True
    foreign: bool = False
    error: str | None = None
    phase: Phase = Phase.UNKNOWN
    state: str | None = None
    completion_status: str | None = None
    user_id: str | None = None
    lab_profile_id: int | None = None
    lab_profile_name: str | None = None
    kind: str | None = None
    tag: str | None = None
    is_exam: bool | None = None
    submitted_for_grading: bool = False
    started_at: float | None = None
    class_id: str | None = None
    last_activity_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterEntry:
    """One lab of the whole API consumer, as the platform lists it: whose, which, and how it stands.

    ``user_id`` or ``lab_profile_id`` may be missing. A listed lab may be tearing down already: the
    list doesn't say.
    """

    instance_id: int
    user_id: str | None = None
    lab_profile_id: int | None = None
    lab_profile_name: str | None = None
    started_at: float | None = None
    expires_at: float | None = None
    is_exam: bool = False
    saved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterPage:
    """One page of a search among the API consumer's labs, those that have ended included."""

    instances: tuple[InstanceDetails, ...]
    total_pages: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchAnswer:
    """The platform's answer to a launch or a resume, undigested.

    ``result`` is the platform's Result code (``None`` if it sent none), ``instance_id`` a positive
    id or ``None``, ``error`` its own word, ``expires_at`` epoch seconds,
    ``estimated_ready_seconds`` its guess of the start-up time.
    """

    result: int | None
    instance_id: int | None = None
    url: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    estimated_ready_seconds: float | None = None
    error: str | None = None


class Displaced(StrEnum):
    """How a cancel (or save) step was answered.

    ``ACCEPTED``: the teardown (or the saving) has begun, or had begun already. ``REFUSED``: the
    platform said no, for a reason that a look at the instance may explain. ``FOREIGN``: the
    instance belongs to another API consumer, this one can never end it.
    """

    ACCEPTED = "accepted"
    REFUSED = "refused"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplaceAnswer:
    """The answer of the injected step that makes room; ``error`` is the platform's own word."""

    displaced: Displaced
    error: str | None = None
