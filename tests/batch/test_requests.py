"""What is asked for becomes a batch, or is refused with every problem at once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import LaunchParameters, Policy
from orchestrator.batch.requests import MOST_ITEMS, Row, batch_of, relaunch_id_of
from orchestrator.durable.batches import Batch, Pace
from orchestrator.errors import InvalidBatch

AT = 1_700_000_000.0
ROWS = [Row(user_id="ada", lab_profile_id=1), Row(user_id="bob", lab_profile_id=1)]


def made(rows: list[Row] = ROWS, **more: Any) -> Batch:
    given: dict[str, Any] = {"policy": Policy(), "consumer": "default", "at": AT} | more
    return batch_of(rows, **given)[0]


def test_items_are_numbered_in_order() -> None:
    batch, items = batch_of(ROWS, policy=Policy(), consumer="default", at=AT)
    assert batch.total == 2
    assert [(item.number, item.user_id) for item in items] == [(1, "ada"), (2, "bob")]


@pytest.mark.parametrize(
    "change",
    [
        {"at": AT + 5},
        {"pace": Pace(concurrency=3)},
        {"policy": Policy(deadline_seconds=5, allow_exam=True)},
        {"note": "before the lesson"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_same_request_is_the_same_batch(change: dict[str, Any]) -> None:
    assert made(**change).batch_id == made().batch_id
    assert re.fullmatch(r"[0-9a-f]{10}", made().batch_id)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("fewer", {"rows": ROWS[:1]}),
        ("another order", {"rows": ROWS[::-1]}),
        ("parameters", {"rows": [replace(ROWS[0], parameters=LaunchParameters(lang="de"))]}),
        ("named", {"rows": [replace(ROWS[0], displace_instance_id=5)]}),
        ("freed", {"policy": Policy(launch=False)}),
        ("saved", {"policy": Policy(displace="save")}),
        ("consumer", {"consumer": "another"}),
        ("selected", {"selection": "all"}),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_another_request_is_another_batch(name: str, change: dict[str, Any]) -> None:
    assert made(**change).fingerprint != made().fingerprint, name


def test_a_selection_is_known_again_by_its_words_and_found_another_time_anew() -> None:
    first, later = made(selection="all"), made(ROWS[:1], selection="all", at=AT + 60)
    assert first.fingerprint == later.fingerprint
    assert first.batch_id != later.batch_id


def test_everything_wrong_is_told_at_once_and_with_its_place() -> None:
    rows = [
        Row(user_id=" ", lab_profile_id=1),
        Row(user_id="ada", lab_profile_id=0),
        Row(user_id="bob", lab_profile_id=2),
        Row(user_id="bob", lab_profile_id=2),
        Row(user_id="eve", lab_profile_id=2, displace_instance_id=-1),
        Row(user_id="x", lab_profile_id=2, parameters=LaunchParameters(tag="a\nb")),
    ]
    pace = Pace(concurrency=0, per_minute=-1.0, wait_seconds=float("inf"))
    with pytest.raises(InvalidBatch) as caught:
        made(rows, batch_id="no spaces", pace=pace)
    assert [field for field, _ in caught.value.problems] == [
        "batch_id", "concurrency", "per_minute", "wait_seconds", "items[0].user_id",
        "items[1].lab_profile_id", "items[3]", "items[4].displace_instance_id", "items[5].tag",
    ]  # fmt: skip
    assert "items[2]" in dict(caught.value.problems)["items[3]"]


def test_a_note_that_can_not_be_sent_is_told_once() -> None:
    with pytest.raises(InvalidBatch) as caught:
        made(note="two\nlines")
    assert [field for field, _ in caught.value.problems] == ["note"]


@pytest.mark.parametrize("rows", [[], ROWS[:1] * (MOST_ITEMS + 1)], ids=["none", "too many"])
def test_none_and_too_many_are_refused(rows: list[Row]) -> None:
    with pytest.raises(InvalidBatch, match="items: "):
        made(rows)


def test_a_long_list_of_problems_is_cut_in_the_message_and_whole_in_the_error() -> None:
    rows = [Row(user_id="", lab_profile_id=number) for number in range(1, 101)]
    with pytest.raises(InvalidBatch, match="and 80 more") as caught:
        made(rows)
    assert len(caught.value.problems) == 100


def test_each_attempt_of_each_item_has_a_relaunch_id_of_its_own() -> None:
    batch = made()
    anew = replace(batch, created_at=AT + 1)
    ids = {
        relaunch_id_of(which, consumer, number, attempt)
        for which in (batch, anew)
        for consumer in ("default", "another")
        for number in (1, 2)
        for attempt in (1, 2)
    }
    assert len(ids) == 16
    assert all(re.fullmatch(r"[0-9a-f]{32}", found) for found in ids)
