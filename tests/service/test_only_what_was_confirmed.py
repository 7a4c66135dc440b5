"""A learner confirms which lab is ended: no other one is, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.service.access.callers import Scope
from orchestrator.service.access.limits import LEARNER_PLATFORM_CALLS
from orchestrator.testing import SlotIsTaken
from orchestrator.testing.virtual import run_virtual
from tests.service.world import KEYS, NEW, OLD, Within, bearer, learner

#: What the button says: end the lab that was confirmed, and none if none was.
NAMED = {"policy": {"choose": "named"}}


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


def test_who_has_confirmed_nothing_ends_nothing() -> None:
    async def main() -> None:
        service = Within()
        running = service.platform.add_running("ada", OLD)
        ended = await _relaunched(service, learner(), **NAMED)
        assert (ended["outcome"], ended["reason"]) == ("refused", "none_named")
        assert ended["left"]["untouched"] == [running]
        assert service.platform.effects == []

    run_virtual(main())


def test_two_tabs_that_both_saw_no_lab_make_one() -> None:
    async def main() -> None:
        service = Within()
        first = await _relaunched(service, learner(), **NAMED)
        second = await _relaunched(service, learner(), **NAMED)
        assert (first["outcome"], second["reason"]) == ("launched", "none_named")
        assert len(service.platform.launches()) == 1
        assert service.platform.cancels() == []

    run_virtual(main())


def test_a_learner_may_forbid_and_not_allow() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            for policy in ({"choose": "oldest"}, {"choose": "named", "overlap": True}):
                body = {"lab_profile_id": NEW, "policy": policy}
                answer = await client.post("/relaunches", json=body, headers=learner())
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert service.platform.effects == []

    run_virtual(main())


def test_only_an_admin_may_leave_an_exam_to_end() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            body = {"user_id": "ada", "lab_profile_id": NEW, "policy": {"allow_exam": True}}
            start = await client.post("/relaunches", json=body, headers=bearer(KEYS[Scope.START]))
            admin = await client.post("/relaunches", json=body, headers=bearer(KEYS[Scope.ADMIN]))
            assert (start.status_code, admin.status_code) == (403, 202)

    run_virtual(main())


def test_a_learner_who_presses_without_end_is_stopped_and_a_key_is_not() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            path = "/users/ada/labs"
            answers = [
                (await client.get(path, headers=learner())).status_code
                for _ in range(LEARNER_PLATFORM_CALLS + 1)
            ]
            assert answers == [200] * LEARNER_PLATFORM_CALLS + [429]
            assert (await client.get(path, headers=bearer())).status_code == 200
            assert (await client.get("/relaunches", headers=learner())).status_code == 200

    run_virtual(main())
