"""A learner confirms which lab is ended: no other one is, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.testing import SlotIsTaken
from orchestrator.testing.virtual import run_virtual
from tests.service.world import NEW, OLD, Within, bearer, learner


async def _relaunched(service: Within, headers: dict[str, str], **asked: Any) -> dict[str, Any]:
    async with service.client() as client:
        body = {"lab_profile_id": NEW} | asked
        made = await client.post("/relaunches", json=body, headers=headers)
        assert made.status_code == 202, made.text
        await asyncio.sleep(1000)
        ended = (await client.get(made.headers["location"], headers=headers)).json()
    assert isinstance(ended, dict)
    return ended


def test_a_lab_that_took_the_slot_meanwhile_stays() -> None:
    async def main() -> None:
        service = Within(platform=SlotIsTaken)
        old = service.platform.add_running("ada", OLD)
        ended = await _relaunched(service, learner(), displace_instance_id=old)
        assert (ended["outcome"], ended["reason"]) == ("failed", "slot_taken")
        assert service.platform.cancels() == [old], "the other one nobody confirmed"

    run_virtual(main())


def test_a_key_may_leave_to_end_that_one_too() -> None:
    async def main() -> None:
        service = Within(platform=SlotIsTaken)
        old = service.platform.add_running("ada", OLD)
        asked = {"displace_instance_id": old, "policy": {"max_recancels": 1}}
        ended = await _relaunched(service, bearer(), user_id="ada", **asked)
        assert ended["outcome"] == "launched"
        assert len(service.platform.cancels()) == 2

    run_virtual(main())
