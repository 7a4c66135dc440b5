"""``relaunch reset`` as an instructor has it: real processes, over HTTP, and each learner once."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.app import run
from orchestrator.sandbox import Sandbox
from tests.cli.processes import await_line, await_requests, durable, running, told, unfinished
from tests.cli.test_cli import KEY, relaunch, serving

LEARNERS = [f"learner-{number}" for number in range(8)]


@contextmanager
def a_class(
    tmp_path: Path, *, learners: list[str] = LEARNERS, **options: Any
) -> Iterator[tuple[Sandbox, dict[str, str], str]]:
    """A class whose learners have the lab 1001: the sandbox, the environment, and their list."""
    with serving(**options) as (sandbox, env):
        for learner in learners:
            sandbox.world.give(learner, 1001)
        yield sandbox, durable(env, tmp_path), listed(tmp_path, learners)


def listed(tmp_path: Path, learners: list[str], lab: int = 1002) -> str:
    """A list of learners, each with the lab that they are to have."""
    file = tmp_path / "class.csv"
    rows = "".join(f"{learner},{lab}\n" for learner in learners)
    file.write_text(f"user,lab\n{rows}", encoding="utf-8")
    return str(file)


def reset(
    env: dict[str, str], *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "reset", *arguments],
        env=env,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert KEY not in done.stdout + done.stderr
    return done


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of a JSON stream."""
    return [json.loads(line) for line in text.splitlines()]


def each_once(sandbox: Sandbox, learners: list[str] = LEARNERS) -> bool:
    """Whether each learner has lost one lab and got one, and never had two."""
    ledger = sandbox.ledger
    return all(
        len(ledger.launches(user)) == len(ledger.cancels(user)) == ledger.max_alive(user) == 1
        for user in learners
    )


def only_batch(env: dict[str, str]) -> dict[str, Any]:
    """The one batch that the store has."""
    (batch,) = told(env, "batches")["batches"]
    known: dict[str, Any] = batch
    return known


