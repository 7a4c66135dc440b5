"""The run: everything that is known about one relaunch, as one plain value.

A run never changes; the machine makes the next one. It serialises to JSON and back without loss, so
a driver can stop after any step and another process can go on: the stored form *is* the durable
state. The few methods here only read; they name what the decisions ask again and again.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, Self

from orchestrator.errors import InvalidRequest
from orchestrator.labs import LaunchParameters, RunningInstance, SavedInstance
from orchestrator.machine.vocabulary import State, WaitKind
from orchestrator.plain import from_plain, to_plain, wrong_types

#: Newest version of the stored form; see :mod:`orchestrator.plain` for what may change within one.
#: A run is stored in the oldest that says what matters (:attr:`Run.schema`), so that a program of
#: the version before goes on with all but those that it would do wrong.
SCHEMA = 2

IfRunning = Literal["replace", "reuse", "refuse"]
Choose = Literal["oldest", "ask", "named"]
DisplaceBy = Literal["cancel", "save"]
OnSaved = Literal["refuse", "resume", "delete"]
OnActiveLabsPage = Literal["continue", "choose"]
Detect = Literal["details", "listing", "launch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a relaunch may do. The defaults harm least.

    ``probe``: try the launch before anything is displaced, so that a hopeless one harms nothing.
    ``if_running``: what to do when the wanted lab profile is already running.
    ``choose``: which lab makes room when there are several: the same profile first, then the
    ``oldest``; or ``ask``: refuse and name them (answer with ``displace_instance_id``); or only
    the one ``named`` so, and none if none is.
    ``displace``: ``cancel`` the lab that makes room, or ``save`` it.
    ``overlap``: ask for one lab more than now, and displace the old one after the new one is there.
    ``allow_exam``: leave to displace exams, labs being scored or submitted for grading.
    ``on_saved``: what to do when the platform refuses because a saved instance exists.
    ``on_active_labs_page``: ``choose`` ends with the platform's own page for the learner.
    ``detect``: what a look during the teardown is: ``details``, the ``listing`` or a ``launch``.
    ``max_recancels``: how often somebody else's lab in the freed slot may be displaced again.
    ``deadline_seconds``: the run ends by then, whatever happens.
    ``launch``: false only frees the learner's slot: the named lab instance, or else every running
    one of the lab profile, is ended, and the run ends when the looks (``detect``, where ``launch``
    means ``details``) and then the list have none of them. What is about the new lab counts for
    nothing then: ``probe``, ``if_running``, ``overlap``, ``on_saved``, ``on_active_labs_page``,
    ``max_recancels``; nor does ``ask``.
    """

    probe: bool = True
    if_running: IfRunning = "replace"
    choose: Choose = "oldest"
    displace: DisplaceBy = "cancel"
    displace_instance_id: int | None = None
    overlap: bool = False
    allow_exam: bool = False
    on_saved: OnSaved = "refuse"
    on_active_labs_page: OnActiveLabsPage = "continue"
    detect: Detect = "details"
    max_recancels: int = 2
    deadline_seconds: float = 900.0
    launch: bool = True

    def __post_init__(self) -> None:
        """Refuse values that mean nothing, naming the field."""
        for name, problem in wrong_types(self):
            raise InvalidRequest(name, problem)
        if not 0 < self.deadline_seconds < float("inf"):
            raise InvalidRequest("deadline_seconds", "must be a number of seconds above 0.")
        if self.max_recancels < 0:
            raise InvalidRequest("max_recancels", "must be 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One relaunch. See the module's docstring; times are Unix epoch seconds."""

    # What was asked for.
    relaunch_id: str
    user_id: str
    lab_profile_id: int
    parameters: LaunchParameters = field(default_factory=LaunchParameters)
    note: str | None = None
    policy: Policy = field(default_factory=Policy)
    created_at: float
    deadline_at: float
    #: Earlier relaunches that this is one more try of: what they launched after all is no old lab.
    repeats: tuple[str, ...] = ()

    # Where it stands.
    state: State = State.NEW
    reason: str | None = None
    error: str | None = None
    result: int | None = None
    resume_state: State | None = None

    # What the platform listed, and every instance id that can't be a new lab any more.
    running: tuple[RunningInstance, ...] = ()
    saved: tuple[SavedInstance, ...] = ()
    known: tuple[int, ...] = ()
    listing_trusted: bool = True
    listing_refusals: int = 0

    # The instance that makes room, and those that already have.
    target: int | None = None
    target_profile_id: int | None = None
    target_kind: str | None = None
    target_step: DisplaceBy = "cancel"
    target_gone: bool = False
    named: tuple[int, ...] = ()
    takers: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()
    saved_by_us: tuple[int, ...] = ()
    displace_attempts: int = 0
    displace_in_doubt: bool = False
    displacements: int = 0
    unreadable: int = 0

    # Waiting.
    wait_kind: WaitKind = WaitKind.TEARDOWN
    wait_since: float = 0.0
    wait_attempt: int = 0
    not_before: float | None = None
    looks: int = 0
    teardown_since: float | None = None
    last_busy_at: float | None = None
    failures: int = 0
    backoffs: int = 0
    held_back: int = 0
    blocked_by: str | None = None
    ahead: int | None = None
    answers: int = 0
    settle_looks: int = 0

    # The launch.
    launches: int = 0
    launch_errors: int = 0
    launch_losses: int = 0
    launch_in_doubt: bool = False
    last_look: bool = False
    resume_instance_id: int | None = None
    page_url: str | None = field(default=None, repr=False)

    # The lab that the run ends with.
    new_instance_id: int | None = None
    new_url: str | None = field(default=None, repr=False)
    new_expires_at: float | None = None
    ready_in_seconds: float | None = None
    new_is_ours: bool = False
    adoptable: tuple[int, ...] = ()
    reusing: bool = False
    releasing: bool = False
    access_attempts: int = 0
    verify_tries: int = 0

    def to_json(self) -> str:
        """The stored form; what the run has not come to yet is left out, and read as such."""
        held = {
            name: to_plain(value)
            for name, initial in _initial()
            if (value := getattr(self, name)) is not initial and value != initial
        }
        given = held["parameters"].items()
        held["parameters"] = {name: value for name, value in given if value not in (None, [], {})}
        return json.dumps({"schema": self.schema, **held}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the stored form; ``ValueError`` names what doesn't fit."""
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("schema") not in range(1, SCHEMA + 1):
            raise ValueError(f"schema: not a run of stored version {SCHEMA} or older")
        return from_plain(cls, data)

    @property
    def schema(self) -> int:
        """The version of the stored form: 2 tells that nothing is to be launched."""
        return 1 if self.policy.launch else 2

    @property
    def tag(self) -> str:
        """The tag of every launch of this run; the caller's own tag is kept beside ours."""
        ours = f"relaunch={self.relaunch_id}"
        return f"{self.parameters.tag} {ours}" if self.parameters.tag else ours

    def is_ours(self, tag: str | None) -> bool:
        """Whether an instance's tag says that this run launched it."""
        return _names(tag, self.relaunch_id)

    def is_of_an_earlier_try(self, tag: str | None) -> bool:
        """Whether an instance's tag says that one of those launched it that this run repeats."""
        return any(_names(tag, relaunch_id) for relaunch_id in self.repeats)

    @property
    def same_profile(self) -> tuple[RunningInstance, ...]:
        """The listed running instances of the wanted lab profile."""
        return tuple(i for i in self.running if i.lab_profile_id == self.lab_profile_id)

    @property
    def saved_same_profile(self) -> tuple[SavedInstance, ...]:
        """The listed saved instances of the wanted lab profile."""
        return tuple(i for i in self.saved if i.lab_profile_id == self.lab_profile_id)

    @property
    def displaced(self) -> tuple[int, ...]:
        """Every instance that this run has cancelled or saved."""
        return self.cancelled + self.saved_by_us

    @property
    def has_acted(self) -> bool:
        """Whether this run has changed something, or may have: from then on it doesn't give up."""
        return bool(self.displaced) or self.displace_in_doubt or self.launch_in_doubt

    @property
    def holds_the_slot(self) -> str:
        """Stable reason code of what keeps the user's limit full."""
        if self.target is None:
            return "slot_not_free"
        if self.displacements == 0 and self.unreadable:
            return "instance_not_described"
        return "teardown_not_finished"

    @property
    def effect_pending(self) -> bool:
        """Whether the run is at a call that changes something: it may be on the wire right now."""
        return self.state in (State.PROBING, State.LAUNCHING, State.DISPLACING)

    def wanted_parameters(self) -> LaunchParameters:
        """The launch parameters with this run's tag and, for an overlap, room for one lab more."""
        room = self.parameters.max_active_labs
        if self.policy.overlap and self.state is State.PROBING:
            room = max(len(self.running), room or 0) + 1
        return replace(self.parameters, tag=self.tag, max_active_labs=room)


def _names(tag: str | None, relaunch_id: str) -> bool:
    return tag is not None and f"relaunch={relaunch_id}" in tag.split()


@cache
def _initial() -> tuple[tuple[str, Any], ...]:
    """Each field's name and its value in a run that has come to nothing yet.

    Those without a default, and the policy (whose defaults may change), have none: always stored.
    """
    return tuple((f.name, MISSING if f.name == "policy" else f.default) for f in fields(Run))
