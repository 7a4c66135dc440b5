"""The emulated world: lab profiles, users, instances and their life cycle. Pure but for its state.

Time comes from the injected ``now``; instances change by the times written on them, and
:meth:`World.settle` brings everything up to now, in the order of time, noting each change in the
ledger at its own moment. Nothing in here knows HTTP, JSON or faults.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.sandbox.ledger import Effect, Ledger
from orchestrator.sandbox.teardown import Fixed, Teardown

#: States in which an instance holds no slot.
_SLOTLESS = ("Off", "Saved")
#: States that end in the given one, by themselves.
_LEADS_TO = {
    "Building": "Running",
    "Resuming": "Running",
    "Tearing Down": "Off",
    "Saving": "Saved",
}
_EFFECT_OF = {"Off": "torn_down", "Saved": "saved", "Running": "ready"}


@dataclass(slots=True, kw_only=True)
class Profile:
    """A lab profile. ``refuse_with`` forces a Result on ``refusals`` launches (``None``: all)."""

    profile_id: int
    name: str
    number: str = ""
    series_id: int = 1
    is_exam: bool = False
    teardown: Teardown = field(default_factory=lambda: Fixed(20.0))
    startup_seconds: float = 0.0
    saving_seconds: float = 5.0
    minutes: int = 60
    launches_per_user: int | None = None
    max_active: int | None = None
    refuse_with: int | None = None
    refusals: int | None = None


@dataclass(slots=True, kw_only=True)
class Consumer:
    """An API consumer and the limits that its key carries.

    ``max_calls_per_second`` is how many calls are served in any second; more are turned away.
    """

    api_key: str
    name: str = "sandbox"
    max_active: int | None = None
    max_active_per_user: int = 1
    max_saved_per_user: int = 5
    max_calls_per_second: int | None = None


@dataclass(slots=True, kw_only=True)
class Instance:
    """A lab instance; ``changes_at`` is when its state leads on by itself."""

    instance_id: int
    user_id: str
    profile: Profile
    consumer: Consumer
    started_at: float
    expires_at: float
    state: str = "Running"
    changes_at: float = math.inf
    teardown_seconds: float = 20.0
    tag: str | None = None
    class_id: str | None = None
    last_activity_at: float | None = None
    completion_status: str = "Incomplete"
    ended_at: float | None = None
    last_save_at: float | None = None
    previous: tuple[float, str] | None = None
    first_name: str = "anon-1000001"
    last_name: str = "anon-1000001"

    @property
    def holds_slot(self) -> bool:
        """Whether it counts against the active limits; tearing down does (documented)."""
        return self.state not in _SLOTLESS

    @property
    def is_active(self) -> bool:
        """Whether the learner could still be working in it."""
        return self.holds_slot and self.state not in ("Tearing Down", "Saving")


class World:
    """Everything there is. Not thread-safe; the server takes one call at a time."""

    def __init__(self, now: Callable[[], float], seed: int = 0) -> None:
        self.now = now
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self.profiles: dict[int, Profile] = {}
        self.consumers: dict[str, Consumer] = {}
        self.instances: dict[int, Instance] = {}
        #: Called with a user id whenever one of the user's slots becomes free.
        self.on_slot_free: list[Callable[[str], object]] = []
        #: Called with the name of a life-cycle event and its instance; for the webhooks.
        self.on_event: list[Callable[[str, Instance], object]] = []
        #: Those whose state leads on by itself; and each user's, in the order of coming.
        self._moving: dict[int, Instance] = {}
        self._of_user: dict[str, list[Instance]] = {}
        self._next_id = 40_000_001
        self._later: list[tuple[float, Callable[[], object]]] = []

    def add_profile(self, profile: Profile) -> Profile:
        """Make a lab profile known."""
        self.profiles[profile.profile_id] = profile
        return profile

    def add_consumer(self, consumer: Consumer) -> Consumer:
        """Make an API consumer known."""
        self.consumers[consumer.api_key] = consumer
        return consumer

    def give(
        self,
        user_id: str,
        profile_id: int,
        *,
        consumer: Consumer | None = None,
        started_ago: float = 600.0,
        state: str = "Running",
        tag: str | None = None,
        class_id: str | None = None,
        last_activity_ago: float | None = None,
    ) -> Instance:
        """Give a user an instance that was launched by other means."""
        consumer = consumer or next(iter(self.consumers.values()))
        at = self.now() - started_ago
        instance = self.create(user_id, self.profiles[profile_id], consumer, at, tag, "given")
        self._set(instance, state, math.inf)
        instance.class_id = class_id
        if last_activity_ago is not None:
            instance.last_activity_at = self.now() - last_activity_ago
        return instance

    def create(
        self,
        user_id: str,
        profile: Profile,
        consumer: Consumer,
        at: float,
        tag: str | None,
        what: str = "launched",
    ) -> Instance:
        """Bring a new instance into being at the time ``at``."""
        instance = Instance(
            instance_id=self._next_id,
            user_id=user_id,
            profile=profile,
            consumer=consumer,
            started_at=at,
            expires_at=at + profile.minutes * 60,
            teardown_seconds=profile.teardown.draw(self.rng),
            tag=tag,
        )
        self._next_id += 1
        if profile.startup_seconds > 0:
            self._set(instance, "Building", at + profile.startup_seconds)
        self.instances[instance.instance_id] = instance
        self._of_user.setdefault(user_id, []).append(instance)
        self._note(instance, what, at)
        return instance

    def tear_down(self, instance: Instance, what: str = "cancelled") -> None:
        """Begin a teardown now."""
        now = self.now()
        instance.completion_status = "Cancelled" if what == "cancelled" else "Complete"
        self._enter(instance, "Tearing Down", now, now + instance.teardown_seconds)
        self._note(instance, what, now)
        self._tell("Tearing Down", instance)
        self.settle()

    def save(self, instance: Instance) -> None:
        """Begin to save now."""
        now = self.now()
        self._enter(instance, "Saving", now, now + instance.profile.saving_seconds)
        instance.last_save_at = now
        self._note(instance, "saving", now)
        self._tell("Saving", instance)

    def resume(self, instance: Instance) -> None:
        """Begin to resume a saved instance now."""
        now = self.now()
        self._enter(instance, "Resuming", now, now + instance.profile.startup_seconds)
        self._note(instance, "resumed", now)
        self._tell("Resuming", instance)
        self.settle()

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Let something happen in ``seconds``."""
        self._later.append((self.now() + seconds, action))

    def settle(self) -> None:
        """Bring the world up to now: whatever fell due happens, in the order of time."""
        now = self.now()
        while True:
            due = min(self._moving.values(), key=lambda i: i.changes_at, default=None)
            act = min(self._later, key=lambda a: a[0], default=None)
            if due is not None and due.changes_at <= min(now, act[0] if act else now):
                self._lead_on(due, due.changes_at)
            elif act is not None and act[0] <= now:
                self._later.remove(act)
                act[1]()
            else:
                return

    def of_user(self, user_id: str) -> list[Instance]:
        """Every instance of a user, gone ones included."""
        return list(self._of_user.get(user_id, ()))

    def _lead_on(self, instance: Instance, when: float) -> None:
        state = _LEADS_TO[instance.state]
        self._enter(instance, state, when, math.inf)
        self._note(instance, _EFFECT_OF[state], when)
        if state == "Off":
            instance.ended_at = when
            self._tell("Torn Down", instance)
        elif state == "Saved":
            self._tell("Saved", instance)
        if not instance.holds_slot:
            for hook in self.on_slot_free:
                hook(instance.user_id)

    def _enter(self, instance: Instance, state: str, at: float, until: float) -> None:
        instance.previous = (at, instance.state)
        self._set(instance, state, until)

    def _set(self, instance: Instance, state: str, until: float) -> None:
        instance.state, instance.changes_at = state, until
        if state in _LEADS_TO:
            self._moving[instance.instance_id] = instance
        else:
            self._moving.pop(instance.instance_id, None)

    def _note(self, instance: Instance, what: str, at: float) -> None:
        self.ledger.effects.append(
            Effect(
                at=at,
                what=what,
                instance_id=instance.instance_id,
                user_id=instance.user_id,
                lab_profile_id=instance.profile.profile_id,
                tag=instance.tag,
            )
        )

    def _tell(self, event: str, instance: Instance) -> None:
        for hook in self.on_event:
            hook(event, instance)
