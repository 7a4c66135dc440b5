"""The command line as a user has it: real processes, a real sandbox on a real port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.settings import load, shown_values
from orchestrator.errors import ConfigurationError
from orchestrator.sandbox import Consumer, Readings, Sandbox
from orchestrator.sandbox.server import SandboxServer

KEY = "sandbox-key"


@contextmanager
def serving(**options: Any) -> Iterator[tuple[Sandbox, dict[str, str]]]:
    """A sandbox on a port, and the environment that leads to it."""
    sandbox = Sandbox(**({"teardown": "fixed:0.3"} | options))
    with SandboxServer(sandbox) as server:
        yield sandbox, environment(server.base_url)


def environment(base_url: str = "", key: str = KEY) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RELAUNCH_", "SKILLABLE_"))}
    here = {"SKILLABLE_API_KEY": key, "SKILLABLE_BASE_URL": base_url}
    return kept | here | {"RELAUNCH_KNOWLEDGE__FILE": "none", "RELAUNCH_STORE__URL": "none"}


def relaunch(
    env: dict[str, str], *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )


def run_json(env: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run ``relaunch run --json`` and read the one object on stdout."""
    done = relaunch(env, "run", "--json", "--user", "ann", "--lab", "1002", *arguments)
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_relaunch_from_end_to_end() -> None:
    with serving() as (sandbox, env):
        old = sandbox.world.give("ann", 1001)
        code, outcome = run_json(env, "--tag", "course", "--variable", "a=b", "--note", "why")
        assert code == 0
        assert outcome["outcome"] == "launched"
        assert outcome["reason"] is None
        assert outcome["cancelled_instance_ids"] == [old.instance_id]
        assert outcome["lab_instance_id"] == sandbox.ledger.launches("ann")[0]
        assert outcome["url"].startswith("http")
        assert (outcome["user_id"], outcome["lab_profile_id"]) == ("ann", 1002)
        assert outcome["api_calls"] == len(sandbox.ledger.requests)
        assert outcome["waited_seconds"] >= 0.3
        assert [e["phase"] for e in outcome["events"]][-1] == "launched"
        tag = sandbox.world.instances[outcome["lab_instance_id"]].tag
        assert tag == f"course relaunch={outcome['relaunch_id']}"


@pytest.mark.parametrize(
    ("options", "lab", "arguments", "code", "outcome", "reason"),
    [
        ({}, 1001, [], 0, "launched", None),
        ({}, 1002, ["--if-running", "reuse"], 0, "reused", "already_running"),
        ({}, 1002, ["--if-running", "refuse"], 3, "refused", "already_running"),
        ({}, 1003, [], 3, "refused", "protected_exam"),
        ({}, 1003, ["--allow-exam"], 0, "launched", None),
        ({"teardown": "never"}, 1001, ["--deadline", "1.5"], 4, "timed_out", None),
        ({"max_active_per_user": 2}, 1001, ["--overlap"], 0, "launched", None),
        (
            {"readings": Readings(user_limit="active_labs_page")},
            1001,
            ["--on-active-labs-page", "choose"],
            0,
            "choose",
            "active_labs_page",
        ),
    ],
)
def test_outcomes_and_exit_codes(
    options: dict[str, Any],
    lab: int,
    arguments: list[str],
    code: int,
    outcome: str,
    reason: str | None,
) -> None:
    with serving(**options) as (sandbox, env):
        sandbox.world.give("ann", lab)
        got, told = run_json(env, *arguments)
        assert (got, told["outcome"]) == (code, outcome)
        assert reason is None or told["reason"] == reason


def test_a_refused_launch_is_exit_1_and_harms_nothing() -> None:
    with serving() as (sandbox, env):
        old = sandbox.world.give("ann", 1001)
        sandbox.world.profiles[1002].refuse_with = 100
        code, outcome = run_json(env)
        assert (code, outcome["reason"]) == (1, "launch_limit_reached")
        assert outcome["left"]["untouched"] == [old.instance_id]
        assert sandbox.ledger.cancels() == []


