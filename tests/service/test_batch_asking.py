"""Labs that are selected, and plans: what is asked for them, and that a plan changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.batch.selection import Criteria, describe
from orchestrator.durable.batches import BatchState
from orchestrator.service.access.callers import Scope
from orchestrator.service.batches import representations
from orchestrator.testing.virtual import run_virtual
from tests.service.batches import (
    asked,
    at_work,
    begun,
    give,
    learners_of,
    listing,
    looked_at,
    names,
)
from tests.service.world import KEYS, NEW, OLD, Within, bearer


def _select(**criteria: Any) -> dict[str, Any]:
    return {"select": criteria}


def test_labs_are_selected_by_what_runs() -> None:
    async def main() -> None:
        service, _ = listing()
        give(service, 3)
        service.platform.add_running("learner-4", OLD, is_exam=True)
        service.platform.add_running("other", OLD)
        service.platform.add_running("learner-5", NEW)
        async with at_work(service) as client:
            body = _select(lab_profile_ids=[OLD], user_globs=["learner-*"]) | {"launch": False}
            batch_id = await begun(client, body)
            criteria = Criteria(lab_profile_ids=(OLD,), user_globs=("learner-*",))
            assert (await looked_at(client, batch_id))["selection"] == describe(criteria)
            await asyncio.sleep(80)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["ended"]) == ("ended", {"freed": 3})
            assert set(await learners_of(client, batch_id)) == set(names(3))
            assert len(service.platform.cancels()) == 3

    run_virtual(main())


def test_selected_labs_are_launched_anew() -> None:
    async def main() -> None:
        service, _ = listing()
        give(service, 2)
        async with at_work(service) as client:
            batch_id = await begun(client, _select(everything=True))
            await asyncio.sleep(80)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["ended"]) == ("ended", {"launched": 2})
            found = await learners_of(client, batch_id)
            assert {one["lab_profile_id"] for one in found.values()} == {OLD}

    run_virtual(main())


def test_a_selection_is_one_batch_while_that_is_unfinished() -> None:
    async def main() -> None:
        service, platform = listing(slow=2.0)
        give(service, 2)
        async with at_work(service) as client:
            body = _select(lab_profile_ids=[OLD])
            answers = await asyncio.gather(
                *(client.post("/batches", json=body, headers=bearer()) for _ in range(10))
            )
            assert sorted(a.status_code for a in answers) == [200] * 9 + [202]
            assert len({a.json()["batch_id"] for a in answers}) == 1
            assert platform.asked == 1
            await asyncio.sleep(80)
            assert len(service.platform.launches()) == 2
            # Now they run again: another time it is another batch.
            again = await client.post("/batches", json=body, headers=bearer())
            assert again.status_code == 202
            assert again.json()["batch_id"] != answers[0].json()["batch_id"]

    run_virtual(main())


def test_a_selection_by_its_name_goes_on_or_is_taken() -> None:
    async def main() -> None:
        service, _ = listing()
        give(service, 2)
        async with at_work(service) as client:
            body = _select(everything=True) | {"batch_id": "night", "launch": False}
            await begun(client, body)
            await asyncio.sleep(80)
            assert await begun(client, body, 200) == "night"
            assert (await looked_at(client, "night"))["state"] == "ended"
            other = _select(lab_profile_ids=[NEW]) | {"batch_id": "night"}
            answer = await client.post("/batches", json=other, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (409, "batch_id_taken")

    run_virtual(main())


def test_where_nothing_fits_there_is_no_batch() -> None:
    async def main() -> None:
        service, _ = listing()
        service.platform.add_running("eve", OLD, is_exam=True)
        async with service.client() as client:
            body = _select(everything=True)
            answer = await client.post("/batches", json=body, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (409, "nothing_selected")
            assert await service.store.batches.history() == ()
            planned = await client.post("/batches", json=body | {"dry_run": True}, headers=bearer())
            assert planned.status_code == 200
            (one,) = planned.json()["rows"]
            assert (one["user_id"], one["carried_out"]) == ("eve", False)
            assert one["protected"] == "protected_exam"

    run_virtual(main())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"select": {}}, "selection"),
        ({"select": {"everything": False}}, "selection"),
        ({"select": {"class_id": " "}}, "class_id"),
        ({"select": {"user_globs": [" "]}}, "user_glob"),
        ({"select": {"idle_for_seconds": -1}}, "select.idle_for_seconds"),
        ({"select": {"nonsense": 1}}, "select.nonsense"),
        ({"select": {"everything": True}, "learners": [{"user_id": "ada"}]}, "learners[0]"),
        ({"select": {"everything": True}, "lab_profile_id": NEW}, "body"),
        (asked(1, select={"everything": True}), "body"),
        ({}, "body"),
        ({"dry_run": True}, "body"),
    ],
    ids=range(11),
)
def test_a_selection_that_means_nothing(body: dict[str, Any], field: str) -> None:
    async def main() -> None:
        service, platform = listing()
        give(service, 1)
        async with service.client() as client:
            answer = await client.post("/batches", json=body, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert answer.json()["field"].startswith(field)
            assert platform.asked == 0
            assert await service.store.batches.history() == ()

    run_virtual(main())


def test_a_platform_that_does_not_tell_is_not_waited_for() -> None:
    async def main() -> None:
        service, _ = listing(slow=100.0)
        give(service, 1)
        async with service.client() as client:
            for body in (_select(everything=True), asked(1, dry_run=True)):
                answer = await client.post("/batches", json=body, headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (503, "platform_slow")
                assert answer.headers["retry-after"] == "15"
            assert await service.store.batches.history() == ()

    run_virtual(main())


def test_a_platform_that_cannot_tell() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            for body, field in (
                (_select(everything=True), "select"),
                (asked(1, dry_run=True), "dry_run"),
            ):
                answer = await client.post("/batches", json=body, headers=bearer())
                assert (answer.status_code, answer.json()["field"]) == (422, field)

    run_virtual(main())


def test_a_plan_tells_what_would_be_done_and_changes_nothing() -> None:
    async def main() -> None:
        service, _ = listing()
        olds = give(service, 1)
        service.platform.add_running("learner-2", NEW)
        async with at_work(service) as client:
            body = asked(3, batch_id="monday", dry_run=True)
            answer = await client.post("/batches", json=body, headers=bearer())
            assert answer.status_code == 200
            assert "location" not in answer.headers
            told = answer.json()
            assert representations.Plan.model_validate(told).model_dump() == told
            assert (told["batch_id"], told["batch"], told["launch"]) == ("monday", None, True)
            one, two, three = told["rows"]
            assert [lab["lab_instance_id"] for lab in one["would_end"]] == olds
            assert [one["certainty"], two["certainty"], three["certainty"]] == [
                "if_needed", "surely", "nothing",
            ]  # fmt: skip
            assert told["estimate"]["seconds_high"] > told["estimate"]["seconds_low"] > 0
            await asyncio.sleep(30)
            assert await service.store.batches.history() == ()
            assert service.platform.effects == []
            derived = asked(3, dry_run=True)
            planned = await client.post("/batches", json=derived, headers=bearer())
            assert planned.json()["batch_id"] == await begun(client, asked(3))

    run_virtual(main())


def test_of_a_batch_that_is_there_the_plan_is_what_is_left() -> None:
    async def main() -> None:
        service, _ = listing()
        exam = give(service, 3)[1]
        service.platform.instances[exam].is_exam = True
        async with at_work(service) as client:
            await begun(client, asked(3, batch_id="monday"))
            await asyncio.sleep(80)
            body = asked(3, batch_id="monday", dry_run=True)
            told = (await client.post("/batches", json=body, headers=bearer())).json()
            assert [one["user_id"] for one in told["rows"]] == ["learner-2"]
            assert (told["batch"]["state"], told["batch"]["ok"]) == ("ended", 2)
            batch = await service.store.batches.load("monday")
            assert batch.state is BatchState.ENDED
            other = asked(2, batch_id="monday", dry_run=True)
            answer = await client.post("/batches", json=other, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (409, "batch_id_taken")

    run_virtual(main())


def test_exams_are_planned_for_admins_alone() -> None:
    async def main() -> None:
        service, platform = listing()
        service.platform.add_running("eve", OLD, is_exam=True)
        async with service.client() as client:
            body = _select(everything=True) | {"policy": {"allow_exam": True}, "dry_run": True}
            answer = await client.post("/batches", json=body, headers=bearer())
            assert (answer.status_code, platform.asked) == (403, 0)
            admin = bearer(KEYS[Scope.ADMIN])
            told = (await client.post("/batches", json=body, headers=admin)).json()
            (one,) = told["rows"]
            assert (one["carried_out"], len(one["would_end"])) == (True, 1)

    run_virtual(main())


def test_the_example_is_what_it_shows() -> None:
    extra: Any = representations.Plan.model_config["json_schema_extra"]
    for example in extra["examples"]:
        shown = representations.Plan.model_validate(example)
        assert set(example) == set(representations.Plan.model_fields)
        assert shown.model_dump() == example
