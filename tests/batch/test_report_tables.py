"""The report as CSV, which a spreadsheet opens, and as JSON; and both in little memory."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.outcomes import outcome_of_stored, plain_outcome
from orchestrator.batch.report import (
    FORMATS,
    MEDIA_TYPES,
    Format,
    file_name,
    format_of,
    report,
    stored_report,
)
from orchestrator.batch.report.kept import CHUNK, KeptText
from orchestrator.batch.report.tables import COLUMNS
from orchestrator.durable.batches import BatchState, Item, ItemResult, StoredItem
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import InvalidRequest, UnknownBatch
from orchestrator.labs import LaunchParameters
from tests.batch.reported import BEGUN, batch, class_of, marks, stored


def written(items: list[StoredItem], format: Format, **options: Any) -> str:
    return "".join(report(batch(len(items), **options), items, format=format, at=BEGUN + 9000))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_a_csv_has_the_outcome_of_every_learner() -> None:
    item = stored(
        3,
        lab_instance_id=12,
        cancelled_instance_ids=(10, 11),
        waited_seconds=60.5,
        api_calls=7,
        marks=marks(("tearing_down", 5), ("launching", 40)),
        message="Lab instance 12 was launched.",
    )
    (row,) = rows(written([item], "csv"))
    assert row == {
        "batch_id": "networking-thu",
        "number": "3",
        "user_id": "learner-0003",
        "lab_profile_id": "1001",
        "outcome": "launched",
        "reason": "",
        "message": "Lab instance 12 was launched.",
        "lab_instance_id": "12",
        "cancelled_instance_ids": "10 11",
        "saved_instance_ids": "",
        "relaunch_id": "relaunch-3",
        "attempt": "1",
        "begun_at": "2026-11-01T18:00:00Z",
        "ended_at": "2026-11-01T18:01:00Z",
        "waited_seconds": "60.5",
        "api_calls": "7",
        "teardown_seconds": "40.0",
    }


def test_its_columns_are_those_of_an_outcome_and_new_ones_come_last() -> None:
    told = [key for key in plain_outcome(outcome_of_stored("b", stored())) if key != "url"]
    assert list(COLUMNS) == [*told, "teardown_seconds"]


def test_excel_reads_it_by_double_click() -> None:
    text = written([stored(user_id="Ærøskøbing-李")], "csv")
    assert text.encode().startswith(b"\xef\xbb\xbf")
    assert text.count("\r\n") == text.count("\n") == 2
    assert rows(text)[0]["user_id"] == "Ærøskøbing-李"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝"])  # noqa: RUF001
def test_no_cell_is_a_formula(first: str) -> None:
    evil = f'{first}HYPERLINK("https://evil.example","x")'
    item = stored(outcome="failed", user_id=evil, reason=evil, message=evil)
    for row in rows(written([item], "csv")):
        assert row["user_id"] == "'" + evil
        assert not any(cell.startswith(first) for cell in row.values())


def test_commas_quotes_and_lines_stay_in_their_cell() -> None:
    user = 'a,"b"\r\nc;d'
    assert [row["user_id"] for row in rows(written([stored(user_id=user)], "csv"))] == [user]


def test_a_lone_surrogate_breaks_no_file() -> None:
    for format in FORMATS:
        written([stored(user_id="a\ud800b")], format).encode()


def test_what_has_not_ended_is_in_both_without_an_end() -> None:
    item = Item(number=1, user_id="ada", lab_profile_id=1)
    under_way = StoredItem(item=item, attempt=1, relaunch_id="r", begun_at=BEGUN)
    items = [under_way, StoredItem(item=Item(number=2, user_id="bob", lab_profile_id=1))]
    found = rows(written(items, "csv", state=BatchState.STOPPED))
    assert [row["outcome"] for row in found] == ["under_way", "waiting"]
    assert {row["ended_at"] for row in found} == {""}
    told = json.loads(written(items, "json", state=BatchState.STOPPED))
    assert [(one["outcome"], one["ended_at"]) for one in told["learners"]] == [
        ("under_way", None),
        ("waiting", None),
    ]
    assert (told["counts"]["in_flight"], told["counts"]["waiting"]) == (1, 1)


def test_json_is_one_object_summary_first() -> None:
    items = list(class_of(40, labs=(1001, 1002), trouble=0.2))
    text = written(items, "json")
    told = json.loads(text)
    assert list(told) == ["batch", "at", "counts", "teardown", "learners"]
    assert told["batch"]["batch_id"] == "networking-thu"
    assert told["counts"]["total"] == len(told["learners"]) == 40
    ok = sum(item.result is not None and item.result.ok for item in items)
    assert (told["counts"]["ok"], told["counts"]["not_ok"]) == (ok, 40 - ok)
    assert told["counts"]["api_calls"] == sum(one["api_calls"] for one in told["learners"])
    spread = told["teardown"]
    assert spread["p10"] < spread["median"] < spread["p90"] <= spread["longest"]
    assert set(spread["by_lab"]) == {"1001", "1002"}
    times = [one["teardown_seconds"] for one in told["learners"]]
    assert sum(time is not None for time in times) == spread["count"]
    assert told["learners"][0]["marks"][0] == ["new", round(items[0].begun_at or 0.0, 3)]


def test_teardown_times_are_those_of_the_labs_that_were_ended() -> None:
    items = list(class_of(10, labs=(1002,)))
    ended = [
        replace(item, result=item.result and replace(item.result, ended_lab_profile_id=1001))
        for item in items
    ]
    assert set(json.loads(written(ended, "json"))["teardown"]["by_lab"]) == {"1001"}


def test_an_empty_batch_is_whole_in_every_format() -> None:
    assert rows(written([], "csv")) == []
    assert written([], "csv").startswith("\ufeffbatch_id,number,")
    assert json.loads(written([], "json"))["learners"] == []
    assert "nothing was done" in written([], "html")


@pytest.mark.parametrize("format", FORMATS)
def test_no_report_tells_a_way_in_or_who_a_learner_is(format: Format) -> None:
    parameters = LaunchParameters(
        first_name="Ada-Secret", email="ada@secret.example", variables={"pin": "4711-secret"}
    )
    said = "Failed: the platform says: go to HTTPS://labs.secret.example/enter?t=1 now."
    item = StoredItem(
        item=Item(number=1, user_id="ada", lab_profile_id=1, parameters=parameters),
        attempt=1,
        relaunch_id="r",
        begun_at=BEGUN,
        ended_at=BEGUN + 1,
        result=ItemResult(outcome="failed", reason="launch_error", message=said),
    )
    text = written([item], format)
    assert "secret" not in text.lower()
    assert "go to (address left out) now." in text


def test_a_csv_goes_out_row_by_row() -> None:
    taken: list[int] = []

    def items() -> Iterator[StoredItem]:
        for item in class_of(3):
            taken.append(item.item.number)
            yield item

    chunks = report(batch(3), items(), format="csv", at=BEGUN)
    assert "learner-0001" in next(chunks)
    assert taken == [1]


@pytest.mark.parametrize("format", FORMATS)
def test_memory_hardly_grows_with_the_learners(format: Format) -> None:
    def peak(total: int) -> int:
        tracemalloc.start()
        for chunk in report(batch(total), class_of(total), format=format, at=BEGUN + 1e6):
            assert len(chunk) < 4 * CHUNK
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(300)  # what is made once
    few, many = peak(1000), peak(5000)
    # A stored item is several thousand bytes; of each there stays what is counted and compressed.
    assert (many - few) / 4000 < 600


def test_kept_text_comes_back_whole() -> None:
    kept, pieces = KeptText(), [f"zeile {n} äöü 李 🎓\n" for n in range(20_000)]
    for piece in pieces:
        kept.add(piece)
    chunks = list(kept.chunks())
    assert "".join(chunks) == "".join(pieces)
    assert max(map(len, chunks)) <= CHUNK


@pytest.mark.parametrize("format", FORMATS)
def test_a_store_is_read_page_by_page(format: Format) -> None:
    async def run() -> None:
        store = MemoryRunStore().batches
        made = list(class_of(450))
        asked = batch(450, BatchState.RUNNING)
        await store.create(asked, [item.item for item in made])
        for item in made:
            assert item.result is not None
            assert item.begun_at is not None
            assert item.ended_at is not None
            number = item.item.number
            await store.begin(
                asked.batch_id, number, attempt=1, relaunch_id=f"r{number}", at=item.begun_at
            )
            await store.finish(asked.batch_id, number, item.result, attempt=1, at=item.ended_at)
        parts = [
            part
            async for part in stored_report(store, asked.batch_id, format=format, at=BEGUN + 9000)
        ]
        kept = await store.items(asked.batch_id)
        whole = "".join(report(asked, kept, format=format, at=BEGUN + 9000))
        assert "".join(parts) == whole
        assert "learner-0450" in whole

    asyncio.run(run())


def test_an_unknown_batch_is_said_before_anything_is_given() -> None:
    async def run() -> None:
        with pytest.raises(UnknownBatch):
            await anext(stored_report(MemoryRunStore().batches, "none", format="csv", at=BEGUN))

    asyncio.run(run())


def test_a_files_ending_says_the_format() -> None:
    assert [format_of(f"out.{ending}") for ending in ("csv", "JSON", "html")] == list(FORMATS)
    assert format_of(Path("a.b") / "Report.HTML") == "html"
    for wrong in ("out", "out.pdf", "csv"):
        with pytest.raises(InvalidRequest, match=r"\.csv, \.json and \.html"):
            format_of(wrong)
    assert file_name(batch(1), "csv") == "batch-networking-thu.csv"
    assert set(MEDIA_TYPES) == set(FORMATS)
