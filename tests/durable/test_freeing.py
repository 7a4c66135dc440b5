"""A durable relaunch that launches nothing: killed, handed over, aborted, hinted at, not joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import Policy, RelaunchInFlight, Schedules
from orchestrator.testing import InMemoryPlatform, LosesCancelAnswer, NeverTearsDown
from orchestrator.testing.virtual import run_virtual
from orchestrator.waiting import FixedSchedule
from tests.durable.test_durable_relaunch import Setting

FREE = Policy(launch=False)
LAB = 1001


def nothing_was_launched(platform: InMemoryPlatform) -> bool:
    return not {"launch", "resume", "access_url"} & {name for name, _ in platform.calls}


@pytest.mark.parametrize("kind", [InMemoryPlatform, LosesCancelAnswer])
def test_whoever_takes_it_over_wherever_it_was_goes_on(kind: Callable[..., Any]) -> None:
    """It is left at each of its steps, and each process takes but one."""

    async def main() -> None:
        here = Setting(kind, teardown_seconds=50)
        phases: list[str] = []
        while "freed" not in phases:
            async with here.relauncher() as process:
                handle = process.start("ann", LAB, policy=FREE, idempotency_key="k")
                async for progress in handle.events(after=len(phases)):
                    phases.append(progress.phase)
                    break
        async with here.relauncher() as process:
            outcome = await process.start("ann", LAB, policy=FREE, idempotency_key="k")
        assert (outcome.outcome, outcome.cancelled_instance_ids) == ("freed", (here.old,))
        assert nothing_was_launched(here.platform)
        assert here.platform.cancels() == [here.old]
        assert {"surveying", "inspecting", "displacing", "tearing_down", "looking"} <= {*phases}

    run_virtual(main())


@pytest.mark.parametrize("first", [FREE, Policy()])
def test_a_request_to_free_and_one_to_launch_never_join(first: Policy) -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        async with here.relauncher() as relauncher:
            begun = relauncher.start("ann", LAB, policy=first)
            await begun.accepted()
            again = relauncher.start("ann", LAB, policy=first)
            assert await again.accepted() == begun.relaunch_id
            second = Policy(launch=not first.launch)
            with pytest.raises(RelaunchInFlight) as caught:
                await relauncher.start("ann", LAB, policy=second)
            words = (
                f"a relaunch of lab {LAB}",
                f"the ending of lab {LAB}, with no launch after it,",
            )
            here_it_is, wanted = words if first.launch else reversed(words)
            assert str(caught.value).startswith(
                f"User ann has {here_it_is} in flight ({begun.relaunch_id}), "
                f"so {wanted} was not begun; nothing was changed."
            )
            assert (await begun).ok
        assert bool(here.platform.launches()) == first.launch

    run_virtual(main())


def test_one_that_launches_may_supersede_one_that_frees_before_it_has_done_anything() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        async with here.relauncher(most_in_flight=1) as relauncher:
            here.platform.add_running("bob", LAB)
            ahead = relauncher.start("bob", LAB)
            await ahead.accepted()
            await asyncio.sleep(1)
            frees = relauncher.start("ann", LAB, policy=FREE)
            await frees.accepted()
            launches = relauncher.start("ann", LAB, on_conflict="supersede")
            assert (await frees).reason == "superseded"
            assert (await launches).outcome == "launched"

    run_virtual(main())


def test_a_hint_to_another_process_wakes_it_and_is_checked_by_a_look() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        schedules = Schedules(teardown=FixedSchedule(500))
        async with here.relauncher(schedules=schedules) as one, here.relauncher() as other:
            relaunch = one.start("ann", LAB, policy=FREE)
            async for progress in relaunch.events():
                if progress.phase == "tearing_down":
                    break
            await asyncio.sleep(100)
            calls = len(here.platform.calls)
            assert await other.announce(here.old), "too early: nobody has torn it down"
            await asyncio.sleep(10)
            assert [name for name, _ in here.platform.calls[calls:]] == ["inspect"]
            here.platform.instances[here.old].gone_at = began = here.clock.now()
            assert await other.announce(here.old)
            assert (await relaunch).outcome == "freed"
            assert here.clock.now() < began + 10
        assert nothing_was_launched(here.platform)

    run_virtual(main())


def test_it_is_aborted_as_any_other_and_says_what_it_leaves() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        async with here.relauncher() as relauncher:
            relaunch = relauncher.start("ann", LAB, policy=FREE)
            async for progress in relaunch.events():
                if progress.phase == "tearing_down":
                    break
            relaunch.abort()
            outcome = await relaunch
        assert (outcome.outcome, outcome.reason) == ("aborted", "aborted")
        assert outcome.left.tearing_down == (here.old,)
        assert outcome.left.launch_in_doubt_tag is None

    run_virtual(main())
