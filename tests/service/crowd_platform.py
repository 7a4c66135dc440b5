"""A sandbox in a process of its own, in which each of many learners has a lab.

``python -m tests.service.crowd_platform LEARNERS TEARDOWN``. It says its base URL, is told on
standard input where webhooks go (the part of a URL before the instance's id, and the secret), and
lives until its standard input ends. Only learners with an even number are told of by webhooks.
"""

from __future__ import annotations

import queue
import sys
import threading

import httpx

from orchestrator.sandbox import Instance, Sandbox
from orchestrator.sandbox.server import SandboxServer

#: What every learner has, and what each asks for.
OLD, NEW = 1001, 1002
#: Tries of one webhook, and the seconds between them.
TRIES, PAUSE = 5, 1.0


def learner(number: int) -> str:
    """The user id of a learner."""
    return f"learner-{number}"


def is_told_of(user_id: str) -> bool:
    """Whether the end of the learner's teardown comes by a webhook."""
    return int(user_id.rpartition("-")[2]) % 2 == 0


def main(learners: int, teardown: str) -> None:
    """See the module's docstring."""
    sandbox = Sandbox(teardown=teardown, max_active_per_user=1)
    for number in range(learners):
        sandbox.world.give(learner(number), OLD)
    torn_down: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_event(event: str, instance: Instance) -> None:
        if event == "Torn Down" and is_told_of(instance.user_id):
            torn_down.put(instance.instance_id)

    sandbox.world.on_event.append(on_event)
    with SandboxServer(sandbox) as server:
        print(server.base_url, flush=True)
        where, _, secret = sys.stdin.readline().strip().partition(" ")
        threading.Thread(target=_tell, args=(where, secret, torn_down), daemon=True).start()
        sys.stdin.read()


def _tell(where: str, secret: str, torn_down: queue.SimpleQueue[int]) -> None:
    closing = threading.Event()
    # A client for all: the sandbox's own sender takes a new one for each, which is dear.
    with httpx.Client(headers={"Authorization": secret}, trust_env=False) as client:
        while True:
            url = f"{where}{torn_down.get()}"
            for _ in range(TRIES):
                try:
                    if client.post(url, timeout=10).is_success:
                        break
                except httpx.HTTPError:
                    pass
                closing.wait(PAUSE)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