def test_a_class_from_end_to_end(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        report = tmp_path / "out.html"
        done = reset(env, file, "--yes", "--report", str(report))
        assert done.returncode == 0, done.stderr
        assert each_once(sandbox)
        assert (
            f"{len(LEARNERS)} of {len(LEARNERS)} learners have the lab that was asked for"
            in done.stdout
        )
        for learner in LEARNERS:
            assert f"was launched for user {learner}, lab 1002" in done.stderr
        assert "learner-3" in report.read_text(encoding="utf-8")
        batch = only_batch(env)
        assert (batch["state"], batch["ok"], batch["not_ok"]) == ("ended", len(LEARNERS), 0)
        assert batch["origin"] == "command"


def test_the_same_command_again_has_nothing_to_do(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        assert reset(env, file, "--yes").returncode == 0
        before = len(sandbox.ledger.requests)
        again = reset(env, file, "--yes")
        assert again.returncode == 0
        assert "nothing to do" in again.stderr
        assert "--batch NAME" in again.stderr
        assert len(sandbox.ledger.requests) == before
        # By another name it is done once more.
        once_more = reset(env, file, "--yes", "--batch", "again", "--json")
        assert once_more.returncode == 0
        assert {one["batch_id"] for one in objects(once_more.stdout)} == {"again"}
        assert len(sandbox.ledger.launches()) == 2 * len(LEARNERS)


def test_json_is_one_object_for_each_learner(tmp_path: Path) -> None:
    with a_class(tmp_path) as (_, env, file):
        done = reset(env, file, "--yes", "--json")
        assert done.returncode == 0
        assert sorted(one["user_id"] for one in objects(done.stdout)) == LEARNERS
        assert all(one["outcome"] == "launched" and one["url"] for one in objects(done.stdout))


def test_rows_from_stdin(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        rows = "".join(json.dumps({"user_id": user}) + "\n" for user in LEARNERS)
        done = reset(env, "-", "--lab", "1002", "--yes", stdin=rows)
        assert done.returncode == 0, done.stderr
        assert each_once(sandbox)


def test_slots_are_freed_and_nothing_is_launched(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        file = listed(tmp_path, LEARNERS, 1001)
        done = reset(env, file, "--no-launch", "--yes", "--json")
        assert done.returncode == 0, done.stderr
        assert {one["outcome"] for one in objects(done.stdout)} == {"freed"}
        assert sandbox.ledger.launches() == []
        assert len(sandbox.ledger.of("torn_down")) == len(LEARNERS)


def test_an_exam_in_the_class_is_let_be_and_named(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        exam = sandbox.world.give("zoe", 1003).instance_id
        file = listed(tmp_path, [*LEARNERS, "zoe"])
        done = reset(env, file, "--yes")
        assert done.returncode == 1
        assert "Refused for user zoe" in done.stdout
        assert exam not in sandbox.ledger.cancels()
        assert each_once(sandbox)
        batch_id = only_batch(env)["batch_id"]
        assert f"relaunch batch resume {batch_id}` tries those without success again" in done.stdout
        # And with leave it is ended, too; nobody else is touched.
        again = relaunch(env, "batch", "resume", batch_id, "--allow-exam", "--json")
        assert again.returncode == 0, again.stderr
        assert [one["user_id"] for one in objects(again.stdout)] == ["zoe"]
        assert each_once(sandbox, [*LEARNERS, "zoe"])


# --- refused before anything is touched ----------------------------------------------------------


class Refusing:
    """Commands that are refused before they touch the platform or the store; in this process."""

    def __init__(self, sandbox: Sandbox, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._sandbox = sandbox
        self._store = store
        self._capsys = capsys

    def said(self, *arguments: str) -> str:
        """What a refused command says."""
        assert run(["reset", *arguments]) == 2
        assert self._sandbox.ledger.requests == []
        assert not self._store.exists()
        said = self._capsys.readouterr()
        assert said.out == ""
        return said.err


@pytest.fixture
def refusing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Refusing]:
    """In a folder with a list of the class."""
    with a_class(tmp_path) as (sandbox, env, _):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.stdin", io.StringIO())
        yield Refusing(sandbox, tmp_path / "relaunch.db", capsys)


def test_everything_wrong_with_a_list_is_told_with_its_lines(
    refusing: Refusing, tmp_path: Path
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("user,lab,colour\nann,1002,\n,1002,\nbob,many,\nann,1002,\n", "utf-8")
    said = refusing.said(str(file), "--yes")
    for mark in ("line 1", "line 3", "line 4", "line 5", "colour"):
        assert mark in said
    assert "ann" in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "name a FILE"),
        (["class.csv", "--all", "--yes"], "--all selects"),
        (["class.csv", "--idle-for", "5m", "--class", "4"], "--class, --idle-for selects"),
        (["class.csv", "--lab", "1001", "--lab", "1002", "--yes"], "--lab"),
        (["class.csv"], "no terminal"),
        (["-"], "from stdin"),
        (["no-such.csv", "--yes"], "no-such.csv"),
        (["class.csv", "--yes", "--report", "out.pdf"], ".csv, .json and .html"),
        (["class.csv", "--yes", "--report", "no-folder/out.csv"], "no-folder"),
        (["class.csv", "--yes", "--report", "."], "--report"),
        (["class.csv", "--yes", "--rate", "fast"], "--rate"),
        (["class.csv", "--yes", "--batch-wait", "soon"], "--batch-wait"),
        (["class.csv", "--yes", "--concurrency", "0"], "concurrency"),
        (["class.csv", "--yes", "--store", "none"], "store.url"),
        (["--older-than", "8", "--yes"], "--older-than"),
    ],
)
def test_wrong_usage(refusing: Refusing, arguments: list[str], word: str) -> None:
    assert word in refusing.said(*arguments)


def test_a_name_that_another_batch_has_is_refused(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        assert reset(env, file, "--yes", "--batch", "monday").returncode == 0
        before = len(sandbox.ledger.requests)
        other = listed(tmp_path, LEARNERS[:2])
        done = reset(env, other, "--yes", "--batch", "monday")
        assert done.returncode == 2
        assert "monday" in done.stderr
        assert len(sandbox.ledger.requests) == before


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        done = reset(env, file, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert sandbox.ledger.cancels() == []
        assert sandbox.ledger.count("launch") == 0
        assert told(env, "batches")["batches"] == []
        plan = json.loads(reset(env, file, "--dry-run", "--json").stdout)
        assert isinstance(plan, dict)
        assert told(env, "batches")["batches"] == []


# --- stopped and gone on with --------------------------------------------------------------------


def test_after_kill_9_the_same_command_goes_on_and_each_is_relaunched_once(tmp_path: Path) -> None:
    with a_class(tmp_path, teardown="fixed:0.8") as (sandbox, env, file):
        with running(env, "reset", file, "--yes", "--concurrency", "3") as process:
            await_line(process, "was launched for")
            process.kill()
        batch = only_batch(env)
        assert batch["state"] == "running"
        assert batch["ok"] < len(LEARNERS)
        done = reset(env, file, "--yes")
        assert done.returncode == 0, done.stderr
        assert each_once(sandbox)
        assert only_batch(env)["state"] == "ended"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_begins_nobody_new_and_lets_the_others_end(tmp_path: Path, number: int) -> None:
    with a_class(tmp_path, teardown="fixed:0.8") as (sandbox, env, file):
        store = str(tmp_path / "relaunch.db")
        with running(
            env, "reset", file, "--yes", "--concurrency", "2", "--store", store
        ) as process:
            await_line(process, "was launched for")
            process.send_signal(number)
            out, err = process.communicate(timeout=25)
        batch = only_batch(env)
        resume = f"relaunch batch resume {batch['batch_id']} --store {store}"
        assert process.returncode == 130
        assert (batch["state"], batch["reason"], batch["in_flight"]) == (
            "stopped",
            "interrupted",
            0,
        )
        assert 0 < batch["waiting"] < len(LEARNERS)
        # Nobody has lost a lab without getting one.
        assert len(sandbox.ledger.cancels()) == len(sandbox.ledger.launches()) == batch["ok"]
        assert resume in err
        assert resume in out
        done = relaunch(env, *resume.split()[1:])
        assert done.returncode == 0, done.stderr
        assert each_once(sandbox)


def test_a_second_signal_leaves_at_once_and_keeps_what_is_in_flight(tmp_path: Path) -> None:
    with a_class(tmp_path, teardown="never") as (sandbox, env, file):
        with running(env, "reset", file, "--yes") as process:
            await_requests(sandbox, "cancel", len(LEARNERS))
            process.send_signal(signal.SIGINT)
            await_line(process, "no new learner is begun")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=25)
        assert process.returncode == 130
        assert "relaunch batch resume" in err
        assert "Traceback" not in err
        batch = only_batch(env)
        assert (batch["ok"], batch["in_flight"]) == (0, len(LEARNERS))
        with sandbox.lock:
            for instance in sandbox.world.instances.values():
                instance.changes_at = sandbox.world.now()
        done = relaunch(env, "batch", "resume", batch["batch_id"])
        assert done.returncode == 0, done.stderr
        assert each_once(sandbox)


def test_the_time_that_is_over_is_exit_4(tmp_path: Path) -> None:
    with a_class(tmp_path, teardown="never") as (_, env, file):
        done = reset(env, file, "--yes", "--batch-wait", "1s")
        assert done.returncode == 4
        assert "The time given to the batch is over." in done.stdout


def test_a_reader_that_goes_away_stops_nothing_and_is_no_traceback(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        with running(env, "reset", file, "--yes", "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            json.loads(process.stdout.readline())
            process.stdout.close()
            err = process.stderr.read()
            code = process.wait(timeout=25)
        assert code == 0
        assert "Traceback" not in err
        assert "BrokenPipe" not in err
        assert "Nobody reads the output any more" in err
        assert each_once(sandbox)


# --- batches -------------------------------------------------------------------------------------


def test_batches_are_listed_shown_and_aborted(tmp_path: Path) -> None:
    with a_class(tmp_path, teardown="never") as (sandbox, env, file):
        with running(env, "reset", file, "--yes", "--concurrency", "2", "--batch", "monday") as one:
            await_requests(sandbox, "cancel", 2)
            listing = relaunch(env, "batches", "--unfinished")
            assert "monday" in listing.stdout
            shown = relaunch(env, "batch", "show", "monday")
            assert "is being carried out" in shown.stdout
            aborted = relaunch(env, "batch", "abort", "monday")
            assert aborted.returncode == 0, aborted.stderr
            out, err = one.communicate(timeout=25)
        assert "6 learners will not be begun" in aborted.stdout
        assert "2 learners were in flight: their relaunches ended" in aborted.stdout
        assert one.returncode == 130, err
        assert "was aborted" in out
        assert sandbox.ledger.launches() == []
        assert len(sandbox.ledger.cancels()) == 2
        assert told(env, "batches", "--unfinished")["batches"] == []
        assert told(env, "batch", "show", "monday")["state"] == "aborted"
        again = reset(env, file, "--yes", "--batch", "monday")
        assert again.returncode == 2
        assert "was aborted, which is for good" in again.stderr
        resumed = relaunch(env, "batch", "resume", "monday")
        assert resumed.returncode == 2


def test_what_nobody_carries_out_any_more_is_ended_by_who_aborts_it(tmp_path: Path) -> None:
    with a_class(tmp_path, teardown="never") as (sandbox, env, file):
        with running(env, "reset", file, "--yes", "--concurrency", "3", "--batch", "monday") as one:
            await_requests(sandbox, "cancel", 3)
            one.kill()
        aborted = relaunch(env, "batch", "abort", "monday")
        assert aborted.returncode == 0, aborted.stderr
        shown = told(env, "batch", "show", "monday")
        assert (shown["state"], shown["in_flight"]) == ("aborted", 0)
        assert shown["ended"] == {"aborted": 3}
        assert unfinished(env) == []
        assert sandbox.ledger.launches() == []
        again = relaunch(env, "batch", "abort", "monday")
        assert (again.returncode, again.stdout) == (0, "Batch monday had been aborted before.\n")


def test_show_writes_a_report_and_names_the_failed(tmp_path: Path) -> None:
    with a_class(tmp_path, learners=["ann"]) as (sandbox, env, _):
        sandbox.world.give("zoe", 1003)
        reset(env, listed(tmp_path, ["ann", "zoe"]), "--yes", "--batch", "monday")
        report = tmp_path / "later.csv"
        shown = relaunch(env, "batch", "show", "monday", "--report", str(report))
        assert shown.returncode == 0, shown.stderr
        assert "zoe" in report.read_text(encoding="utf-8")
        failed = relaunch(env, "batch", "show", "monday", "--failed").stdout
        assert "zoe" in failed
        assert "ann" not in failed
        plain = told(env, "batch", "show", "monday")
        assert [one["user_id"] for one in plain["without_success"]] == ["zoe"]
        assert plain["carried_out"] is False


def test_a_batch_that_is_not_there(tmp_path: Path) -> None:
    with a_class(tmp_path) as (_, env, _):
        for command in ("show", "resume", "abort"):
            done = relaunch(env, "batch", command, "nothing")
            assert done.returncode == 2
            assert "no batch 'nothing'" in done.stderr
