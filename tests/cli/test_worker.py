"""``relaunch worker``: it takes up what others left, hands over, and forgets by setting."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.processes import (
    await_line,
    await_requests,
    durable,
    end_of,
    run_command,
    running,
    tear_down,
    told,
    unfinished,
)
from tests.cli.test_cli import KEY, relaunch, serving
from tests.postgres import OurServer, PostgresServer, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]


def test_it_takes_up_what_a_killed_run_left(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command()) as process:
            await_line(process, "Waiting while")
            process.kill()
        (kept,) = unfinished(env)
        tear_down(sandbox, old)
        with running(env, "worker") as worker:
            assert "1 unfinished" in await_line(worker, "Worker of", out=True)
            assert "user ann, lab 1002" in await_line(worker, "took up", out=True)
            ended = await_line(worker, "ended", out=True)
            assert kept["relaunch_id"] in ended
            assert "launched" in ended
            worker.send_signal(signal.SIGTERM)
            out, err = worker.communicate(timeout=10)
        assert (worker.returncode, err) == (0, "")
        assert "Stopped." in out
        assert len(sandbox.ledger.launches()) == len(sandbox.ledger.cancels()) == 1
        assert told(env, "runs", "list")["relaunches"][0]["state"] == "launched"


def test_a_stopped_worker_hands_over_at_once_and_a_quiet_one_is_quiet(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command()) as process:
            await_line(process, "Waiting while")
            process.kill()
        looks = sandbox.ledger.count("details")
        with running(env, "worker", "--quiet") as worker:
            await_requests(sandbox, "details", looks + 2)
            (held,) = unfinished(env)
            worker.send_signal(signal.SIGINT)
            out, err = worker.communicate(timeout=10)
        assert (worker.returncode, out, err) == (0, "", "")
        (handed_over,) = unfinished(env)
        assert held["owner"] is not None
        assert handed_over["owner"] is None
        tear_down(sandbox, old)
        done = relaunch(env, *run_command())
        assert (done.returncode, json.loads(done.stdout)["relaunch_id"]) == (
            0,
            held["relaunch_id"],
        )


def test_a_worker_and_a_run_forget_by_setting(tmp_path: Path) -> None:
    with serving() as (_, env):
        env = durable(env, tmp_path)
        forgetful = {"RELAUNCH_STORE__KEEP_DAYS": "0.0000001"}
        relaunch(env | {"RELAUNCH_STORE__KEEP_DAYS": "0"}, *run_command())
        assert len(told(env, "runs", "list")["relaunches"]) == 1
        with running(env | forgetful, "worker") as worker:
            assert "Forgot 1" in await_line(worker, "Forgot", out=True)
        for user in ("ann", "bob"):
            relaunch(env | forgetful, *run_command(user))
        # bob's run has forgotten ann's; whether its own is old enough by then, the clock says.
        listed = told(env, "runs", "list")["relaunches"]
        assert all(one["user_id"] == "bob" for one in listed)


def test_a_worker_needs_a_store() -> None:
    with serving() as (_, env):
        done = relaunch(env, "worker")
        assert done.returncode == 2
        assert "store.url" in done.stderr


def test_on_postgresql_a_worker_of_the_fleet_drives_what_a_run_starts(postgres_url: str) -> None:
    with serving(teardown="fixed:0.5") as (sandbox, env):
        old = sandbox.world.give("ann", 1001).instance_id
        env |= {"RELAUNCH_STORE__URL": postgres_url, "RELAUNCH_SCHEDULE__TEARDOWN": "fixed:0.3"}
        with running(env, "worker") as worker:
            await_line(worker, "Worker of", out=True)
            with running(env, *run_command()) as process:
                code, outcome = end_of(process)
            assert (code, outcome["outcome"]) == (0, "launched")
            assert outcome["relaunch_id"] in await_line(worker, "ended", out=True)
            worker.send_signal(signal.SIGTERM)
            _, err = worker.communicate(timeout=15)
        assert worker.returncode == 0, err
        assert sandbox.ledger.launches() == [outcome["lab_instance_id"]]
        assert sandbox.ledger.cancels() == [old]
        with running(env, *run_command("bob")) as process:
            # Nobody drives it now: interrupted, it is left to whoever comes.
            await_line(process, "No worker has begun")
            process.send_signal(signal.SIGINT)
            code, outcome = end_of(process)
        assert (code, outcome["reason"]) == (130, "joined")
        assert KEY not in outcome["message"]
        assert len(unfinished(env)) == 1


def test_a_run_outlasts_a_database_that_is_away_for_a_while(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    if not isinstance(postgres_server, OurServer):
        pytest.skip("the server is not ours to stop")
    with serving() as (sandbox, env):
        env |= {"RELAUNCH_STORE__URL": postgres_url}
        with running(env, *run_command()) as process:
            await_line(process, "No worker has begun")
            postgres_server.stop()
            try:
                await_line(process, "The store is away")
            finally:
                postgres_server.start()
            with running(env, "worker", "--quiet"):
                code, outcome = end_of(process)
        assert (code, outcome["outcome"]) == (0, "launched")
        assert sandbox.ledger.launches() == [outcome["lab_instance_id"]]
