"""The benchmark of durability measures what it says: each measurement in small, and the page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.durability import measuring
from tests.benchmarks.durability.__main__ import measured
from tests.benchmarks.durability.measuring import measure
from tests.benchmarks.durability.report import results

#: One step is one row of the journal: begun, probed, inspected, cancelled, waiting, looked,
#: launched, verified, ended.
STEPS = 9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits as short as a relaunch allows."""
    monkeypatch.setattr(measuring, "TEARDOWN", 0.01)
    monkeypatch.setattr(measuring, "LOOK", 0.25)
    monkeypatch.setattr(measuring, "WARM_UP", 1)


def _rows(found: dict[str, Any]) -> dict[str, float]:
    return {what: rows for what, (_, rows) in found["kept"].items()}


def test_whole_relaunches_are_measured_and_what_is_kept_of_them() -> None:
    bare = measure("bare", "burst", None, {"number": 3})
    kept = measure("sqlite", "burst", None, {"number": 3})
    assert bare["kept"] == {}
    assert _rows(kept) == {"the file": 1 + STEPS}
    for found in (bare, kept):
        assert found["client"] > 0
        assert found["server"] == 0
        assert found["rate"] > 0
    assert measure("bare", "stream", None, {"number": 3, "rate": 50})["client"] > 0


def test_they_are_measured_on_postgres_too(postgres_url: str) -> None:
    found = measure("postgres", "burst", postgres_url, {"number": 3})
    assert _rows(found)["runs and journal"] == 1 + STEPS
    assert found["client"] > 0


def test_hints_end_waits_from_here_and_from_another_process() -> None:
    found = measure("sqlite", "hints", None, {"number": 2, "pause": 0.01})
    assert [len(found[where]) for where in ("here", "elsewhere")] == [2, 2]
    assert all(latency > 0 for latencies in found.values() for latency in latencies)


def test_relaunches_that_wait_are_weighed() -> None:
    # In a process of its own, as the benchmark does it: one that has freed much does not grow.
    found = measured("bare", "waiting", {"number": 300, "seconds": 0.1}, None)
    assert 2_000 < found["memory"] < 50_000
    assert found["client"] < 100


def _found(client: float, server: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"client": client, "server": server, "rate": 100.0, "kept": {}, **more}


def test_the_page_tells_medians_beside_bare_and_which_goals_are_met() -> None:
    found = {
        ("bare", "burst", 9): [_found(1.0), _found(3.0), _found(1.0)],
        ("sqlite", "burst", 9): [_found(2.5), _found(4.4), _found(9.0)],
        ("postgres", "burst", 9): [_found(5.0, 9.0)],
        ("bare", "stream", 9): [_found(2.0)],
        ("sqlite", "hints", 9): [{"here": [1.0, 2.0, 9.0], "elsewhere": [70.0, 80.0, 90.0]}],
        ("sqlite", "waiting", 9): [{"memory": 5000.0, "client": 3.0, "server": 0.0}],
    }
    page = results(found, {"dbos": "no reason"}, "Somewhere.")
    assert "DBOS on PostgreSQL is left out: no reason." in page
    assert "| SQLite, embedded | 4.40 | 0.00 | 4.40 (4.4 x) | 1.50 | 2 | 100 |" in page
    assert "| PostgreSQL + procrastinate | 5.00 | 9.00 | 14.00 (14.0 x) | 13.00 | 6 | 100 |" in page
    verdicts = [line.rpartition(" | ")[2] for line in page.partition("## Goals")[2].splitlines()]
    told = [verdict.removesuffix(" |") for verdict in verdicts if verdict.endswith(" |")]
    assert told[2:] == ["met", "2.2 x the goal", "met", "1.6 x the goal", "met", "1.5 x the goal"]
