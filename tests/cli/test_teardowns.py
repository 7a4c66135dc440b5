"""What ``relaunch`` learns, keeps and shows: real processes, a real sandbox, a real file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from orchestrator.waiting import Knowledge, KnowledgeFile, Subject, Waited
from tests.cli.test_cli import environment, relaunch, run_json, serving


def known(tmp_path: Path, teardowns: int = 30) -> dict[str, str]:
    """An environment with a file that knows two lab profiles."""
    knowledge = Knowledge()
    for n in range(teardowns):
        high = 40.0 + n % 5
        knowledge.record(
            Subject(lab_profile_id=1001, kind="platform 20"),
            Waited(low=high - 2, high=high, looks=2),
        )
    knowledge.record(
        Subject(lab_profile_id=1002, step="save"), Waited(low=900.0, high=math.inf, looks=9)
    )
    KnowledgeFile(tmp_path / "known.json").save(knowledge)
    return environment() | {"RELAUNCH_KNOWLEDGE__FILE": str(tmp_path / "known.json")}


def shown(env: dict[str, str], *arguments: str) -> Any:
    done = relaunch(env, "teardowns", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_relaunch_leaves_what_it_learned_for_the_next(tmp_path: Path) -> None:
    with serving() as (sandbox, env):
        env = env | {"RELAUNCH_KNOWLEDGE__FILE": str(tmp_path / "new" / "known.json")}
        for n in (1, 2):
            sandbox.world.give("ann", 1001) if n == 1 else None
            code, _ = run_json(env)
            assert code == 0
        rows = shown(env, "--json")["teardowns"]
    assert {row["lab"]: row["observations"] for row in rows} == {"1001": 1, "1002": 1}
    assert rows[0]["kind"] == "platform 20"


def test_each_platform_has_a_file_of_its_own(tmp_path: Path) -> None:
    with serving() as (_, env):
        env = env | {"RELAUNCH_KNOWLEDGE__FILE": "auto", "XDG_STATE_HOME": str(tmp_path)}
        run_json(env)
        code, _ = run_json(env)
        assert code == 0
        (file,) = tmp_path.rglob("*.json")
        port = env["SKILLABLE_BASE_URL"].split(":")[-1].split("/")[0]
    assert file.name == f"teardowns-127.0.0.1-{port}.json"


def test_the_table_and_its_json(tmp_path: Path) -> None:
    env = known(tmp_path)
    table = relaunch(env, "teardowns").stdout
    assert "1001" in table
    assert "never" in table
    first, second = shown(env, "--json")["teardowns"]
    assert (first["lab"], first["observations"], first["looks_per_relaunch"]) == ("1001", 30, 2)
    assert 37 < first["p50_seconds"] < 44 < first["p90_seconds"] < 60
    assert 0 < first["idle_seconds"] < 2
    assert (second["lab"], second["p90_seconds"]) == ("1002 save", None)
    (only,) = shown(env, "--json", "--lab", "1002")["teardowns"]
    assert only == second


def test_before_anything_is_known_it_says_so(tmp_path: Path) -> None:
    env = environment() | {"RELAUNCH_KNOWLEDGE__FILE": str(tmp_path / "none.json")}
    assert "Nothing is known yet" in relaunch(env, "teardowns").stdout
    done = relaunch(env, "teardowns", "simulate", "--schedule", "learned")
    assert "nothing to replay" in done.stdout


def test_a_replay_compares_schedules(tmp_path: Path) -> None:
    env = known(tmp_path)
    done = relaunch(
        env, "teardowns", "simulate", "--lab", "1001", "--json", "--cost-per-look", "1",
        "--schedule", "learned", "--schedule", "fixed:60",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["cost_per_look"] == 1
    learned, fixed = told["replayed"]
    assert (fixed["schedule"], fixed["waits"], fixed["looks"]) == ("fixed:60", 30, 1)
    assert learned["cost"] < fixed["cost"] / 2
    assert "learned" in relaunch(env, "teardowns", "simulate", "--schedule", "learned").stdout


def test_the_picture_is_a_picture(tmp_path: Path) -> None:
    done = relaunch(known(tmp_path), "teardowns", "--plot", str(tmp_path / "out.png"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--lab", "7"], "--lab"),
        (["--plot", "no/such/folder/out.png"], "--plot"),
        (["--plot", "out.unheard-of"], "--plot"),
        (["simulate", "--schedule", "sometimes"], "schedule"),
        (["simulate", "--schedule", "fixed:0"], "schedule"),
        (["simulate", "--schedule", "learned", "--cost-per-look", "0"], "cost-per-look"),
        (["simulate"], "schedule"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    done = relaunch(known(tmp_path, teardowns=3), "teardowns", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_kept_nothing_shown() -> None:
    done = relaunch(environment(), "teardowns")
    assert done.returncode == 2
    assert "knowledge.file" in done.stderr
