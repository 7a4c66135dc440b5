"""The polite platform: each call passes the gate as what it is, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator import LaunchParameters
from orchestrator.labs import DisplaceAnswer, Displaced
from orchestrator.testing import Async, InMemoryPlatform, ManualClock
from orchestrator.traffic import Gate, Limits, PolitePlatform, before_effect, polite_step

Call = Callable[[PolitePlatform], Awaitable[Any]]

#: By the vendor's name of the call: how it is made, whether it has an effect, whether it is urgent.
CALLS: dict[str, tuple[Call, bool, bool]] = {
    "userrunningandsavedlabs": (lambda p: p.survey("ann", timeout=9), False, False),
    "details": (lambda p: p.inspect(1, timeout=9), False, False),
    "stats": (lambda p: p.count_active(timeout=9), False, False),
    "runningandsavedlabs": (lambda p: p.roster(timeout=9), False, False),
    "labinstance/search": (lambda p: p.search(class_id="c", page=2, timeout=9), False, False),
    "LabAccessUrl": (lambda p: p.access_url(1, timeout=9), False, True),
    "launch": (lambda p: p.launch("ann", 1, LaunchParameters(), timeout=9), True, True),
    "resume": (lambda p: p.resume(1, timeout=9), True, True),
    "cancel": (lambda p: p.cancel(1, note="n", timeout=9), True, True),
    "save": (lambda p: p.save(1, note="n", timeout=9), True, True),
}


class Recording:
    """Any platform: notes what reached it."""

    def __init__(self) -> None:
        self.reached: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def method(*arguments: Any, **options: Any) -> str:
            self.reached.append((name, arguments, options))
            return f"the answer to {name}"

        return method


@pytest.mark.parametrize("operation", CALLS)
def test_each_call_passes_as_what_it_is(operation: str) -> None:
    call, effect, urgent = CALLS[operation]
    passed: list[tuple[str, bool, bool]] = []

    class Watched(Gate):
        async def through(self, operation: str, send: Any, **options: Any) -> Any:
            has_effect = options.get("effect", False)
            passed.append((operation, has_effect, options.get("urgent", has_effect)))
            return await super().through(operation, send, **options)

    async def test() -> None:
        platform = Recording()
        checks: list[int] = []

        async def check() -> None:
            assert platform.reached == [], "before it is sent"
            checks.append(1)

        before_effect.set(check)
        answer = await call(PolitePlatform(platform, Watched()))
        ((name, arguments, options),) = platform.reached
        assert answer == f"the answer to {name}"
        assert passed == [(operation, effect, urgent)]
        assert len(checks) == effect
        assert options.pop("timeout") == pytest.approx(9, abs=1)
        asked_for = {"class_id": "c", "lab_profile_id": None, "since": None, "page": 2}
        assert options in ({}, {"note": "n"}, asked_for)
        assert arguments[:1] in ((), ("ann",), (1,))

    asyncio.run(test())


def test_an_injected_step_passes_the_same_gate() -> None:
    async def test() -> None:
        gate = Gate(limits=Limits(calls_per_second=0.01, burst=1))
        checked: list[str] = []

        async def archive(instance_id: int, *, note: str | None, timeout: float) -> DisplaceAnswer:
            checked.append(f"sent {instance_id} {note}")
            return DisplaceAnswer(displaced=Displaced.ACCEPTED)

        async def check() -> None:
            checked.append("checked")

        before_effect.set(check)
        step = polite_step(archive, gate, operation="archive")
        answer = await step(7, note="moves on", timeout=9)
        assert answer.displaced is Displaced.ACCEPTED
        assert checked == ["checked", "sent 7 moves on"]
        fake = InMemoryPlatform(ManualClock().now)
        with pytest.raises(Exception, match="launch was not sent, nothing was done"):
            await PolitePlatform(Async(fake), gate).launch("ann", 1, LaunchParameters(), timeout=9)
        assert fake.calls == []

    asyncio.run(test())
