"""What is known of the teardowns: by subject, kept in a file, and never in the way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from orchestrator.waiting import Knowledge, KnowledgeFile, Subject, Waited

LAB, OTHER, SAVED = (
    Subject(lab_profile_id=1001, kind="platform 20"),
    Subject(lab_profile_id=1002, kind="platform 20"),
    Subject(lab_profile_id=1001, kind="platform 20", step="save"),
)


def knowing(*highs: float, subject: Subject = LAB) -> Knowledge:
    """Knowledge of waits that ended within two seconds before these times."""
    knowledge = Knowledge()
    for high in highs:
        low = 900.0 if high == math.inf else high - 2
        knowledge.record(subject, Waited(low=low, high=high, looks=3))
    return knowledge


def test_each_subject_has_a_law_of_its_own_and_helps_its_kind() -> None:
    knowledge = knowing(*[40.0] * 20)
    for _ in range(20):
        knowledge.record(SAVED, Waited(low=200.0, high=210.0, looks=2))
    ours, saved = knowledge.typical(LAB), knowledge.typical(SAVED)
    assert ours is not None
    assert saved is not None
    assert 37 < ours.p50 < 41
    assert 190 < saved.p50 < 215
    # Never waited for, so nothing is said of it; but its first look already profits.
    assert knowledge.typical(OTHER) is None
    assert 35 < knowledge.schedule(OTHER).looks()[0] < 60


def test_the_table_tells_observations_times_looks_and_idle_seconds() -> None:
    (row,) = knowing(40.0, 42.0, 41.0, math.inf).rows()
    assert (row.name, row.kind, row.typical.observations, row.looks) == (
        "1001",
        "platform 20",
        4,
        3,
    )
    assert 35 < row.typical.p50 < 45
    assert 0 < row.idle < 2
    assert row.announced == 0


def test_an_announcement_counts_even_if_a_look_was_first() -> None:
    early, late = knowing(*[40.0] * 3), knowing(*[40.0] * 3)
    for knowledge in (early, late):
        knowledge.record(LAB, Waited(low=40.0, high=40.0, looks=0))
        knowledge.record(LAB, Waited(low=38.0, high=40.0, looks=2))
    late.found(7, LAB, earliest=1000.0, latest=1002.0)
    late.announced(7, at=1004.0)
    late.announced(7, at=1004.5)
    late.announced(8, at=1004.0)
    arrivals = late.schedule(LAB).arrivals
    assert arrivals.expected > early.schedule(LAB).arrivals.expected
    assert 0 < arrivals.delay <= 4


def test_an_announcement_that_is_hours_late_tells_nothing() -> None:
    knowledge = knowing(40.0)
    knowledge.found(7, LAB, earliest=1000.0, latest=1002.0)
    knowledge.announced(7, at=9000.0)
    assert knowledge.schedule(LAB).arrivals.expected == 0


def test_what_is_known_can_be_stored_and_taken_up() -> None:
    knowledge = knowing(40.0, 42.0, 41.0, math.inf)
    knowledge.record(SAVED, Waited(low=200.0, high=210.0, looks=2))
    again = Knowledge.from_json(knowledge.to_json())
    assert again.rows()[0].typical.observations == 4
    assert [r.name for r in again.rows()] == ["1001", "1001 save"]
    assert again.history("1001") == knowledge.history("1001")
    ours, theirs = knowledge.typical(LAB), again.typical(LAB)
    assert ours is not None
    assert theirs is not None
    assert theirs.p50 == pytest.approx(ours.p50, rel=0.05)
    # A relative that was stored goes on learning from those who come after.
    again.record(OTHER, Waited(low=38.0, high=40.0, looks=1))
    assert again.schedule(LAB).relatives is again.schedule(OTHER).relatives


def test_what_is_stored_after_every_wait_learns_as_well_as_what_is_not() -> None:
    kept, stored = (knowing(*[50.0] * 20, subject=OTHER) for _ in range(2))
    for high in (200.0, 210.0, 205.0) * 10:
        stored = Knowledge.from_json(stored.to_json())
        for knowledge in (kept, stored):
            knowledge.schedule(LAB).next_delay(0.0, 1)
            knowledge.record(LAB, Waited(low=high - 5, high=high, looks=2))
    ours, theirs = stored.typical(LAB), kept.typical(LAB)
    assert ours is not None
    assert theirs is not None
    assert ours.p10 == pytest.approx(theirs.p10, rel=0.1)
    assert ours.p90 == pytest.approx(theirs.p90, rel=0.1)
    assert stored.schedule(LAB).looks()[0] == pytest.approx(kept.schedule(LAB).looks()[0], rel=0.1)


def test_another_deadline_or_cost_takes_the_waits_along() -> None:
    again = Knowledge.from_json(knowing(*[40.0] * 9).to_json(), cost_per_look=0.5, deadline=300.0)
    schedule = again.schedule(LAB)
    assert (schedule.cost_per_look, schedule.deadline) == (0.5, 300.0)
    assert schedule.law.observations == 9
    assert again.schedule(OTHER).law.relatives is not None
    assert schedule.law.relatives is not None
    assert schedule.law.relatives.observations == 9


def test_what_was_not_needed_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.waiting.knowledge.SUBJECTS", 2)
    knowledge = knowing(40.0)
    knowledge.record(OTHER, Waited(low=1.0, high=2.0, looks=1))
    knowledge.record(LAB, Waited(low=1.0, high=2.0, looks=1))
    knowledge.record(SAVED, Waited(low=1.0, high=2.0, looks=1))
    assert {row.name for row in knowledge.rows()} == {"1001", "1001 save"}
    with pytest.raises(KeyError):
        knowledge.history("1002")


def test_a_file_keeps_it(tmp_path: Path) -> None:
    file = KnowledgeFile(tmp_path / "not" / "there" / "teardowns.json")
    assert file.load().rows() == ()
    assert file.save(knowing(40.0, 41.0))
    assert [row.typical.observations for row in file.load().rows()] == [2]
    assert [p.name for p in file.path.parent.iterdir()] == ["teardowns.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema":2}', '{"schema":1}', '{"schema":1,"all":{}}']
)
def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "teardowns.json"
    path.write_text(text, encoding="utf-8")
    assert KnowledgeFile(path).load().rows() == ()
    assert path.with_suffix(".unreadable").read_text(encoding="utf-8") == text
    assert not path.exists()


def test_a_damaged_entry_is_refused_as_a_whole() -> None:
    state = json.loads(knowing(40.0).to_json())
    state["subjects"]["1001"]["history"] = [[None, 1, 1]]
    with pytest.raises(ValueError, match="history"):
        Knowledge.from_json(json.dumps(state))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert not KnowledgeFile(tmp_path / "file" / "teardowns.json").save(knowing(40.0))
    # A folder where the file should be: neither readable nor replaceable.
    assert not KnowledgeFile(tmp_path).save(knowing(40.0))
    assert KnowledgeFile(tmp_path).load().rows() == ()
