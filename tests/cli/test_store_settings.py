"""Where relaunches are kept: the settings, the doctor's line, and that no password is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.settings import load, shown_values
from orchestrator.cli.store_url import shown
from orchestrator.errors import ConfigurationError
from tests.cli.processes import await_line, durable, end_of, run_command, running, tear_down, told
from tests.cli.test_cli import environment, relaunch, serving

PASSWORD = "s3cret"  # what must never be seen
LOCKED = f"postgresql://ann:{PASSWORD}@127.0.0.1:9/labs"


def test_by_default_it_is_a_file_in_the_users_state_folder(tmp_path: Path) -> None:
    with serving() as (_, env):
        del env["RELAUNCH_STORE__URL"]
        env["XDG_STATE_HOME"] = str(tmp_path)
        assert relaunch(env, *run_command()).returncode == 0
        file = tmp_path / "lab-relaunch" / "relaunch.db"
        assert file.is_file()
        assert file.stat().st_mode & 0o077 == 0
        assert len(told(env, "runs", "list")["relaunches"]) == 1
        (named,) = told(env, "runs", "list", "--store", f"sqlite:///{file}")["relaunches"]
        assert named["user_id"] == "ann"


def test_learners_of_different_platforms_never_meet(tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "relaunch.db")]
    with serving() as (_, env), serving() as (_, other):
        assert relaunch(env, *run_command(), *store).returncode == 0
        assert told(other, "runs", "list", *store)["relaunches"] == []
        label = {"RELAUNCH_STORE__CONSUMER": "ours"}
        assert relaunch(env | label, *run_command(), *store).returncode == 0
        (ours,) = told(other | label, "runs", "list", *store)["relaunches"]
        (theirs,) = told(env, "runs", "list", *store)["relaunches"]
        assert ours["relaunch_id"] != theirs["relaunch_id"]


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("auto", "auto"),
        ("labs/relaunch.db", "labs/relaunch.db"),
        ("sqlite:////var/relaunch.db", "sqlite:////var/relaunch.db"),
        (LOCKED, "postgresql://ann@127.0.0.1:9/labs"),
        ("postgresql://h1:1,h2/labs?password=s3cret", "postgresql://h1:1,h2/labs"),
        # Characters that should have been escaped: what is the password, nobody can tell.
        ("postgresql://ann:s3/cret@h/labs", "postgresql://**********"),
        ("postgresql://ann:s3?cret@h/labs", "postgresql://**********"),
        ("postgresql://ann:s3#cret@h/labs", "postgresql://**********"),
        ("postgresql://ann:s3@cret@h/labs", "postgresql://**********"),
    ],
)
def test_a_store_shows_itself_without_its_password(url: str, seen: str) -> None:
    assert shown(url) == seen
    loaded = load(None, {"store.url": url}, {})
    assert {key: value for key, value, _ in shown_values(loaded)}["store.url"] == seen
    assert url in (seen, loaded.settings.store.url.get_secret_value())
    assert PASSWORD not in repr(loaded)


@pytest.mark.parametrize(
    "url", [f"mysql://ann:{PASSWORD}@h/labs", "sqlite:///", f"host=h password={PASSWORD}"]
)
def test_what_is_no_store_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"flag: store\.url: takes auto") as caught:
        load(None, {"store.url": url}, {})
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("store.keep_days", -1),
        ("store.consumer", ""),
        ("traffic.calls_per_second", 0),
        ("traffic.burst", 0),
        ("traffic.most_in_flight", 0),
        ("worker.concurrency", 0),
        ("worker.heartbeat_seconds", 0),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=key):
        load(None, {key: value}, {})


def test_a_database_that_is_away_is_told_without_the_password() -> None:
    with serving() as (sandbox, env):
        done = relaunch(env | {"RELAUNCH_STORE__URL": LOCKED}, *run_command())
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "store_unavailable")
        assert PASSWORD not in done.stdout + done.stderr
        assert sandbox.ledger.requests == []
    shown = relaunch(environment() | {"RELAUNCH_STORE__URL": LOCKED}, "config").stdout
    assert "ann@127.0.0.1" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("missing", ["psycopg", "procrastinate"])
def test_a_missing_driver_is_told_in_one_sentence(missing: str) -> None:
    blocked = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from orchestrator.cli.app import run\n"
        "sys.exit(run(['run', '--user', 'ann', '--lab', '1']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked],
        env=environment("http://127.0.0.1:9/api/v3") | {"RELAUNCH_STORE__URL": LOCKED},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert f"needs {missing}" in done.stderr
    assert "pip install 'lab-relaunch[fleet]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_doctor_looks_at_the_store(tmp_path: Path) -> None:
    with serving() as (_, env):
        file = tmp_path / "relaunch.db"
        done = relaunch(env, "doctor", "--store", str(file))
        assert done.returncode == 0
        assert f"ok   store: {file} is reachable and fits schema 2; 0 unfinished." in done.stdout
        assert "ok   store: none" in relaunch(env, "doctor").stdout
        done = relaunch(env, "doctor", "--store", LOCKED)
        assert done.returncode == 1
        assert "FAIL store: postgresql://ann@127.0.0.1:9/labs" in done.stdout
        assert PASSWORD not in done.stdout + done.stderr
        file.write_text("this is no database, whatever it is\n" * 99)
        assert relaunch(env, "doctor", "--store", str(file)).returncode == 1


def test_all_processes_of_a_store_share_one_budget_of_calls(tmp_path: Path) -> None:
    with serving() as (sandbox, env):
        one_call = {"RELAUNCH_TRAFFIC__CALLS_PER_SECOND": "0.001", "RELAUNCH_TRAFFIC__BURST": "1"}
        arguments = ["--deadline", "1", "--store", str(tmp_path / "relaunch.db")]
        for user in ("ann", "bob"):
            done = relaunch(env | one_call, *run_command(user), *arguments)
            assert (done.returncode, json.loads(done.stdout)["outcome"]) == (4, "timed_out")
        assert [request.user_id for request in sandbox.ledger.requests] == ["ann"]


def test_only_so_many_relaunches_are_in_flight(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path) | {"RELAUNCH_TRAFFIC__MOST_IN_FLIGHT": "1"}
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command("ann")) as one:
            await_line(one, "Waiting while")
            with running(env, *run_command("bob")) as two:
                await_line(two, "Next in line")
                tear_down(sandbox, old)
                assert end_of(one)[0] == end_of(two)[0] == 0
        launches = [effect.user_id for effect in sandbox.ledger.of("launched")]
        assert launches == ["ann", "bob"]
