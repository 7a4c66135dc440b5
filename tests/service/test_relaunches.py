"""Relaunches over HTTP: begun, joined, looked at, listed and aborted, by keys and by learners."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

import httpx
import pytest

from orchestrator import LaunchParameters, Policy
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.service.access.callers import Scope
from orchestrator.service.representations import LaunchParametersAsked, PolicyAsked, RelaunchAsked
from orchestrator.testing.virtual import run_virtual
from tests.service.world import KEYS, NEW, OLD, Within, bearer, learner

ASKED: dict[str, Any] = {"user_id": "ada", "lab_profile_id": NEW}


def test_from_the_press_to_the_lab() -> None:
    async def main() -> None:
        service = Within()
        old = service.platform.add_running("ada", OLD)
        async with service.client() as client:
            begun = await client.post("/relaunches", json=ASKED, headers=bearer())
            assert begun.status_code == 202
            told = begun.json()
            assert begun.headers["location"] == f"/relaunches/{told['relaunch_id']}"
            assert (told["user_id"], told["lab_profile_id"], told["outcome"]) == ("ada", NEW, None)
            assert (told["url"], told["left"], told["waited_seconds"]) == (None, None, None)
            assert told["deadline_at"] == told["created_at"] + 900
            await asyncio.sleep(20)
            answer = await client.get(begun.headers["location"], headers=bearer())
            during = answer.json()
            assert (during["phase"], during["ending_instance_id"]) == ("tearing_down", old)
            assert during["cancelled_instance_ids"] == [old]
            assert during["elapsed_seconds"] == pytest.approx(20, abs=0.1)
            assert during["now"] == pytest.approx(told["now"] + 20, abs=0.1)
            await asyncio.sleep(60)
            ended = (await client.get(begun.headers["location"], headers=bearer())).json()
            assert ended.keys() == during.keys() == told.keys()
            (new,) = service.platform.launches()
            assert (ended["outcome"], ended["lab_instance_id"]) == ("launched", new)
            assert ended["url"] == f"https://labs.example/lab/{new}"
            assert ended["left"]["untouched"] == []
            assert 50 <= ended["waited_seconds"] == ended["elapsed_seconds"] < 80

    run_virtual(main())


@pytest.mark.parametrize("headers", [bearer(), learner()], ids=["key", "learner"])
def test_the_same_lab_joins_and_at_the_same_moment_too(headers: dict[str, str]) -> None:
    async def main() -> None:
        service = Within()
        service.platform.add_running("ada", OLD)
        async with service.client() as client:
            answers = await asyncio.gather(
                *(client.post("/relaunches", json=ASKED, headers=headers) for _ in range(20))
            )
            assert sorted(a.status_code for a in answers) == [200] * 19 + [202]
            assert len({a.json()["relaunch_id"] for a in answers}) == 1
            assert len({a.headers["location"] for a in answers}) == 1
            await asyncio.sleep(100)
            assert len(service.platform.launches()) == len(service.platform.cancels()) == 1
            again = await client.post("/relaunches", json=ASKED, headers=headers)
            assert again.status_code == 202, "it had ended, so this is another one"

    run_virtual(main())


def test_learners_do_not_meet() -> None:
    async def main() -> None:
        service = Within(survey_takes=5.0)
        async with service.client() as client:
            asked = {"lab_profile_id": NEW}
            made = [
                await client.post("/relaunches", json=asked, headers=learner(user))
                for user in ("ada", "bob", "ada")
            ]
            assert [a.status_code for a in made] == [202, 202, 200]
            ada, bob = made[0].json(), made[1].json()
            assert (ada["user_id"], bob["user_id"]) == ("ada", "bob")
            for headers, own in ((learner("ada"), ada), (learner("bob"), bob)):
                listed = (await client.get("/relaunches", headers=headers)).json()["relaunches"]
                assert [r["relaunch_id"] for r in listed] == [own["relaunch_id"]]

    run_virtual(main())


def test_what_is_another_s_does_not_exist() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            mine, nobody_s = made.json()["relaunch_id"], "f" * 32
            strangers = [learner("bob"), learner("ada", lab=[OLD])]
            for headers in strangers:
                for verb, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
                    there, nowhere = [
                        await client.request(verb, f"/relaunches/{i}{path}", headers=headers)
                        for i in (mine, nobody_s)
                    ]
                    assert there.status_code == nowhere.status_code == 404
                    assert there.text.replace(mine, "") == nowhere.text.replace(nobody_s, "")
                    assert there.json()["code"] == "unknown_relaunch"
                    assert set(there.headers) == set(nowhere.headers)
                listed = await client.get("/relaunches", headers=headers)
                assert listed.json() == {"relaunches": []}
            assert (await service.store.signals(mine)).abort_requested is False
            for user in ("ada", "nobody"):
                listed = await client.get("/relaunches?user_id=" + user, headers=learner("bob"))
                assert (listed.status_code, listed.json()["code"]) == (404, "not_found")

    run_virtual(main())


@pytest.mark.parametrize(
    ("asked", "claimed"),
    [
        ({"user_id": "bob", "lab_profile_id": NEW}, {}),
        ({"lab_profile_id": NEW}, {"lab": OLD}),
        ({"lab_profile_id": 7}, {"lab": [OLD, NEW]}),
    ],
    ids=["another-learner", "another-lab", "no-such-lab"],
)
def test_a_token_acts_for_its_learner_and_labs_alone(
    asked: dict[str, Any], claimed: dict[str, Any]
) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            answer = await client.post("/relaunches", json=asked, headers=learner(**claimed))
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            await asyncio.sleep(5)
            assert service.platform.calls == []
            assert await service.store.unfinished() == 0

    run_virtual(main())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parameters", {"first_name": "Eve"}),
        ("parameters", {}),
        ("policy", {"allow_exam": True}),
        ("policy", {}),
        ("launch", False),
        ("note", "mine"),
        ("priority", "button"),
        ("on_conflict", "supersede"),
    ],
)
def test_what_a_learner_may_not_say_is_refused_by_its_name(name: str, value: object) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            asked = {"lab_profile_id": NEW, name: value}
            answer = await client.post("/relaunches", json=asked, headers=learner())
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert answer.json()["detail"].startswith(f"{name}:")
            assert await service.store.unfinished() == 0

    run_virtual(main())


def test_a_learner_s_launch_has_what_the_token_says() -> None:
    async def main() -> None:
        service = Within(policy=Policy(if_running="reuse", deadline_seconds=77))
        async with service.client() as client:
            headers = learner(launch={"first_name": "Ada", "lang": "de", "role_ids": [1, 2]})
            made = await client.post("/relaunches", json={"lab_profile_id": NEW}, headers=headers)
            stored = await service.store.load(made.json()["relaunch_id"])
            assert stored.run.parameters == LaunchParameters(
                first_name="Ada", lang="de", role_ids=(1, 2)
            )
            assert stored.run.policy == Policy(if_running="reuse", deadline_seconds=77)

    run_virtual(main())


def test_all_that_a_key_may_say_arrives() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            asked = ASKED | {
                "displace_instance_id": 5001,
                "parameters": {"first_name": "Ada", "role_ids": [3], "variables": {"a": "b"}},
                "policy": {"if_running": "reuse", "deadline_seconds": 60, "max_recancels": 3},
                "launch": False,
                "note": "why",
                "priority": "bulk",
            }
            made = await client.post("/relaunches", json=asked, headers=bearer())
            assert made.status_code == 202
            stored = await service.store.load(made.json()["relaunch_id"])
            run = stored.run
            assert run.parameters == LaunchParameters(
                first_name="Ada", role_ids=(3,), variables={"a": "b"}
            )
            assert run.policy == Policy(
                if_running="reuse",
                deadline_seconds=60,
                max_recancels=3,
                displace_instance_id=5001,
                launch=False,
            )
            assert (run.note, stored.priority.name) == ("why", "BULK")

    run_virtual(main())


def test_what_may_be_asked_is_what_the_library_takes() -> None:
    parameters = {f.name for f in fields(LaunchParameters)}
    assert set(LaunchParametersAsked.model_fields) == parameters
    policy = {f.name for f in fields(Policy)}
    beside = {"displace_instance_id", "launch"}
    assert set(PolicyAsked.model_fields) == policy - beside
    assert beside < set(RelaunchAsked.model_fields)


def test_a_key_names_the_learner() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            asked = {"lab_profile_id": NEW}
            answer = await client.post("/relaunches", json=asked, headers=bearer())
            assert answer.status_code == 422
            assert (answer.json()["code"], answer.json()["field"]) == ("invalid_request", "user_id")

    run_virtual(main())


def test_another_lab_is_a_conflict_that_says_what_may_be_done() -> None:
    async def main() -> None:
        service = Within(survey_takes=5.0)
        service.platform.add_running("ada", OLD)
        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            running = made.json()["relaunch_id"]

            async def conflict(headers: dict[str, str]) -> dict[str, Any]:
                asked = {"user_id": "ada", "lab_profile_id": OLD}
                answer = await client.post("/relaunches", json=asked, headers=headers)
                assert answer.status_code == 409
                assert answer.headers["content-type"] == "application/problem+json"
                told: dict[str, Any] = answer.json()
                assert (told["code"], told["lab_profile_id"]) == ("relaunch_in_flight", NEW)
                assert running not in told["detail"]
                return told

            early = await conflict(bearer())
            assert early["harmless"] is True
            assert (early["relaunch_id"], early["may"]) == (running, ["wait", "abort", "supersede"])
            assert (await conflict(learner()))["may"] == ["wait", "abort"]
            await asyncio.sleep(20)
            late = await conflict(bearer())
            assert (late["harmless"], late["may"]) == (False, ["wait", "abort"])
            blind = await conflict(learner(lab=OLD))
            assert (blind["relaunch_id"], blind["may"]) == (None, ["wait"])

    run_virtual(main())


def test_a_harmless_one_can_be_superseded_by_a_key() -> None:
    async def main() -> None:
        service = Within(survey_takes=5.0)
        async with service.client() as client:
            first = await client.post("/relaunches", json=ASKED, headers=bearer())
            asked = {"user_id": "ada", "lab_profile_id": OLD, "on_conflict": "supersede"}
            second = await client.post("/relaunches", json=asked, headers=bearer())
            assert second.status_code == 202
            old = (await client.get(first.headers["location"], headers=bearer())).json()
            assert (old["outcome"], old["reason"]) == ("aborted", "superseded")

    run_virtual(main())


@pytest.mark.parametrize("headers", [bearer(), learner()], ids=["key", "learner"])
def test_an_idempotency_key_names_the_request_for_good(headers: dict[str, str]) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            keyed = headers | {"Idempotency-Key": "press-1"}
            first = await client.post("/relaunches", json=ASKED, headers=keyed)
            await asyncio.sleep(100)
            again = await client.post("/relaunches", json=ASKED, headers=keyed)
            assert (first.status_code, again.status_code) == (202, 200)
            assert again.json()["outcome"] == "launched"
            assert again.json()["relaunch_id"] == first.json()["relaunch_id"]
            asked = ASKED | {"lab_profile_id": OLD}
            other = await client.post("/relaunches", json=asked, headers=keyed)
            assert (other.status_code, other.json()["field"]) == (422, "idempotency_key")

    run_virtual(main())


def test_a_key_is_its_caller_s_own() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            callers = [learner("ada"), learner("bob"), bearer(), bearer(KEYS[Scope.ADMIN])]
            ids = []
            for number, headers in enumerate(callers):
                asked: dict[str, Any] = {"lab_profile_id": NEW}
                if number > 1:
                    asked["user_id"] = f"user-{number}"
                keyed = headers | {"Idempotency-Key": "the same"}
                answer = await client.post("/relaunches", json=asked, headers=keyed)
                assert answer.status_code == 202
                ids.append(answer.json()["relaunch_id"])
            assert len(set(ids)) == 4

    run_virtual(main())


def test_polling_with_an_etag() -> None:
    async def main() -> None:
        service = Within()
        service.platform.add_running("ada", OLD)
        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            place = made.headers["location"]
            await asyncio.sleep(15)
            first = await client.get(place, headers=bearer())
            tag = first.headers["etag"]
            assert first.headers["cache-control"] == "private, no-cache"
            for known in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
                same = await client.get(place, headers=bearer() | {"If-None-Match": known})
                assert (same.status_code, same.content) == (304, b"")
                assert same.headers["etag"] == tag
            for other in ('W/"0"', "garbage", '"'):
                answer = await client.get(place, headers=bearer() | {"If-None-Match": other})
                assert answer.status_code == 200
            stranger = learner("bob") | {"If-None-Match": tag}
            assert (await client.get(place, headers=stranger)).status_code == 404
            await asyncio.sleep(100)
            later = await client.get(place, headers=bearer() | {"If-None-Match": tag})
            assert (later.status_code, later.json()["outcome"]) == (200, "launched")

    run_virtual(main())


def test_listing() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            for user, lab in (("ada", OLD), ("bob", OLD)):
                asked = {"user_id": user, "lab_profile_id": lab}
                await client.post("/relaunches", json=asked, headers=bearer())
            await asyncio.sleep(100)
            await client.post("/relaunches", json=ASKED, headers=bearer())

            async def labs(query: str, headers: dict[str, str]) -> list[tuple[str, int]]:
                answer = await client.get(f"/relaunches{query}", headers=headers)
                assert answer.status_code == 200
                return [(r["user_id"], r["lab_profile_id"]) for r in answer.json()["relaunches"]]

            new, old, other = ("ada", NEW), ("ada", OLD), ("bob", OLD)
            everything = await labs("", bearer(KEYS[Scope.READ]))
            assert everything[0] == new
            assert sorted(everything) == sorted([new, old, other])
            assert await labs("?user_id=ada", bearer()) == [new, old]
            assert await labs("?user_id=ada&in_flight=true", bearer()) == [new]
            assert await labs("?user_id=ada&in_flight=false", bearer()) == [old]
            assert await labs("?user_id=nobody", bearer()) == []
            assert await labs("?limit=1", bearer()) == [new]
            assert await labs("", learner()) == [new, old]
            assert await labs("?user_id=ada&in_flight=true", learner()) == [new]
            assert await labs("", learner(lab=[OLD])) == [old]

    run_virtual(main())


def test_aborting() -> None:
    async def main() -> None:
        service = Within()
        old = service.platform.add_running("ada", OLD)
        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=learner())
            place = made.headers["location"]
            await asyncio.sleep(15)
            wished = await client.delete(place, headers=learner())
            assert wished.status_code == 202
            await asyncio.sleep(1)
            ended = (await client.get(place, headers=learner())).json()
            assert (ended["outcome"], ended["left"]["tearing_down"]) == ("aborted", [old])
            again = await client.delete(place, headers=learner())
            assert (again.status_code, again.json()["outcome"]) == (200, "aborted")
            assert service.platform.launches() == []

    run_virtual(main())


def test_a_get_starts_nothing() -> None:
    async def main() -> None:
        service = Within()
        service.platform.add_running("ada", OLD)
        async with service.client() as client:
            for path in (
                "/relaunches", "/relaunches?user_id=ada", "/relaunches/" + "0" * 32,
                "/relaunches/" + "0" * 32 + "/events", "/users/ada/labs?lab_profile_id=1002",
                "/users/ada/labs/5001/access-url", "/healthz", "/readyz", "/metrics",
                "/openapi.json", "/button/snippet.html",
            ):  # fmt: skip
                for headers in (bearer(), learner(), {}):
                    await client.get(path, headers=headers)
            await asyncio.sleep(100)
            assert service.platform.effects == []
            assert {what for what, _ in service.platform.calls} <= {"survey", "count_active"}
            assert await service.store.unfinished() == 0

    run_virtual(main())


def test_whoever_may_only_read_begins_and_aborts_nothing() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            reads = bearer(KEYS[Scope.READ])
            answer = await client.post("/relaunches", json=ASKED, headers=reads)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            place = made.headers["location"]
            assert (await client.delete(place, headers=reads)).status_code == 403
            assert (await client.get(place, headers=reads)).status_code == 200
            answers: list[httpx.Response] = [
                await client.get(place),
                await client.post("/relaunches", json=ASKED),
                await client.delete(place),
            ]
            assert {a.status_code for a in answers} == {401}

    run_virtual(main())


def test_while_it_drains_nothing_is_begun() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            service.parts.drain()
            answer = await client.post("/relaunches", json=ASKED, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (503, "draining")
            assert answer.headers["retry-after"] == "1"
            assert (await client.get(made.headers["location"], headers=bearer())).is_success

    run_virtual(main())


class _Away(MemoryRunStore):
    """A store that nobody reaches."""

    async def create(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("The store cannot be reached. Nothing was stored.")

    load = history = create


def test_without_its_store_it_says_so_and_when_to_come_again() -> None:
    async def main() -> None:
        service = Within(store=_Away())
        async with service.client() as client:
            for answer in (
                await client.post("/relaunches", json=ASKED, headers=bearer()),
                await client.get("/relaunches", headers=bearer()),
                await client.get("/relaunches/" + "0" * 32, headers=bearer()),
                await client.get(f"/relaunches/{'0' * 32}/events", headers=bearer()),
                await client.delete("/relaunches/" + "0" * 32, headers=bearer()),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
                assert answer.headers["retry-after"] == "2"
            assert service.platform.calls == []

    run_virtual(main())
