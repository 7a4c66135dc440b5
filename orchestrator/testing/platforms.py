"""In-memory platforms for tests, each named by how it fails.

:class:`InMemoryPlatform` is a small well-behaved platform with one teardown time and a limit of
active labs per user. The others are the same but for the one thing in their name.
``Async(platform)`` gives any of them to the async driver. Everything that happened is in ``calls``
and ``effects``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.errors import (
    AnswerLost,
    CallRefused,
    KeyRejected,
    PlatformUnreachable,
    RateLimited,
)
from orchestrator.labs import (
    DisplaceAnswer,
    Displaced,
    InstanceDetails,
    Labs,
    LaunchAnswer,
    LaunchParameters,
    Phase,
    RunningInstance,
)


@dataclass(slots=True, kw_only=True)
class FakeInstance:
    """One lab instance of an in-memory platform; times are Unix epoch seconds."""

    instance_id: int
    user_id: str
    lab_profile_id: int
    started_at: float
    tag: str = ""
    is_exam: bool = False
    phase: Phase = Phase.ALIVE
    gone_at: float = math.inf


class InMemoryPlatform:
    """A well-behaved platform.

    ``now`` is the clock's reading; ``teardown_seconds`` the time from a cancel to the free slot;
    ``max_active_per_user`` the limit; ``foreign`` the ids that another API consumer launched.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        teardown_seconds: float = 30.0,
        max_active_per_user: int = 1,
    ) -> None:
        self.now = now
        self.teardown_seconds = teardown_seconds
        self.max_active_per_user = max_active_per_user
        self.instances: dict[int, FakeInstance] = {}
        self.foreign: set[int] = set()
        #: (name of the call, its subject), in order.
        self.calls: list[tuple[str, object]] = []
        #: ("launched" or "cancelled", instance id), in order: what really changed something.
        self.effects: list[tuple[str, int]] = []
        self._next_id = 5000

    def add_running(
        self, user_id: str, lab_profile_id: int, *, is_exam: bool = False, tag: str = ""
    ) -> int:
        """Give the user a running lab, started an hour ago; returns its id."""
        return self._create(user_id, lab_profile_id, self.now() - 3600, tag, is_exam)

    def launches(self) -> list[int]:
        """The ids of every instance that a launch created."""
        return [i for what, i in self.effects if what == "launched"]

    def cancels(self) -> list[int]:
        """The ids of every instance that a cancel began to end."""
        return [i for what, i in self.effects if what == "cancelled"]

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        """List what is not gone; a tearing-down instance is listed until its end."""
        self.calls.append(("survey", user_id))
        return Labs(
            running=tuple(
                RunningInstance(
                    instance_id=i.instance_id,
                    lab_profile_id=i.lab_profile_id,
                    started_at=i.started_at,
                    is_exam=i.is_exam,
                )
                for i in self._holding(user_id)
            )
        )

    def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """Describe an instance; one that is gone is refused."""
        self.calls.append(("inspect", instance_id))
        instance = self.instances.get(instance_id)
        if instance is None or self._gone(instance):
            raise CallRefused("no such lab instance", operation="inspect", error="not found")
        return InstanceDetails(
            instance_id=instance_id,
            phase=instance.phase,
            state=instance.phase.value,
            user_id=instance.user_id,
            lab_profile_id=instance.lab_profile_id,
            tag=instance.tag,
            is_exam=instance.is_exam,
            started_at=instance.started_at,
        )

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Launch, hand back a running instance of the same profile, or refuse with Result 2."""
        self.calls.append(("launch", lab_profile_id))
        holding = self._holding(user_id)
        for instance in holding:
            if instance.lab_profile_id == lab_profile_id and instance.phase is Phase.ALIVE:
                return self._accepted(instance.instance_id)
        limit = min(self.max_active_per_user, parameters.max_active_labs or math.inf)
        if len(holding) >= limit:
            return LaunchAnswer(result=2)
        created = self._create(user_id, lab_profile_id, self.now(), parameters.tag or "", False)
        self.effects.append(("launched", created))
        return self._accepted(created)

    def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """Nothing is ever saved here."""
        self.calls.append(("resume", instance_id))
        return LaunchAnswer(result=120)

    def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Begin a teardown."""
        self.calls.append(("cancel", instance_id))
        instance = self.instances.get(instance_id)
        if instance_id in self.foreign:
            return DisplaceAnswer(displaced=Displaced.FOREIGN, error="Invalid integration key")
        if instance is None or instance.phase is not Phase.ALIVE:
            return DisplaceAnswer(displaced=Displaced.REFUSED, error="not running")
        instance.phase = Phase.ENDING
        instance.gone_at = self.now() + self.teardown_seconds
        self.effects.append(("cancelled", instance_id))
        return DisplaceAnswer(displaced=Displaced.ACCEPTED)

    def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Saving is not to be had here."""
        self.calls.append(("save", instance_id))
        return DisplaceAnswer(displaced=Displaced.REFUSED, error="saving is not enabled")

    def access_url(self, instance_id: int, *, timeout: float) -> str:
        """A URL to enter a running instance."""
        self.calls.append(("access_url", instance_id))
        instance = self.instances.get(instance_id)
        if instance is None or instance.phase is not Phase.ALIVE:
            raise CallRefused("not running", operation="access_url", error="not running")
        return f"https://labs.example/access/{instance_id}"

    def count_active(self, *, timeout: float) -> int:
        """Everything that is not gone."""
        self.calls.append(("count_active", None))
        return sum(not self._gone(i) for i in self.instances.values())

    def _accepted(self, instance_id: int) -> LaunchAnswer:
        url = f"https://labs.example/lab/{instance_id}"
        return LaunchAnswer(result=1, instance_id=instance_id, url=url)

    def _create(
        self, user_id: str, lab_profile_id: int, started_at: float, tag: str, is_exam: bool
    ) -> int:
        self._next_id += 1
        self.instances[self._next_id] = FakeInstance(
            instance_id=self._next_id,
            user_id=user_id,
            lab_profile_id=lab_profile_id,
            started_at=started_at,
            tag=tag,
            is_exam=is_exam,
        )
        return self._next_id

    def _gone(self, instance: FakeInstance) -> bool:
        return instance.gone_at <= self.now()

    def _holding(self, user_id: str) -> list[FakeInstance]:
        return [i for i in self.instances.values() if i.user_id == user_id and not self._gone(i)]


class NeverTearsDown(InMemoryPlatform):
    """A cancelled instance keeps its slot for ever."""

    def __init__(self, now: Callable[[], float], *, max_active_per_user: int = 1) -> None:
        super().__init__(now, teardown_seconds=math.inf, max_active_per_user=max_active_per_user)


class RefusesForGood(InMemoryPlatform):
    """Every launch is refused with the same final Result, 100 unless told otherwise."""

    result = 100

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Refuse."""
        self.calls.append(("launch", lab_profile_id))
        return LaunchAnswer(result=self.result)


