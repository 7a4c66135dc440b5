"""Batches over HTTP: asked for, asked for again, looked at, stopped, resumed and aborted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator import LaunchParameters, Policy
from orchestrator.batch.outcomes import Standing, plain_standing
from orchestrator.batch.requests import Row, batch_of
from orchestrator.batch.resetting import begin
from orchestrator.durable.batches import BatchState, Pace
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.batches import representations
from orchestrator.service.batches.models import MOST_LEARNERS, BatchAsked
from orchestrator.testing.virtual import run_virtual
from tests.service.batches import (
    asked,
    at_work,
    begun,
    following,
    give,
    learners_of,
    looked_at,
    names,
)
from tests.service.world import KEYS, NEW, OLD, Within, bearer, learner


def test_from_the_request_to_the_labs() -> None:
    async def main() -> None:
        service = Within()
        olds = give(service, 3)
        async with at_work(service) as client:
            answer = await client.post("/batches", json=asked(3), headers=bearer())
            assert answer.status_code == 202
            told = answer.json()
            assert (told["state"], told["total"], told["origin"]) == ("running", 3, "service")
            assert (told["waiting"], told["in_flight"], told["ended"]) == (3, 0, {})
            batch_id = told["batch_id"]
            assert answer.headers["location"] == f"/batches/{batch_id}"
            await asyncio.sleep(20)
            during = await looked_at(client, batch_id)
            assert (during["waiting"], during["in_flight"]) == (0, 3)
            assert during["phases"] == {"tearing_down": 3}
            await asyncio.sleep(60)
            ended = await looked_at(client, batch_id)
            assert ended.keys() == during.keys() == told.keys()
            assert (ended["state"], ended["ok"], ended["not_ok"]) == ("ended", 3, 0)
            assert ended["ended"] == {"launched": 3}
            assert ended["phases"] == {}
            assert sorted(service.platform.cancels()) == olds
            found = await learners_of(client, batch_id)
            assert [found[user]["number"] for user in names(3)] == [1, 2, 3]
            assert {one["outcome"] for one in found.values()} == {"launched"}
            new = {one["lab_instance_id"] for one in found.values()}
            assert new == set(service.platform.launches())
            single = found["learner-1"]["relaunch_id"]
            relaunch = await client.get(f"/relaunches/{single}", headers=bearer())
            assert relaunch.json()["user_id"] == "learner-1"

    run_virtual(main())


def test_the_same_request_again_touches_nobody_who_has_a_lab_and_tries_the_others() -> None:
    async def main() -> None:
        service = Within()
        give(service, 2)
        exam = service.platform.add_running("learner-3", OLD, is_exam=True)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(3))
            await asyncio.sleep(2)
            assert await begun(client, asked(3), 200) == batch_id
            await asyncio.sleep(80)
            ended = await looked_at(client, batch_id)
            assert (ended["state"], ended["ok"], ended["not_ok"]) == ("ended", 2, 1)
            assert (await learners_of(client, batch_id))["learner-3"]["attempt"] == 1
            service.platform.instances[exam].is_exam = False
            assert await begun(client, asked(3), 200) == batch_id
            await asyncio.sleep(80)
            ended = await looked_at(client, batch_id)
            assert (ended["state"], ended["ok"], ended["not_ok"]) == ("ended", 3, 0)
            attempts = {
                u: one["attempt"] for u, one in (await learners_of(client, batch_id)).items()
            }
            assert attempts == {"learner-1": 1, "learner-2": 1, "learner-3": 2}
            assert len(service.platform.launches()) == len(service.platform.cancels()) == 3
            # Nothing is left to do: it isn't even begun again.
            assert await begun(client, asked(3), 200) == batch_id
            assert (await looked_at(client, batch_id))["state"] == "ended"

    run_virtual(main())


def test_a_hundred_at_the_same_moment_are_one_batch() -> None:
    async def main() -> None:
        service = Within()
        give(service, 3)
        async with at_work(service) as client:
            answers = await asyncio.gather(
                *(client.post("/batches", json=asked(3), headers=bearer()) for _ in range(100))
            )
            assert sorted(a.status_code for a in answers) == [200] * 99 + [202]
            assert len({a.json()["batch_id"] for a in answers}) == 1
            await asyncio.sleep(100)
            assert len(service.platform.launches()) == 3

    run_virtual(main())


def test_an_id_names_one_request() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            await begun(client, asked(2, batch_id="monday"))
            for other in (asked(3, batch_id="monday"), asked(2, batch_id="monday", launch=False)):
                answer = await client.post("/batches", json=other, headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (409, "batch_id_taken")
                assert answer.json()["batch_id"] == "monday"
            assert (await looked_at(client, "monday"))["total"] == 2
            # And the same learners under another id are another batch.
            assert await begun(client, asked(2, batch_id="tuesday")) == "tuesday"

    run_virtual(main())


def test_all_that_a_key_may_say_arrives() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            body = asked(
                0,
                batch_id="b",
                learners=[
                    {
                        "user_id": "ada",
                        "displace_instance_id": 5001,
                        "parameters": {"first_name": "Ada", "role_ids": [3]},
                    },
                    {"user_id": "bob", "lab_profile_id": OLD},
                ],
                launch=False,
                policy={"displace": "save", "deadline_seconds": 60},
                note="why",
                concurrency=7,
                per_minute=30.5,
                wait_seconds=900,
                on_error="stop",
            )
            await begun(client, body)
            batch = await service.store.batches.load("b")
            assert batch.policy == Policy(displace="save", deadline_seconds=60, launch=False)
            assert (batch.note, batch.origin, batch.selection) == ("why", "service", None)
            assert batch.pace == Pace(
                concurrency=7, per_minute=30.5, wait_seconds=900, on_error="stop"
            )
            ada, bob = [stored.item for stored in await service.store.batches.items("b")]
            assert (ada.lab_profile_id, ada.displace_instance_id) == (NEW, 5001)
            assert ada.parameters == LaunchParameters(first_name="Ada", role_ids=(3,))
            assert (bob.lab_profile_id, bob.displace_instance_id) == (OLD, None)
            assert bob.parameters == LaunchParameters()

    run_virtual(main())


def test_without_launch_the_slots_are_free() -> None:
    async def main() -> None:
        service = Within()
        olds = give(service, 2)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(2, lab_profile_id=OLD, launch=False))
            await asyncio.sleep(80)
            ended = await looked_at(client, batch_id)
            assert (ended["state"], ended["ended"]) == ("ended", {"freed": 2})
            assert (ended["launch"], ended["ok"]) == (False, 2)
            assert sorted(service.platform.cancels()) == olds
            assert service.platform.launches() == []

    run_virtual(main())


WRONG = [
    ({"user_id": ""}, "learners[1].user_id"),
    ({"user_id": "a\nb"}, "learners[1].user_id"),
    ({"user_id": 5}, "learners[1].user_id"),
    ({}, "learners[1].user_id"),
    ({"user_id": "x", "nonsense": 1}, "learners[1].nonsense"),
    ({"user_id": "x", "lab_profile_id": 0}, "learners[1].lab_profile_id"),
    ({"user_id": "x", "lab_profile_id": "7"}, "learners[1].lab_profile_id"),
    ({"user_id": "x", "displace_instance_id": -1}, "learners[1].displace_instance_id"),
    ({"user_id": "x", "parameters": {"tag": "a\rb"}}, "learners[1].parameters.tag"),
    ({"user_id": "x", "parameters": {"role_ids": [-1]}}, "learners[1].parameters.role_ids[0]"),
    ("x", "learners[1]"),
    (None, "learners[1]"),
    ({"user_id": "good"}, "learners[1]"),
    ({"user_id": "good", "lab_profile_id": NEW}, "learners[1]"),
]


@pytest.mark.parametrize(("row", "field"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_learner_is_named_and_nothing_is_stored(row: Any, field: str) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            body = asked(0, learners=[{"user_id": "good"}, row])
            answer = await client.post("/batches", json=body, headers=bearer())
            told = answer.json()
            assert (answer.status_code, told["code"]) == (422, "invalid_request")
            assert [one["field"] for one in told["errors"]] == [field]
            assert (told["field"], told["error_count"]) == (field, 1)
            assert "Nothing was called" in told["detail"]
            assert await service.store.batches.history() == ()
            assert service.platform.calls == []

    run_virtual(main())


def test_all_that_is_wrong_is_told_at_once_and_in_order() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            rows: list[Any] = [{"user_id": user, "lab_profile_id": NEW} for user in names(50)]
            rows[3]["user_id"] = ""
            rows[7]["lab_profile_id"] = None
            rows[20] = dict(rows[10])
            rows[49]["nonsense"] = 1
            body = {"learners": rows, "concurrency": 0, "note": "a\nb"}
            answer = await client.post("/batches", json=body, headers=bearer())
            fields = [one["field"] for one in answer.json()["errors"]]
            assert fields == [
                "concurrency", "note", "learners[3].user_id", "learners[7].lab_profile_id",
                "learners[20]", "learners[49].nonsense",
            ]  # fmt: skip
            assert answer.json()["error_count"] == 6
            assert "learners[10]" in answer.json()["errors"][4]["problem"]

    run_virtual(main())


def test_of_a_list_that_is_wrong_all_over_a_thousand_are_named() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            rows = [{"user_id": f"{number}", "lab_profile_id": 0} for number in range(3000)]
            answer = await client.post("/batches", json={"learners": rows}, headers=bearer())
            told = answer.json()
            assert (answer.status_code, len(told["errors"])) == (422, 1000)
            assert told["error_count"] == 3000

    run_virtual(main())


@pytest.mark.parametrize(
    "body",
    [
        {"learners": []},
        {"learners": [], "lab_profile_id": NEW},
        {"lab_profile_id": NEW},
        {"learners": "ada", "lab_profile_id": NEW},
        asked(1, batch_id="no id"),
        asked(1, batch_id="x" * 41),
        asked(1, lab_profile_id=0),
        asked(1, concurrency=100_001),
        asked(1, per_minute=0),
        asked(1, wait_seconds=float("inf")),
        asked(1, on_error="panic"),
        asked(1, policy={"launch": False}),
        asked(1, policy={"deadline_seconds": 0}),
        asked(1, nonsense=1),
        {"select": {"everything": True}, "policy": {"displace": "save"}},
    ],
    ids=range(15),
)
def test_a_request_that_means_nothing(body: dict[str, Any]) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            headers = bearer() | {"Content-Type": "application/json"}
            answer = await client.post("/batches", content=json.dumps(body), headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert await service.store.batches.history() == ()

    run_virtual(main())


ROUTES = [
    ("POST", "/batches", Scope.START),
    ("GET", "/batches", Scope.READ),
    ("GET", "/batches/b", Scope.READ),
    ("GET", "/batches/b/learners", Scope.READ),
    ("GET", "/batches/b/events", Scope.READ),
    ("GET", "/batches/b/report.csv", Scope.READ),
    ("GET", "/batches/b/report.json", Scope.READ),
    ("GET", "/batches/b/report.html", Scope.READ),
    ("POST", "/batches/b/stop", Scope.START),
    ("POST", "/batches/b/resume", Scope.START),
    ("DELETE", "/batches/b", Scope.START),
]


@pytest.mark.parametrize(("verb", "path", "scope"), ROUTES, ids=range(len(ROUTES)))
def test_service_keys_alone_within_their_scope(verb: str, path: str, scope: Scope) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            await begun(client, asked(1, batch_id="b"))
            body = asked(2) if path == "/batches" and verb == "POST" else None
            for headers, status, code in (
                ({}, 401, "unauthenticated"),
                (bearer("lrk_wrong"), 401, "unauthenticated"),
                (learner("learner-1"), 404, "not_found"),
                (learner("learner-1", lab="*"), 404, "not_found"),
            ):
                answer = await client.request(verb, path, json=body, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (status, code)
            reader = bearer(KEYS[Scope.READ])
            if scope is Scope.START:
                answer = await client.request(verb, path, json=body, headers=reader)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            elif not path.endswith("events"):
                answer = await client.request(verb, path, json=body, headers=reader)
                assert answer.status_code == 200
            batches = await service.store.batches.history()
            assert [(one.batch_id, one.state) for one in batches] == [("b", BatchState.RUNNING)]

    run_virtual(main())


@pytest.mark.parametrize(("verb", "path", "scope"), ROUTES[2:], ids=range(len(ROUTES) - 2))
def test_what_is_not_there(verb: str, path: str, scope: Scope) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            answer = await client.request(verb, path, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_batch")
            bad = path.replace("/b", "/no%20id", 2).replace("/no%20idatches", "/batches")
            answer = await client.request(verb, bad, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")

    run_virtual(main())


def test_exams_are_for_admins() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            body = asked(1, policy={"allow_exam": True})
            answer = await client.post("/batches", json=body, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert answer.json()["detail"].startswith("policy.allow_exam:")
            assert await service.store.batches.history() == ()
            admin = bearer(KEYS[Scope.ADMIN])
            answer = await client.post("/batches", json=body, headers=admin)
            assert answer.status_code == 202
            (batch,) = await service.store.batches.history()
            assert batch.policy.allow_exam
            # What an admin has begun, another key can't go on with either.
            place = f"/batches/{batch.batch_id}"
            assert (await client.post(f"{place}/stop", headers=bearer())).status_code == 202
            answer = await client.post(f"{place}/resume", headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert (await client.post(f"{place}/resume", headers=admin)).status_code == 200

    run_virtual(main())


def test_stopped_it_begins_nobody_and_resumed_it_goes_on() -> None:
    async def main() -> None:
        service = Within()
        give(service, 6)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(6, concurrency=2))
            await asyncio.sleep(10)
            place = f"/batches/{batch_id}"
            answer = await client.post(f"{place}/stop", headers=bearer())
            assert (answer.status_code, answer.json()["state"]) == (202, "stopped")
            assert answer.json()["reason"] == "stopped"
            await asyncio.sleep(100)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["ok"], told["waiting"]) == ("stopped", 2, 4)
            again = await client.post(f"{place}/stop", headers=bearer())
            assert (again.status_code, again.json()["state"]) == (200, "stopped")
            answer = await client.post(f"{place}/resume", json={"concurrency": 4}, headers=bearer())
            assert (answer.status_code, answer.json()["state"]) == (200, "running")
            await asyncio.sleep(10)
            assert (await looked_at(client, batch_id))["in_flight"] == 4
            await asyncio.sleep(80)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["ok"], told["reason"]) == ("ended", 6, None)
            assert len(service.platform.launches()) == len(service.platform.cancels()) == 6

    run_virtual(main())


def test_aborted_it_is_never_gone_on_with_and_the_labs_stay_as_they_are() -> None:
    async def main() -> None:
        service = Within()
        give(service, 6)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(6, concurrency=2))
            await asyncio.sleep(10)
            place = f"/batches/{batch_id}"
            answer = await client.delete(place, headers=bearer())
            assert (answer.status_code, answer.json()["state"]) == (202, "aborted")
            await asyncio.sleep(100)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["waiting"], told["in_flight"]) == ("aborted", 4, 0)
            assert told["ended"] == {"aborted": 2}
            assert len(service.platform.cancels()) == 2
            assert service.platform.launches() == []
            assert (await client.delete(place, headers=bearer())).status_code == 200
            for verb, path, body in (
                ("POST", "/batches", asked(6, concurrency=2)),
                ("POST", f"{place}/resume", None),
                ("POST", f"{place}/resume", {"concurrency": 9}),
            ):
                answer = await client.request(verb, path, json=body, headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (409, "batch_aborted")
            stopped = await client.post(f"{place}/stop", headers=bearer())
            assert (stopped.status_code, stopped.json()["state"]) == (200, "aborted")

    run_virtual(main())


def test_what_the_command_line_has_begun_is_its_own() -> None:
    async def main() -> None:
        service = Within()
        give(service, 2)
        async with at_work(service) as client:
            rows = [Row(user_id=user, lab_profile_id=NEW) for user in names(2)]
            at, consumer = service.clock.now(), service.store.consumer
            batch, items = batch_of(
                rows, policy=Policy(), consumer=consumer, at=at, origin="command"
            )
            await begin(service.store, batch, items)
            await asyncio.sleep(30)
            told = await looked_at(client, batch.batch_id)
            assert (told["state"], told["waiting"], told["origin"]) == ("running", 2, "command")
            place = f"/batches/{batch.batch_id}"
            stopped = await client.post(f"{place}/stop", headers=bearer())
            assert (stopped.status_code, stopped.json()["state"]) == (202, "stopped")
            for path, body in (("/batches", asked(2)), (f"{place}/resume", None)):
                answer = await client.post(path, json=body, headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (409, "batch_elsewhere")
            aborted = await client.delete(place, headers=bearer())
            assert (aborted.status_code, aborted.json()["state"]) == (202, "aborted")
            assert service.platform.calls == []

    run_virtual(main())


def test_learners_come_page_by_page() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            batch_id = await begun(client, asked(25, concurrency=10, per_minute=60))
            place = f"/batches/{batch_id}/learners"
            await asyncio.sleep(10.5)
            found: list[int] = []
            after: int | None = 0
            while after is not None:
                page = await client.get(f"{place}?after={after}&limit=7", headers=bearer())
                found += [one["number"] for one in page.json()["learners"]]
                after = page.json()["next_after"]
            assert found == list(range(1, 26))
            ended, left = [
                (await client.get(f"{place}?ended={ended}", headers=bearer())).json()["learners"]
                for ended in ("true", "false")
            ]
            assert len(ended) + len(left) == 25
            assert 0 < len(ended) < 25
            assert all(one["outcome"] == "launched" and one["ended_at"] for one in ended)
            assert all(one["outcome"] is one["ended_at"] is None for one in left)
            assert {one["number"] for one in ended} < {one["number"] for one in ended + left}

    run_virtual(main())


def test_who_knows_how_it_stands_is_told_so() -> None:
    async def main() -> None:
        service = Within()
        give(service, 1)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(1))
            await asyncio.sleep(20)
            first = await client.get(f"/batches/{batch_id}", headers=bearer())
            await asyncio.sleep(5)
            known = bearer() | {"If-None-Match": first.headers["etag"]}
            second = await client.get(f"/batches/{batch_id}", headers=known)
            assert (second.status_code, second.content) == (304, b"")
            await asyncio.sleep(60)
            third = await client.get(f"/batches/{batch_id}", headers=known)
            assert (third.status_code, third.json()["state"]) == (200, "ended")
            assert third.headers["etag"] != first.headers["etag"]

    run_virtual(main())


def test_batches_are_listed_newest_first() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            for number in (1, 2, 3):
                await begun(client, asked(number, batch_id=f"b{number}"))
                await asyncio.sleep(100)
            await begun(client, asked(4, batch_id="b4", per_minute=1))
            await asyncio.sleep(5)

            async def listed(query: str) -> list[str]:
                answer = await client.get(f"/batches{query}", headers=bearer())
                return [one["batch_id"] for one in answer.json()["batches"]]

            assert await listed("") == ["b4", "b3", "b2", "b1"]
            assert await listed("?unfinished=true") == ["b4"]
            assert await listed("?unfinished=false") == ["b3", "b2", "b1"]
            assert await listed("?limit=2") == ["b4", "b3"]

    run_virtual(main())


def test_nobody_is_shown_a_way_in_or_what_goes_with_the_launch() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            learners = [
                {"user_id": "ada", "parameters": {"first_name": "Augusta", "email": "a@b.example"}}
            ]
            batch_id = await begun(client, asked(0, learners=learners))
            await asyncio.sleep(30)
            assert service.platform.launches()
            place = f"/batches/{batch_id}"
            paths = ["/batches", place, f"{place}/learners"]
            paths += [f"{place}/report.{kind}" for kind in ("csv", "json", "html")]
            texts = [(await client.get(path, headers=bearer())).text for path in paths]
            async with following(service, batch_id) as stream:
                await stream.task
                texts.append(stream.text)
            for text in texts:
                for secret in ("labs.example", "Augusta", "a@b.example"):
                    assert secret not in text

    run_virtual(main())


@pytest.mark.parametrize(
    ("kind", "media", "place"),
    [
        ("csv", "text/csv; charset=utf-8", "attachment"),
        ("json", "application/json", "attachment"),
        ("html", "text/html; charset=utf-8", "inline"),
    ],
)
def test_its_report_can_be_kept(kind: str, media: str, place: str) -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            await begun(client, asked(3, batch_id="monday"))
            await asyncio.sleep(30)
            answer = await client.get(f"/batches/monday/report.{kind}", headers=bearer())
            assert (answer.status_code, answer.headers["content-type"]) == (200, media)
            named = answer.headers["content-disposition"]
            assert named == f'{place}; filename="batch-monday.{kind}"'
            assert all(user in answer.text for user in names(3))
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'")
            assert "script" not in policy
            assert "frame-ancestors 'none'" in policy
            bad = await client.get("/batches/monday/report.pdf", headers=bearer())
            assert (bad.status_code, bad.json()["field"]) == (422, "path.kind")

    run_virtual(main())


def test_thousands_of_learners_fit_into_one_request() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            body = asked(5000, batch_id="all")
            assert len(json.dumps(body)) > 2 * service.parts.options.largest_body
            await begun(client, body)
            assert (await looked_at(client, "all"))["waiting"] == 5000
            many = asked(MOST_LEARNERS + 1)
            answer = await client.post("/batches", json=many, headers=bearer())
            assert (answer.status_code, answer.json()["field"]) == (422, "learners")
            assert len(await service.store.batches.history()) == 1

    run_virtual(main())


async def _dribble(
    pieces: int, sent: list[int], piece: bytes = b" " * 10_000
) -> AsyncIterator[bytes]:
    for number in range(pieces):
        sent.append(number)
        yield piece


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), (bearer("lrk_wrong"), 401), (learner(), 404), (bearer(KEYS[Scope.READ]), 403)],
    ids=["nobody", "wrong", "learner", "reader"],
)
def test_of_whoever_may_not_ask_no_large_body_is_read(headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        service = Within(limits=CallerLimits())
        async with service.client() as client:
            sent: list[int] = []
            content = _dribble(100, sent)
            answer = await client.post("/batches", content=content, headers=headers)
            assert answer.status_code == status
            assert answer.headers["connection"] == "close"
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(sent) <= 8, "seven of them are the ordinary size"
            announced = headers | {"Content-Length": "1000000"}
            answer = await client.post("/batches", content=b"", headers=announced)
            assert answer.status_code == status

    run_virtual(main())


def test_there_is_an_end_to_what_a_key_may_send() -> None:
    async def main() -> None:
        service = Within(largest_batch=200_000)
        async with service.client() as client:
            for path, most in (("/batches", 200_000), ("/relaunches", 65_536)):
                answer = await client.post(path, content=b" " * (most + 1), headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
                assert f"{most} bytes" in answer.json()["detail"]
                sent: list[int] = []
                answer = await client.post(path, content=_dribble(100, sent), headers=bearer())
                assert answer.status_code == 413
                assert len(sent) == most // 10_000 + 1
            answer = await client.post("/batches", content=b" " * 200_000, headers=bearer())
            assert answer.status_code == 422

    run_virtual(main())


def test_a_large_body_gets_more_time_and_a_small_one_does_not() -> None:
    async def slow(size: int) -> AsyncIterator[bytes]:
        yield b" " * size
        for _ in range(1000):
            await asyncio.sleep(1)
            yield b" "

    async def main() -> None:
        service = Within()
        async with service.client() as client:
            for size, seconds in ((100, 10.0), (100_000, 60.0)):
                began = service.clock.now()
                answer = await client.post("/batches", content=slow(size), headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
                assert service.clock.now() - began == seconds

    run_virtual(main())


def test_a_service_that_stops_takes_no_batch() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            await begun(client, asked(1, batch_id="b"))
            service.parts.drain()
            for path, body in (("/batches", asked(2)), ("/batches/b/resume", None)):
                answer = await client.post(path, json=body, headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (503, "draining")
            assert len(await service.store.batches.history()) == 1

    run_virtual(main())


def test_what_is_shown_is_what_the_library_tells() -> None:
    async def main() -> None:
        service = Within()
        batch, _ = batch_of(
            [Row(user_id="ada", lab_profile_id=NEW)], policy=Policy(), consumer="c", at=1.0
        )
        stands = Standing(
            batch=batch, at=1.0, waiting=1, in_flight=0, ok=0, not_ok=0, ended={}, phases={},
            elapsed_seconds=0.0, api_calls=0,
        )  # fmt: skip
        assert set(plain_standing(stands)) == set(representations.Batch.model_fields)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(1))
            await asyncio.sleep(5)
            (stored,) = await service.store.batches.items(batch_id)
            assert stored.result is not None
            (shown,) = (await learners_of(client, batch_id)).values()
            assert set(shown) == set(representations.BatchLearner.model_fields)

    run_virtual(main())


@pytest.mark.parametrize("name", ["Batch", "Batches", "BatchLearner", "BatchLearners"])
def test_the_examples_are_what_they_show(name: str) -> None:
    model = getattr(representations, name)
    for example in model.model_config["json_schema_extra"]["examples"]:
        model.model_validate_json(json.dumps(example))
        assert set(example) == set(model.model_fields)


def test_the_examples_of_a_request_are_good() -> None:
    extra: Any = BatchAsked.model_config["json_schema_extra"]
    for example in extra["examples"]:
        BatchAsked.model_validate_json(json.dumps(example))
