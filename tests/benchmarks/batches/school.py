"""A class before the sandbox: what each learner has and is to have, and what came of it.

Most have a lab that runs and are to have another one. One in fifty is in an exam, which nobody may
end; one in fifty is to have a lab whose launches are used up, so that ending the old one is for
nothing. The platform serves so many calls in any second, lets a user have one lab, and loses the
answer of one launch in two hundred. What came of it is read off the platform's own ledger.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.sandbox import Sandbox
from orchestrator.sandbox.faults import Fault, FaultPlan
from orchestrator.sandbox.world import Profile

KEY = "sandbox-key"
OLD, NEW, EXAM, USED_UP = 1001, 1002, 1003, 1100
#: One in so many is in an exam; is to have a lab that is used up; has a launch's answer lost.
EXAMS, HOPELESS, LOST = 50, 50, 200
#: Seconds after the first 429 in which the others that it comes with arrive.
VOLLEY = 2.0


@dataclass(frozen=True, slots=True)
class Learner:
    """Who, the lab profile of the lab that runs, and the one that is wanted."""

    user_id: str
    has: int
    wants: int


def learners(number: int) -> list[Learner]:
    """The class."""
    return list(_learners(number))


def _learners(number: int) -> Iterator[Learner]:
    for n in range(number):
        has = EXAM if n % EXAMS == 7 else OLD
        yield Learner(f"learner-{n}", has, USED_UP if n % HOPELESS == 23 else NEW)


class Loses(FaultPlan):
    """Loses the answer of a launch now and then, after it was carried out."""

    def __init__(self) -> None:
        super().__init__()
        self._dice = random.Random(6)

    def next(self, operation: str) -> Fault | None:
        """The fault of this call, if any."""
        if operation == "launch" and self._dice.random() < 1 / LOST:
            return Fault(operation="launch", name="lose_after")
        return super().next(operation)


def platform(
    number: int, *, rate: int, teardown: str, now: Callable[[], float] = time.time
) -> Sandbox:
    """The platform, with the class on it."""
    sandbox = Sandbox(teardown=teardown, max_calls_per_second=rate, api_key=KEY, now=now)
    sandbox.faults = Loses()
    sandbox.world.add_profile(Profile(profile_id=USED_UP, name="Used up", refuse_with=100))
    for learner in learners(number):
        sandbox.world.give(learner.user_id, learner.has)
    return sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What came of a class.

    ``launched`` have a new lab, ``without`` should have one and have not. ``for_nothing`` lost
    their lab to a hopeless launch, ``exams`` their exam; ``doubled`` were given more than one lab.
    ``turned_away`` calls met a 429, ``later`` of them after the first volley. ``used`` is the share
    of the calls that the platform would have served that it did serve, from the first call until
    the last learner was begun.
    """

    learners: int
    launched: int
    without: int
    for_nothing: int
    exams: int
    doubled: int
    calls: int
    turned_away: int
    later: int
    used: float
    seconds: float


def account(
    number: int,
    *,
    rate: int,
    effects: Iterable[Mapping[str, Any]],
    requests: Iterable[Mapping[str, Any]],
) -> Account:
    """Read the ledger, in its plain form."""
    launched: Counter[str] = Counter()
    cancelled: defaultdict[str, set[int]] = defaultdict(set)
    for effect in effects:
        if effect["what"] == "launched":
            launched[effect["user_id"]] += 1
        elif effect["what"] == "cancelled":
            cancelled[effect["user_id"]].add(effect["lab_profile_id"])
    served: list[float] = []
    turned_away: list[float] = []
    begun: dict[str, float] = {}
    for request in requests:
        at, user_id = request["at"], request["user_id"]
        (turned_away if request["status"] == 429 else served).append(at)
        if user_id is not None and request["status"] != 429:
            begun.setdefault(user_id, at)
    first, last_begun = min(served), max(begun.values())
    until_then = sum(first < at <= last_begun for at in served)
    everybody = learners(number)
    due = [x.user_id for x in everybody if x.wants == NEW and x.has == OLD]
    return Account(
        learners=number,
        launched=sum(launched[user_id] > 0 for user_id in due),
        without=sum(launched[user_id] == 0 for user_id in due),
        for_nothing=sum(x.wants == USED_UP and OLD in cancelled[x.user_id] for x in everybody),
        exams=sum(EXAM in cancelled[x.user_id] for x in everybody),
        doubled=sum(count > 1 for count in launched.values()),
        calls=len(served) + len(turned_away),
        turned_away=len(turned_away),
        later=sum(at > turned_away[0] + VOLLEY for at in turned_away),
        used=until_then / (rate * max(1.0, last_begun - first)),
        seconds=max(served) - first,
    )