class LosesLaunchAnswer(InMemoryPlatform):
    """The first launch that creates a lab does so, but its answer never arrives."""

    lost = False

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Launch, then lose the answer once."""
        before = len(self.effects)
        answer = super().launch(user_id, lab_profile_id, parameters, timeout=timeout)
        if not self.lost and len(self.effects) > before:
            self.lost = True
            raise AnswerLost("the connection broke", operation="launch")
        return answer


class LosesLaunchRequest(InMemoryPlatform):
    """The first launch breaks off and never reaches the platform."""

    lost = False

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Lose the request once."""
        if not self.lost:
            self.lost = True
            self.calls.append(("launch", lab_profile_id))
            raise AnswerLost("the connection broke", operation="launch")
        return super().launch(user_id, lab_profile_id, parameters, timeout=timeout)


class LosesCancelAnswer(InMemoryPlatform):
    """The first cancel takes effect, but its answer never arrives."""

    lost = False

    def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Cancel, then lose the answer once."""
        answer = super().cancel(instance_id, note=note, timeout=timeout)
        if not self.lost:
            self.lost = True
            raise AnswerLost("the connection broke", operation="cancel")
        return answer


class HandsBackDyingInstance(InMemoryPlatform):
    """During a teardown, a launch of the same profile "succeeds" with the dying instance."""

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Hand back the dying instance while there is one."""
        for instance in self._holding(user_id):
            if instance.lab_profile_id == lab_profile_id:
                self.calls.append(("launch", lab_profile_id))
                return self._accepted(instance.instance_id)
        return super().launch(user_id, lab_profile_id, parameters, timeout=timeout)


