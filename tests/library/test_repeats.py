"""One more try of a relaunch whose launch got no answer: a lab that came of it is entered."""

from __future__ import annotations

import pytest

from orchestrator import AsyncRelauncher, LaunchParameters
from orchestrator.errors import InvalidRequest
from orchestrator.testing import Async, InMemoryPlatform
from orchestrator.testing.virtual import VirtualClock, run_virtual
from tests.world import NEW_LAB, OLD_LAB, USER

FIRST = "first"


@pytest.mark.parametrize(
    ("tag", "entered"),
    [
        (f"relaunch={FIRST}", True),
        (f"monday relaunch={FIRST}", True),
        ("relaunch=another", False),
        (f"relaunch={FIRST}2", False),
        ("", False),
    ],
)
def test_a_lab_of_an_earlier_try_is_entered_and_any_other_replaced(tag: str, entered: bool) -> None:
    async def test() -> None:
        clock = VirtualClock()
        platform = InMemoryPlatform(clock.now)
        there = platform.add_running(USER, NEW_LAB, tag=tag)
        relauncher = AsyncRelauncher(Async(platform), clock=clock)
        outcome = await relauncher.relaunch(USER, NEW_LAB, relaunch_id="second", repeats=(FIRST,))
        assert outcome.outcome == "launched"
        assert outcome.url
        assert (outcome.lab_instance_id == there) is entered
        assert platform.cancels() == ([] if entered else [there])

    run_virtual(test())


def test_with_another_lab_running_the_try_is_an_ordinary_relaunch() -> None:
    async def test() -> None:
        clock = VirtualClock()
        platform = InMemoryPlatform(clock.now)
        old = platform.add_running(USER, OLD_LAB)
        relauncher = AsyncRelauncher(Async(platform), clock=clock)
        outcome = await relauncher.relaunch(USER, NEW_LAB, repeats=(FIRST,))
        plain = AsyncRelauncher(Async(again := InMemoryPlatform(clock.now)), clock=clock)
        again.add_running(USER, OLD_LAB)
        assert outcome.cancelled_instance_ids == (old,)
        assert outcome.api_calls == (await plain.relaunch(USER, NEW_LAB)).api_calls

    run_virtual(test())


def test_what_is_no_relaunch_id_is_refused() -> None:
    relauncher = AsyncRelauncher(Async(InMemoryPlatform(VirtualClock().now)))

    async def start() -> None:
        relauncher.start(USER, NEW_LAB, parameters=LaunchParameters(), repeats=("a b",))

    with pytest.raises(InvalidRequest, match="repeats"):
        run_virtual(start())