def test_an_unreachable_platform_is_exit_5() -> None:
    code, outcome = run_json(environment("http://127.0.0.1:9/api/v3"), "--deadline", "1")
    assert (code, outcome["outcome"], outcome["reason"]) == (5, "failed", "platform_unreachable")


def test_a_rejected_key_is_exit_1_and_never_shown() -> None:
    with serving() as (_, env):
        done = relaunch(
            env | {"SKILLABLE_API_KEY": "wrong-9f"}, "run", "--user", "a", "--lab", "1", "--json"
        )
        assert done.returncode == 1
        assert json.loads(done.stdout)["reason"] == "key_rejected"
        assert "wrong-9f" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--lab", "abc", "--user", "a"], "--lab"),
        (["--lab", "1"], "--user"),
        (["--lab", "1", "--user", "a", "--deadline", "-1"], "deadline"),
        (["--lab", "1", "--user", "a", "--if-running", "x"], "--if-running"),
        (["--lab", "0", "--user", "a"], "lab_profile_id"),
        (["--lab", "1", "--user", " "], "user_id"),
        (["--lab", "1", "--user", "a", "--variable", "x"], "--variable"),
        (["--lab", "1", "--user", "a", "--lang", "xx"], "lang"),
        (["--lab", "1", "--user", "a", "--nonsense"], "--nonsense"),
    ],
)
def test_usage_errors_are_exit_2_with_one_json_object(arguments: list[str], named: str) -> None:
    with serving() as (sandbox, env):
        done = relaunch(env, "run", "--json", *arguments)
        assert done.returncode == 2, done
        told = json.loads(done.stdout)
        assert told["outcome"] == "failed"
        assert named in told["message"]
        assert "Traceback" not in done.stderr
        assert all(r.operation != "launch" for r in sandbox.ledger.requests)


