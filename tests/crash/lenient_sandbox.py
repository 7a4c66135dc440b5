"""A platform in a process of its own: ``python -m tests.crash.lenient_sandbox LEARNERS SEED``.

It is lenient on purpose: a learner's limit does not count labs of the new profile, so that a
launch made twice has its effect twice, and its ledger tells. It says its base URL, and serves until
killed. Teardowns take 1 to 4 s; some answers get lost, some are errors, after the effect.
"""

from __future__ import annotations

import random
import sys
from unittest.mock import patch

from orchestrator.sandbox import Instance, Readings, Sandbox
from orchestrator.sandbox.operations import Desk
from orchestrator.sandbox.server import SandboxServer

OLD_LAB, NEW_LAB, EXAM = 1001, 1002, 1003
#: One learner in so many is in an exam.
EXAM_EVERY = 100
#: One call in so many meets a fault, of those that may.
FAULT_EVERY = 40


def learner(number: int) -> str:
    """A learner's id."""
    return f"learner-{number}"


def in_exam(number: int) -> bool:
    """Whether that learner is in an exam, which must never be cancelled."""
    return number % EXAM_EVERY == EXAM_EVERY - 1


def faults(learners: int, seed: int) -> str:
    """Faults all over the time that the relaunches take."""
    dice = random.Random(seed)
    return ",".join(
        f"{fault}+{dice.randrange(learners)}"
        for fault in ("launch:lose_after", "cancel:lose_after", "*:http_502")
        for _ in range(max(1, learners // FAULT_EVERY))
    )


def create(learners: int, seed: int) -> Sandbox:
    """The platform, with a running lab for everybody."""
    sandbox = Sandbox(
        readings=Readings(same_profile_running="second_instance"),
        teardown="lognormal:2,0.35",
        faults=faults(learners, seed),
        seed=seed,
    )
    for number in range(learners):
        sandbox.world.give(learner(number), EXAM if in_exam(number) else OLD_LAB)
    return sandbox


def _holding(desk: Desk, user_id: str) -> list[Instance]:
    return [
        i for i in desk.world.of_user(user_id) if i.holds_slot and i.profile.profile_id != NEW_LAB
    ]


def main(learners: int, seed: int) -> None:
    """Serve until killed."""
    with patch.object(Desk, "holding", _holding):
        server = SandboxServer(create(learners, seed))
        print(server.base_url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