class AnswersWithActiveLabsPage(InMemoryPlatform):
    """Instead of Result 2 there is a success-looking answer with a URL and no instance."""

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Dress Result 2 up."""
        answer = super().launch(user_id, lab_profile_id, parameters, timeout=timeout)
        if answer.result == 2:
            return LaunchAnswer(result=1, url="https://labs.example/active-labs")
        return answer


class SlotIsTaken(InMemoryPlatform):
    """The moment the slot is free, somebody launches ``taken_by`` (a lab profile) into it, once."""

    taken_by = 99
    taken = False

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Let somebody be quicker."""
        if not self.taken and self.cancels() and not self._holding(user_id):
            self.taken = True
            self._create(user_id, self.taken_by, self.now(), "somebody else", False)
        return super().launch(user_id, lab_profile_id, parameters, timeout=timeout)


class IsUnreachable(InMemoryPlatform):
    """No call ever arrives."""

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        """Fail to connect."""
        self.calls.append(("survey", user_id))
        raise PlatformUnreachable("connection refused", operation="survey")


class RejectsKey(InMemoryPlatform):
    """The API key is not accepted."""

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        """Reject the key."""
        self.calls.append(("survey", user_id))
        raise KeyRejected("the key was rejected", operation="survey", status=401)


class RateLimits(InMemoryPlatform):
    """The first ``turned_away`` launches are turned away, with ``retry_after`` seconds to wait."""

    turned_away = 2
    retry_after: float | None = 7.0

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Turn the first ones away."""
        if self.turned_away > 0:
            self.turned_away -= 1
            self.calls.append(("launch", lab_profile_id))
            raise RateLimited("slow down", operation="launch", retry_after=self.retry_after)
        return super().launch(user_id, lab_profile_id, parameters, timeout=timeout)


class Async:
    """Any in-memory platform for the async driver."""

    def __init__(self, platform: InMemoryPlatform) -> None:
        self.platform = platform

    async def survey(self, user_id: str, *, timeout: float) -> Labs:
        """See :class:`InMemoryPlatform`, as for every method here."""
        return self.platform.survey(user_id, timeout=timeout)

    async def inspect(self, instance_id: int, *, timeout: float) -> InstanceDetails:
        """Describe an instance."""
        return self.platform.inspect(instance_id, timeout=timeout)

    async def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Launch once."""
        return self.platform.launch(user_id, lab_profile_id, parameters, timeout=timeout)

    async def resume(self, instance_id: int, *, timeout: float) -> LaunchAnswer:
        """Resume once."""
        return self.platform.resume(instance_id, timeout=timeout)

    async def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Cancel once."""
        return self.platform.cancel(instance_id, note=note, timeout=timeout)

    async def save(self, instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
        """Save once."""
        return self.platform.save(instance_id, note=note, timeout=timeout)

    async def access_url(self, instance_id: int, *, timeout: float) -> str:
        """A URL to enter a running instance."""
        return self.platform.access_url(instance_id, timeout=timeout)

    async def count_active(self, *, timeout: float) -> int:
        """How many labs are active."""
        return self.platform.count_active(timeout=timeout)
