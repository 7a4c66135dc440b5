"""One contract for every platform, sync and async: the fakes, and the client before the sandbox,
bare and behind the gate."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from orchestrator import Displaced, LaunchParameters, Phase, PlatformError
from orchestrator.sandbox import Consumer, Readings, Sandbox, SandboxTransport
from orchestrator.sandbox.server import SandboxServer
from orchestrator.skillable import (
    AsyncSkillableClient,
    AsyncSkillablePlatform,
    SkillableClient,
    SkillablePlatform,
)
from orchestrator.testing import Async, InMemoryPlatform, ManualClock
from orchestrator.traffic import Gate, Limits, PolitePlatform

TEARDOWN = 30.0
LAB, OTHER_LAB = 1001, 1002


class Subject:
    """A platform under the contract, with a clock that is moved by hand."""

    def __init__(self, platform: Any, clock: ManualClock, run: Callable[[Any], Any]) -> None:
        self.clock = clock
        self._platform = platform
        self._run = run

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._platform, name)

        def call(*arguments: Any, **options: Any) -> Any:
            answer = method(*arguments, timeout=5.0, **options)
            return self._run(answer) if inspect.isawaitable(answer) else answer

        return call

    def launch_for(self, user: str, lab: int = LAB, **parameters: Any) -> Any:
        return self.launch(user, lab, LaunchParameters(**parameters))


@pytest.fixture(
    params=[
        "memory", "memory async", "memory polite async", "client", "client async", "http",
        "http async",
    ]
)  # fmt: skip
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    clock = ManualClock()
    kind = request.param
    with asyncio.Runner() as runner, ExitStack() as stack:
        if kind.startswith("memory"):
            fake = InMemoryPlatform(clock.now, teardown_seconds=TEARDOWN)
            platform: Any = Async(fake) if kind.endswith("async") else fake
            if "polite" in kind:
                platform = PolitePlatform(platform, Gate(limits=Limits(calls_per_second=1000.0)))
        else:
            sandbox = Sandbox(now=clock.now, teardown=f"fixed:{TEARDOWN}")
            options: dict[str, Any] = {"transport": SandboxTransport(sandbox, clock.advance)}
            if kind.startswith("http"):
                options = {"base_url": stack.enter_context(SandboxServer(sandbox)).base_url}
            if kind.endswith("async"):
                asynchronous = AsyncSkillableClient("sandbox-key", **options)
                stack.callback(lambda: runner.run(asynchronous.aclose()))
                platform = AsyncSkillablePlatform(asynchronous)
            else:
                client = stack.enter_context(SkillableClient("sandbox-key", **options))
                platform = SkillablePlatform(client)
        yield Subject(platform, clock, runner.run)


def test_a_user_never_seen_has_nothing(subject: Subject) -> None:
    labs = subject.survey("nobody")
    assert (labs.running, labs.saved) == ((), ())


def test_a_launch_is_listed_described_and_enterable(subject: Subject) -> None:
    launched = subject.launch_for("ann", tag="mine relaunch=x")
    assert (launched.result, bool(launched.url)) == (1, True)
    (listed,) = subject.survey("ann").running
    assert (listed.instance_id, listed.lab_profile_id) == (launched.instance_id, LAB)
    details = subject.inspect(launched.instance_id)
    assert details.readable
    assert (details.user_id, details.tag) == ("ann", "mine relaunch=x")
    assert details.phase is Phase.ALIVE
    assert subject.access_url(launched.instance_id).startswith("http")
    assert subject.count_active() == 1


def test_the_user_limit_is_result_2_and_nobody_elses(subject: Subject) -> None:
    subject.launch_for("ann")
    refused = subject.launch_for("ann", OTHER_LAB)
    assert (refused.result, refused.instance_id) == (2, None)
    assert subject.launch_for("bob", OTHER_LAB).result == 1


def test_the_running_instance_is_handed_back(subject: Subject) -> None:
    first = subject.launch_for("ann")
    assert subject.launch_for("ann").instance_id == first.instance_id


def test_a_cancel_only_begins_a_teardown(subject: Subject) -> None:
    first = subject.launch_for("ann").instance_id
    assert subject.cancel(first, note="why").displaced is Displaced.ACCEPTED
    assert subject.inspect(first).phase is Phase.ENDING
    assert subject.launch_for("ann", OTHER_LAB).result == 2
    assert subject.count_active() == 1
    subject.clock.advance(TEARDOWN + 0.5)
    assert subject.survey("ann").running == ()
    assert subject.count_active() == 0
    assert subject.launch_for("ann", OTHER_LAB).result == 1


@pytest.mark.parametrize("bare", [True, False])
def test_the_roster_is_of_the_whole_consumer_and_searched_by_class(bare: bool) -> None:
    clock = ManualClock()
    sandbox = Sandbox(now=clock.now, readings=Readings(empty_lists="null"))
    other = sandbox.world.add_consumer(Consumer(api_key="other"))
    sandbox.world.give("eve", LAB, consumer=other)
    sandbox.world.give("old", LAB, class_id="c1", started_ago=9000.0)
    for n in range(120):
        sandbox.world.give(f"u{n}", LAB, class_id="c1", started_ago=600.0 - n)
    exam = sandbox.world.give("ann", 1003, last_activity_ago=60.0)
    saved = sandbox.world.give("bob", OTHER_LAB, state="Saved")

    async def test() -> None:
        transport = SandboxTransport(sandbox, clock.advance)
        async with AsyncSkillableClient("sandbox-key", transport=transport) as client:
            platform: Any = AsyncSkillablePlatform(client)
            if not bare:
                platform = PolitePlatform(platform, Gate())
            roster = await platform.roster(timeout=5.0)
            assert len(roster) == 123, "no other consumer's"
            assert {e.instance_id for e in roster if e.is_exam} == {exam.instance_id}
            assert {e.instance_id for e in roster if e.saved} == {saved.instance_id}
            since, pages = clock.now() - 700, []
            for page in (0, 1):
                found = await platform.search(class_id="c1", since=since, page=page, timeout=5.0)
                pages.append(found.instances)
            assert found.total_pages == 2
            users = [i.user_id for page in pages for i in page]
            assert users == [f"u{n}" for n in range(120)], "oldest first, without the old one"
            (told,) = (await platform.search(lab_profile_id=1003, timeout=5.0)).instances
            assert (told.instance_id, told.class_id) == (exam.instance_id, None)
            assert told.last_activity_at == pytest.approx(clock.now() - 60, abs=1)

    asyncio.run(test())


def test_what_is_gone_is_described_as_gone_or_not_at_all(subject: Subject) -> None:
    first = subject.launch_for("ann").instance_id
    subject.cancel(first, note=None)
    subject.clock.advance(TEARDOWN + 0.5)
    try:
        details = subject.inspect(first)
    except PlatformError as error:
        assert error.code == "call_refused"  # noqa: PT017 - either answer is right
    else:
        assert details.phase is Phase.GONE or not details.readable
    with pytest.raises(PlatformError, match="not running"):
        subject.access_url(first)