def test_no_key_is_exit_2() -> None:
    env = environment("http://127.0.0.1:9", key="")
    done = relaunch(env, "run", "--json", "--user", "a", "--lab", "1")
    assert done.returncode == 2
    assert "SKILLABLE_API_KEY" in json.loads(done.stdout)["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["teardown", "launch", "cancel"])
def test_an_interrupt_ends_at_once_and_says_what_is_left(number: int, where: str) -> None:
    faults = "" if where == "teardown" else f"{where}:hang"
    with serving(teardown="never", faults=faults) as (sandbox, env):
        old = sandbox.world.give("ann", 1001)
        command = [sys.executable, "-m", "orchestrator.cli", "run", "--json"]
        with subprocess.Popen(
            [*command, "--user", "ann", "--lab", "1002"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            mark = {"teardown": "Waiting", "launch": "Trying", "cancel": "Ending"}[where]
            while mark not in process.stderr.readline():
                pass
            while where != "teardown" and not sandbox.ledger.count(where):
                pass
            before = len(sandbox.ledger.requests)
            process.send_signal(number)
            out, _ = process.communicate(timeout=10)
        outcome = json.loads(out)
        assert (process.returncode, outcome["outcome"]) == (130, "aborted")
        left = outcome["left"]
        assert left["tearing_down"] == ([old.instance_id] if where == "teardown" else [])
        assert left["cancel_in_doubt"] == (old.instance_id if where == "cancel" else None)
        assert (left["launch_in_doubt_tag"] is not None) == (where == "launch")
        assert len(sandbox.ledger.requests) == before


def test_progress_goes_to_stderr_and_the_result_to_stdout() -> None:
    with serving() as (sandbox, env):
        sandbox.world.give("ann", 1001)
        done = relaunch(env, "run", "--user", "ann", "--lab", "1002")
        assert done.returncode == 0
        assert "URL: http" in done.stdout
        assert "is torn down" in done.stderr
        assert "is torn down" not in done.stdout


def test_logs_are_allow_listed_and_user_ids_can_be_hashed() -> None:
    with serving() as (sandbox, env):
        sandbox.world.give("ann-user", 1001)
        logging = {
            "RELAUNCH_LOGGING__LEVEL": "DEBUG",
            "RELAUNCH_LOGGING__FORMAT": "json",
            "RELAUNCH_LOGGING__HASH_USER_IDS": "salt",
        }
        arguments = ["--user", "ann-user", "--lab", "1002", "--email", "ann@x.org"]
        done = relaunch(env | logging, "run", "--json", *arguments)
        lines = [json.loads(x) for x in done.stderr.splitlines() if x.startswith("{")]
        assert {x["event"] for x in lines} == {"platform_call", "relaunch_progress"}
        logged = json.dumps(lines)
        assert "user-" in logged
        for secret in (KEY, "ann-user", "ann@x.org", "http", "salt"):
            assert secret not in logged


def test_labs_are_shown() -> None:
    with serving() as (sandbox, env):
        assert "has no labs" in relaunch(env, "labs", "--user", "ann").stdout
        running = sandbox.world.give("ann", 1003)
        saved = sandbox.world.give("ann", 1001, state="Saved")
        shown = relaunch(env, "labs", "--user", "ann").stdout
        assert str(running.instance_id) in shown
        assert "exam" in shown
        told = json.loads(relaunch(env, "labs", "--user", "ann", "--json").stdout)
        assert told["saved"][0]["instance_id"] == saved.instance_id


def test_cancel_looks_before_and_waits_after() -> None:
    with serving() as (sandbox, env):
        mine = str(sandbox.world.give("ann", 1001).instance_id)
        exam = str(sandbox.world.give("bob", 1003).instance_id)
        other = sandbox.world.add_consumer(Consumer(api_key="other"))
        foreign = str(sandbox.world.give("eve", 1001, consumer=other).instance_id)
        done = relaunch(env, "cancel", "--instance", mine, "--wait", "--json")
        assert (done.returncode, json.loads(done.stdout)["torn_down"]) == (0, True)
        again = relaunch(env, "cancel", "--instance", mine, "--json")
        assert (again.returncode, json.loads(again.stdout)["outcome"]) == (0, "gone")
        assert relaunch(env, "cancel", "--instance", exam).returncode == 3
        assert relaunch(env, "cancel", "--instance", foreign).returncode == 3
        assert relaunch(env, "cancel", "--instance", exam, "--allow-exam").returncode == 0
        assert len(sandbox.ledger.cancels()) == 2


@pytest.mark.parametrize(
    ("state", "faults", "reason"),
    [
        ("Saving", [], "protected_saving"),
        ("Scoring", [], "protected_scoring"),
        ("Running", ["details:status_0*0"], "instance_not_described"),
    ],
)
def test_cancel_leaves_alone_what_a_relaunch_would_leave_alone(
    state: str, faults: list[str], reason: str
) -> None:
    with serving() as (sandbox, env):
        mine = str(sandbox.world.give("ann", 1001, state=state).instance_id)
        for fault in faults:
            sandbox.faults.add(fault)
        done = relaunch(env, "cancel", "--instance", mine, "--json")
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (3, reason)
        assert sandbox.ledger.cancels() == []


def test_a_cancel_that_outlasts_its_deadline_is_exit_4() -> None:
    with serving(teardown="never") as (sandbox, env):
        mine = str(sandbox.world.give("ann", 1001).instance_id)
        done = relaunch(env, "cancel", "--instance", mine, "--wait", "--deadline", "1")
        assert done.returncode == 4


def test_the_doctor_has_a_line_for_each_check() -> None:
    with serving() as (sandbox, env):
        sandbox.world.give("ann", 1001)
        done = relaunch(env, "doctor")
        assert done.returncode == 0
        for name in ("configuration", "reachability", "key", "clock", "labs"):
            assert f"ok   {name}:" in done.stdout
        assert "1 active" in done.stdout
        assert relaunch(env | {"SKILLABLE_API_KEY": "x"}, "doctor").returncode == 1
    gone = relaunch(environment("http://127.0.0.1:9"), "doctor", "--json")
    assert gone.returncode == 5
    assert json.loads(gone.stdout)["ok"] is False
    assert relaunch(environment("nonsense"), "doctor").returncode == 2


def test_the_demo_works_without_a_terminal() -> None:
    done = relaunch(environment(), "demo", "--teardown", "0.5")
    assert done.returncode == 0, done.stderr
    assert "What happened:" in done.stdout
    assert "Never more than 1 lab alive at once" in done.stdout
    assert "New lab: http" in done.stdout


def test_the_sandbox_command_serves_until_it_is_interrupted() -> None:
    with subprocess.Popen(
        [
            sys.executable, "-m", "orchestrator.cli", "sandbox", "--port", "0",
            "--give", "ann:1001", "--teardown", "fixed:0.1", "--reading", "empty_lists=null",
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[2]
        code, outcome = run_json(environment(base_url))
        assert (code, outcome["outcome"]) == (0, "launched")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)


@pytest.mark.parametrize("wrong", ["--teardown=x", "--faults=x", "--reading=x=1", "--give=a:9"])
def test_the_sandbox_command_refuses_nonsense(wrong: str) -> None:
    done = relaunch(environment(), "sandbox", "--port", "0", wrong)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


class TestSettings:
    """Layers, sources and refusals."""

    def test_each_layer_wins_over_the_one_before(self, tmp_path: Path) -> None:
        file = tmp_path / "my.toml"
        file.write_text('[policy]\nif_running = "reuse"\nmax_recancels = 1\n', encoding="utf-8")
        env = {"RELAUNCH_POLICY__MAX_RECANCELS": "5", "SKILLABLE_API_KEY": "k"}
        loaded = load(file, {"policy.deadline_seconds": 60.0}, env)
        policy = loaded.policy()
        assert (policy.if_running, policy.max_recancels, policy.deadline_seconds) == (
            "reuse",
            5,
            60.0,
        )
        sources = {key: source for key, _, source in shown_values(loaded)}
        assert sources["policy.if_running"] == str(file)
        assert sources["policy.max_recancels"] == "environment"
        assert sources["policy.deadline_seconds"] == "flag"
        assert sources["policy.probe"] == "default"

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[policy]\nprope = true\n", "policy.prope"),
            ("[polizy]\nprobe = true\n", "polizy"),
            ("probe = true\n", "probe"),
            ('[policy]\nprobe = "perhaps"\n', "policy.probe"),
            ('[schedule]\nteardown = "sometimes"\n', "schedule.teardown"),
            ("[policy\n", "cannot be read"),
        ],
    )
    def test_a_wrong_file_is_refused_by_name(self, tmp_path: Path, text: str, named: str) -> None:
        file = tmp_path / "my.toml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigurationError, match=named) as caught:
            load(file, None, {})
        assert str(file) in str(caught.value)

    def test_a_wrong_environment_is_refused_by_name(self) -> None:
        with pytest.raises(ConfigurationError, match="RELAUNCH_POLICY__PROPE"):
            load(None, None, {"RELAUNCH_POLICY__PROPE": "1"})
        with pytest.raises(ConfigurationError, match=r"environment: policy\.max_recancels"):
            load(None, None, {"RELAUNCH_POLICY__MAX_RECANCELS": "many"})

    def test_the_config_command_masks_the_key(self, tmp_path: Path) -> None:
        (tmp_path / "relaunch.toml").write_text('[logging]\nlevel = "INFO"\n', encoding="utf-8")
        done = relaunch(environment("https://x.org"), "config", "--json", cwd=tmp_path)
        told = json.loads(done.stdout)
        assert told["logging.level"] == {"value": "INFO", "source": "relaunch.toml"}
        assert told["platform.base_url"]["source"] == "environment"
        assert KEY not in done.stdout
        assert set(told["platform.api_key"]["value"]) == {"*"}


def test_a_missing_extra_is_told_in_one_sentence() -> None:
    blocked = "import sys; sys.modules['typer'] = None\nfrom orchestrator.cli import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert "pip install 'lab-relaunch[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
