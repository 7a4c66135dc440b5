"""The report of a class that was really reset (against the sandbox, in virtual time)."""

from __future__ import annotations

import json
import re

from orchestrator import Policy
from orchestrator.batch.report import stored_report
from orchestrator.batch.requests import Row
from orchestrator.durable.batches import BatchStore
from orchestrator.testing.virtual import run_virtual
from tests.batch.classroom import EXAM, NEW_LAB, Classroom


async def reported(store: BatchStore, batch_id: str, at: float) -> tuple[str, dict[str, object]]:
    page = "".join([c async for c in stored_report(store, batch_id, format="html", at=at)])
    told = "".join([c async for c in stored_report(store, batch_id, format="json", at=at)])
    return page, json.loads(told)


def headline(page: str) -> str:
    found = re.search('<p class="headline">(.*?)</p>', page)
    assert found is not None
    return found[1]


def test_a_class_with_an_exam_in_it() -> None:
    async def test() -> None:
        room = Classroom(11)
        room.sandbox.world.give("examinee", EXAM)
        rows = [*room.rows(), Row(user_id="examinee", lab_profile_id=NEW_LAB)]
        batch = await room.batch(rows, concurrency=4)
        await room.carry_out(batch)
        page, told = await reported(room.store.batches, batch.batch_id, room.clock.now())
        assert headline(page) == (
            "11 of 12 learners have the lab asked for; 1 does not: 1 exam left alone."
        )
        assert "ending it would destroy the attempt" in page
        assert "https://" not in page
        assert "http://" not in page
        teardown = told["teardown"]
        assert isinstance(teardown, dict)
        # The sandbox takes thirty seconds, and a look is taken every five.
        assert teardown["count"] == 11
        assert 30 <= teardown["median"] <= 36
        for phase in ("queue", "f-look", "f-teardown", "f-launch"):
            assert f'class="{phase}"' in page

    run_virtual(test())


def test_a_class_that_is_only_freed() -> None:
    async def test() -> None:
        room = Classroom(5)
        batch = await room.batch(room.rows(lab=1001), policy=Policy(launch=False))
        await room.carry_out(batch)
        page, told = await reported(room.store.batches, batch.batch_id, room.clock.now())
        assert headline(page) == "All 5 learners no longer have the lab that was to end."
        assert "f-launch" not in page.partition("</style>")[2]
        assert told["counts"] == {
            "total": 5, "waiting": 0, "in_flight": 0, "ok": 5, "not_ok": 0, "ended": {"freed": 5},
            "retried": 0, "api_calls": len(room.sandbox.ledger.requests),
        }  # fmt: skip

    run_virtual(test())
