"""A learner's labs over HTTP: what runs, which one would make room, and the way into one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from orchestrator import Policy
from orchestrator.errors import AnswerLost, HeldBack, KeyRejected, PlatformError
from orchestrator.labs import Labs, SavedInstance
from orchestrator.service.access.callers import Scope
from orchestrator.testing import InMemoryPlatform
from orchestrator.testing.platforms import IsUnreachable
from orchestrator.testing.virtual import run_virtual
from orchestrator.waiting import Subject, Waited
from tests.service.world import EXAM, KEYS, NEW, OLD, Within, bearer, learner


def test_what_the_platform_says_of_a_learner() -> None:
    async def main() -> None:
        service = Within()
        mine = service.platform.add_running("ada", OLD)
        service.platform.add_running("bob", NEW)
        async with service.client() as client:
            answer = await client.get("/users/ada/labs", headers=bearer())
            began = service.clock.now() - 3600
            assert answer.json() == {
                "user_id": "ada",
                "running": [
                    {
                        "lab_instance_id": mine,
                        "lab_profile_id": OLD,
                        "lab_profile_name": None,
                        "started_at": pytest.approx(began, abs=1),
                        "expires_at": None,
                        "is_exam": False,
                        "would_end": False,
                        "may_enter": True,
                        "usual_seconds": None,
                    }
                ],
                "saved": [],
            }
            assert service.platform.effects == []

    run_virtual(main())


class _Saves(InMemoryPlatform):
    def survey(self, user_id: str, *, timeout: float) -> Labs:
        return Labs(saved=(SavedInstance(instance_id=7, lab_profile_id=OLD, saved_at=5.0),))


def test_saved_labs() -> None:
    async def main() -> None:
        service = Within(platform=_Saves)
        async with service.client() as client:
            told = (await client.get("/users/ada/labs", headers=learner())).json()
            assert told["running"] == []
            assert [(s["lab_instance_id"], s["saved_at"]) for s in told["saved"]] == [(7, 5.0)]

    run_virtual(main())


@pytest.mark.parametrize(
    ("running", "policy", "ends"),
    [
        ([OLD], {}, 0),
        ([OLD, 1004], {}, 0),
        ([OLD, NEW], {}, 1),
        ([EXAM], {}, None),
        ([EXAM, OLD], {}, 1),
        ([EXAM], {"allow_exam": True}, 0),
        ([NEW], {"if_running": "reuse"}, None),
        ([NEW], {"if_running": "refuse"}, None),
        ([OLD], {"if_running": "reuse"}, 0),
        ([OLD, 1004], {"choose": "ask"}, None),
        ([], {}, None),
    ],
)
def test_it_names_the_lab_that_the_relaunch_then_ends(
    running: list[int], policy: dict[str, Any], ends: int | None
) -> None:
    async def main() -> None:
        service = Within(policy=Policy(**policy))
        service.platform.max_active_per_user = max(1, len(running))
        ids = [service.platform.add_running("ada", lab, is_exam=lab == EXAM) for lab in running]
        async with service.client() as client:
            answer = await client.get(f"/users/ada/labs?lab_profile_id={NEW}", headers=learner())
            marked = [r["lab_instance_id"] for r in answer.json()["running"] if r["would_end"]]
            assert marked == ([] if ends is None else [ids[ends]])
            asked = {"lab_profile_id": NEW}
            made = await client.post("/relaunches", json=asked, headers=learner())
            async with service.following(made.json()["relaunch_id"], learner()) as stream:
                await stream.end()
            assert service.platform.cancels() == marked

    run_virtual(main())


def test_what_its_teardown_usually_takes() -> None:
    async def main() -> None:
        service = Within()
        subject = Subject(lab_profile_id=OLD, kind=None, step="cancel")
        service.platform.add_running("ada", OLD)
        for _ in range(5):
            service.knowledge.record(subject, Waited(low=40.0, high=60.0, looks=3))
        async with service.client() as client:
            told = (await client.get("/users/ada/labs", headers=learner())).json()
            low, high = told["running"][0]["usual_seconds"]
            assert 0 < low <= high

    run_virtual(main())


@pytest.mark.parametrize(
    "user_id",
    [
        "a/b",
        "tenant/x/y",
        "../../relaunches",
        "ü@lms.example",
        "日本",
        "a b",
        "a%2Fb",
        "labs",
        "?#&",
    ],
)
def test_any_learner_s_id_can_stand_in_the_path(user_id: str) -> None:
    async def main() -> None:
        service = Within()
        mine = service.platform.add_running(user_id, OLD)
        place = f"/users/{quote(user_id, safe='')}/labs"
        async with service.client() as client:
            told = (await client.get(place, headers=learner(user_id))).json()
            assert told["user_id"] == user_id
            assert [r["lab_instance_id"] for r in told["running"]] == [mine]
            url = await client.post(f"{place}/{mine}/access-url", headers=learner(user_id))
            assert url.json() == {"url": f"https://labs.example/access/{mine}"}
            assert (await client.get(place, headers=learner())).status_code == 404

    run_virtual(main())


def test_the_way_in_is_for_the_learner_alone() -> None:
    async def main() -> None:
        service = Within()
        mine = service.platform.add_running("ada", OLD)
        other = service.platform.add_running("bob", OLD)
        async with service.client() as client:

            async def ask(user: str, lab: int, headers: dict[str, str]) -> int:
                place = f"/users/{user}/labs/{lab}/access-url"
                return (await client.post(place, headers=headers)).status_code

            assert await ask("ada", mine, learner()) == 200
            assert await ask("ada", mine, bearer()) == 200
            assert await ask("ada", mine, bearer(KEYS[Scope.READ])) == 403
            assert await ask("ada", mine, {}) == 401
            assert await ask("ada", mine, learner("bob")) == 404
            assert await ask("bob", other, learner("ada")) == 404
            assert await ask("ada", other, learner("ada")) == 404
            assert await ask("ada", other, bearer()) == 404
            assert await ask("ada", mine, learner(lab=[NEW])) == 404
            assert await ask("ada", 2**63, learner()) == 422
            entered = [subject for what, subject in service.platform.calls if what == "access_url"]
            assert entered == [mine, mine]
            shown = await client.get("/users/ada/labs", headers=learner(lab=[NEW]))
            assert [r["may_enter"] for r in shown.json()["running"]] == [False]

    run_virtual(main())


def test_no_way_into_a_lab_that_is_ending() -> None:
    async def main() -> None:
        service = Within()
        mine = service.platform.add_running("ada", OLD)
        service.platform.cancel(mine, note=None, timeout=1)
        async with service.client() as client:
            answer = await client.post(f"/users/ada/labs/{mine}/access-url", headers=learner())
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            assert "may just have ended" in answer.json()["detail"]

    run_virtual(main())


class _Fails(InMemoryPlatform):
    error: PlatformError

    def survey(self, user_id: str, *, timeout: float) -> Labs:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (AnswerLost("the connection broke", operation="x"), 502, None),
        (KeyRejected("the key was rejected", operation="x", status=401), 502, None),
        (HeldBack("not even tried", operation="x", retry_after=6.2), 503, "7"),
    ],
)
def test_what_the_platform_does_not_say_is_told_as_that(
    error: PlatformError, status: int, retry_after: str | None
) -> None:
    async def main() -> None:
        service = Within(platform=_Fails)
        assert isinstance(service.platform, _Fails)
        service.platform.error = error
        async with service.client() as client:
            for verb, path in (("GET", "labs"), ("POST", "labs/5/access-url")):
                answer = await client.request(verb, f"/users/ada/{path}", headers=learner())
                assert (answer.status_code, answer.json()["code"]) == (status, error.code)
                assert answer.headers.get("retry-after") == retry_after

    run_virtual(main())


def test_an_unreachable_platform() -> None:
    async def main() -> None:
        service = Within(platform=IsUnreachable)
        async with service.client() as client:
            answer = await client.get("/users/ada/labs", headers=learner())
            assert (answer.status_code, answer.json()["code"]) == (502, "platform_unreachable")

    run_virtual(main())
