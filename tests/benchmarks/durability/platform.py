"""The platform of the benchmark: in this process, the same for every engine, and nearly free.

It is the well-behaved one of :mod:`orchestrator.testing`, which looks through all its instances for
a learner's; with thousands of learners that would be most of what is measured, so here there is an
index. It remembers no calls, and tells when it sees a launch.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from orchestrator.errors import CallRefused
from orchestrator.labs import LaunchAnswer, LaunchParameters
from orchestrator.testing import FakeInstance, InMemoryPlatform

#: The lab profile that runs, and the one that is wanted.
OLD, NEW = 1001, 1002


class _Forgetful(list[Any]):
    def append(self, item: Any) -> None:
        """Forget it: what waits is to be weighed, not what was called."""


class Platform(InMemoryPlatform):
    """See the module's docstring. A launch that is accepted is told to ``launched`` by its user."""

    def __init__(self, *, teardown_seconds: float) -> None:
        self._by_user: defaultdict[str, list[FakeInstance]] = defaultdict(list)
        super().__init__(time.time, teardown_seconds=teardown_seconds)
        self.calls = _Forgetful()
        self.effects = _Forgetful()
        self.launched: Callable[[str], object] = lambda user_id: None
        #: How many teardowns were begun, which is told at each.
        self.cancelled = 0
        self.cancels_begun: Callable[[int], object] = lambda number: None

    def give(self, user_id: str) -> int:
        """Give the user the lab that is to be replaced; its id."""
        return self.add_running(user_id, OLD)

    def tear_down(self, instance_id: int) -> None:
        """End a teardown now."""
        self.instances[instance_id].gone_at = self.now()

    def launch(
        self, user_id: str, lab_profile_id: int, parameters: LaunchParameters, *, timeout: float
    ) -> LaunchAnswer:
        """Launch, and tell that one was asked for that was no mere probe."""
        answer = super().launch(user_id, lab_profile_id, parameters, timeout=timeout)
        if answer.result == 1:
            self.launched(user_id)
        return answer

    def cancel(self, instance_id: int, *, note: str | None, timeout: float) -> Any:
        """Begin a teardown."""
        self.cancelled += 1
        self.cancels_begun(self.cancelled)
        return super().cancel(instance_id, note=note, timeout=timeout)

    # What a flow that is written straight, without our state machine, calls: the same calls.

    def listed(self, user_id: str) -> list[int]:
        """The ids of the user's labs."""
        return [i.instance_id for i in self.survey(user_id, timeout=30).running]

    def tried(self, user_id: str) -> int | None:
        """Try a launch: the new lab's id, or ``None`` if the slot is not free."""
        return self.launch(user_id, NEW, LaunchParameters(tag=user_id), timeout=30).instance_id

    def phase(self, instance_id: int) -> str:
        """The phase of an instance, or that it is gone."""
        try:
            return self.inspect(instance_id, timeout=30).phase.value
        except CallRefused:
            return "gone"

    def displaced(self, instance_id: int) -> str:
        """Cancel an instance; what came of it."""
        return str(self.cancel(instance_id, note=None, timeout=30).displaced.value)

    def _create(
        self, user_id: str, lab_profile_id: int, started_at: float, tag: str, is_exam: bool
    ) -> int:
        created = super()._create(user_id, lab_profile_id, started_at, tag, is_exam)
        self._by_user[user_id].append(self.instances[created])
        return created

    def _holding(self, user_id: str) -> list[FakeInstance]:
        return [i for i in self._by_user[user_id] if not self._gone(i)]
