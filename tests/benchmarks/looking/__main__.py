"""Is the launch itself the better look? ``python -m tests.benchmarks.looking`` measures it.

The same 150 learners, one after the other, with each way to look, against the sandbox in virtual
time with latencies: a question takes 0.2 s, a refused launch 0.5 s, an accepted one 1.5 s. The
schedule learns from one to the next. Ratios are to ``launch``. Writes ``results.md`` beside this.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import httpx

from orchestrator import Policy, Relauncher, Schedules
from orchestrator.machine.run import Detect
from orchestrator.sandbox import Readings, Sandbox, SandboxTransport
from orchestrator.skillable import SkillableClient, SkillablePlatform
from orchestrator.testing import ManualClock
from tests.benchmarks.markdown import table

HERE = Path(__file__).parent
LEARNERS = 150
QUESTION, REFUSED, ACCEPTED = 0.2, 0.5, 1.5
TEARDOWNS = ("lognormal:6,0.35", "lognormal:75,0.25", "lognormal:400,0.25")
READINGS = {
    "the state is exact": Readings(),
    "the state lags 6 s behind": Readings(details_lag=6.0),
    "the state runs 6 s ahead": Readings(details_lag=-6.0),
    "an unknown state": Readings(teardown_state="Dismantling"),
}


class WithLatency(httpx.BaseTransport):
    """The sandbox, whose answers take their time."""

    def __init__(self, sandbox: Sandbox, clock: ManualClock) -> None:
        self.inner, self.clock = SandboxTransport(sandbox, clock.advance), clock

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Half of the latency on the way there, the rest on the way back."""
        self.clock.advance(QUESTION / 2)
        answer = self.inner.handle_request(request)
        latency = QUESTION
        if request.url.path.lower().endswith("/launch"):
            latency = ACCEPTED if answer.json().get("Result") == 1 else REFUSED
        self.clock.advance(latency - QUESTION / 2)
        return answer


def measured(teardown: str, readings: Readings, detect: Detect) -> tuple[float, float, float]:
    """Mean seconds from the free slot to the lab, API calls, and refused launches."""
    clock = ManualClock()
    sandbox = Sandbox(readings=readings, now=clock.now, teardown=teardown, seed=4)
    late, calls, refused = 0.0, 0, 0
    with SkillableClient(
        "sandbox-key", transport=WithLatency(sandbox, clock), now=clock.now
    ) as client:
        relauncher = Relauncher(
            SkillablePlatform(client),
            clock=clock,
            schedules=Schedules(),
            policy=Policy(detect=detect),
        )
        for n in range(LEARNERS):
            old = sandbox.world.give(f"learner-{n}", 1001)
            outcome = relauncher.relaunch(f"learner-{n}", 1002)
            if not outcome.ok or old.ended_at is None:
                raise SystemExit(f"{teardown}, {detect}: {outcome.message}")
            late += clock.now() - old.ended_at
            calls += outcome.api_calls
            refused += outcome.attempts - 1
    return late / LEARNERS, calls / LEARNERS, refused / LEARNERS


def rows() -> Iterable[list[str]]:
    """One row for each teardown, platform and way to look."""
    for teardown in TEARDOWNS:
        for name, readings in READINGS.items():
            found = {detect: measured(teardown, readings, detect) for detect in get_args(Detect)}
            for detect, figures in found.items():
                pairs = zip(figures, found["launch"], strict=True)
                yield [teardown, name, detect, *(f"{a:.2f} ({a / b:.2f} x)" for a, b in pairs)]


if __name__ == "__main__":
    heads = ("teardown", "the platform", "look", "seconds after the slot", "calls")
    text = table([*heads, "refused launches"], rows())
    head = "# What a look should be\n\nMade by `python -m tests.benchmarks.looking`.\n\n"
    (HERE / "results.md").write_text(f"{head}{text}", encoding="utf-8")
    print(text)
