"""``relaunch run`` is durable: two are one, a killed one is gone on with, a conflict is told."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from orchestrator.sandbox import Sandbox
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

#: Where a run is interrupted: the fault that keeps it there, and what it says then. The launch is
#: the second one: the first is the probe.
PLACES = {
    "teardown": ("", "Waiting while"),
    "cancel": ("cancel:hang", "Ending"),
    "launch": ("launch:hang+1", "Launching"),
}


def assert_one_lab(sandbox: Sandbox, old: int, new: int) -> None:
    """The ledger knows of one launch and one cancel, and never of two labs at once."""
    assert sandbox.ledger.launches("ann") == [new]
    assert sandbox.ledger.cancels("ann") == [old]
    assert sandbox.ledger.max_alive("ann") == 1


def test_two_at_once_are_one_relaunch_and_report_the_same_lab(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command()) as one, running(env, *run_command()) as two:
            # Whoever drives it: both have seen it come so far.
            await_line(one, "Waiting while")
            await_line(two, "Waiting while")
            tear_down(sandbox, old)
            (code_one, first), (code_two, second) = end_of(one), end_of(two)
        assert (code_one, code_two) == (0, 0)
        assert first["lab_instance_id"] == second["lab_instance_id"]
        assert first["relaunch_id"] == second["relaunch_id"]
        assert first["url"] == second["url"]
        assert {first["joined"], second["joined"]} == {False, True}
        assert_one_lab(sandbox, old, first["lab_instance_id"])


@pytest.mark.parametrize("place", PLACES)
def test_the_same_command_goes_on_with_a_killed_one(tmp_path: Path, place: str) -> None:
    faults, mark = PLACES[place]
    with serving(teardown="never", faults=faults) as (sandbox, env):
        env = durable(env, tmp_path)
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command()) as process:
            if place == "launch":
                await_line(process, "Waiting while")
                tear_down(sandbox, old)
            await_line(process, mark)
            if place != "teardown":
                await_requests(sandbox, place, 2 if place == "launch" else 1)
            process.kill()
        (kept,) = unfinished(env)
        if place != "launch":
            tear_down(sandbox, old)
        with running(env, *run_command()) as process:
            line = await_line(process, "Joined relaunch")
            code, outcome = end_of(process)
        assert kept["relaunch_id"] in line
        assert (code, outcome["outcome"], outcome["joined"]) == (0, "launched", True)
        assert outcome["relaunch_id"] == kept["relaunch_id"]
        assert_one_lab(sandbox, old, outcome["lab_instance_id"])
        assert unfinished(env) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_keeps_the_relaunch_and_says_so(tmp_path: Path, number: int, place: str) -> None:
    faults, mark = PLACES[place]
    with serving(teardown="never", faults=faults) as (sandbox, env):
        env = durable(env, tmp_path)
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command()) as process:
            if place == "launch":
                await_line(process, "Waiting while")
                tear_down(sandbox, old)
            await_line(process, mark)
            if place != "teardown":
                await_requests(sandbox, place, 2 if place == "launch" else 1)
            process.send_signal(number)
            code, outcome = end_of(process)
        before = len(sandbox.ledger.requests)
        assert (code, outcome["outcome"], outcome["reason"]) == (130, "interrupted", "kept")
        relaunch_id, left, message = outcome["relaunch_id"], outcome["left"], outcome["message"]
        assert "same command again" in message
        assert f"relaunch runs abort {relaunch_id}" in message
        assert left["tearing_down"] == ([old] if place == "teardown" else [])
        assert left["cancel_in_doubt"] == (old if place == "cancel" else None)
        assert (left["launch_in_doubt_tag"] is not None) == (place == "launch")
        assert outcome["url"] is None
        (kept,) = unfinished(env)
        assert (kept["relaunch_id"], kept["owner"]) == (relaunch_id, None)
        assert len(sandbox.ledger.requests) == before
        if place != "launch":
            tear_down(sandbox, old)
        with running(env, *run_command()) as process:
            code, again = end_of(process)
        assert (code, again["relaunch_id"]) == (0, relaunch_id)
        assert_one_lab(sandbox, old, again["lab_instance_id"])


def test_a_signal_at_one_who_joined_leaves_the_other_alone(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        old = sandbox.world.give("ann", 1001).instance_id
        with running(env, *run_command()) as one:
            await_line(one, "Waiting while")
            with running(env, *run_command()) as two:
                await_line(two, "Waiting while")
                two.send_signal(signal.SIGINT)
                code, outcome = end_of(two)
            assert (code, outcome["outcome"], outcome["reason"]) == (130, "interrupted", "joined")
            assert outcome["joined"] is True
            assert "goes on by itself" in outcome["message"]
            tear_down(sandbox, old)
            code, outcome = end_of(one)
        assert (code, outcome["outcome"]) == (0, "launched")


def test_another_lab_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        sandbox.world.give("ann", 1001)
        with running(env, *run_command()) as process:
            await_line(process, "Waiting while")
            done = relaunch(env, *run_command("ann", 1001, "--on-conflict", "supersede"))
            refused = json.loads(done.stdout)
            process.send_signal(signal.SIGINT)
            _, kept = end_of(process)
        assert (done.returncode, refused["outcome"]) == (6, "refused")
        assert refused["reason"] == "relaunch_in_flight"
        assert refused["in_flight"] == {
            "relaunch_id": kept["relaunch_id"],
            "lab_profile_id": 1002,
        }
        assert (refused["user_id"], refused["lab_profile_id"]) == ("ann", 1001)
        assert "nobody" not in refused["message"]
        # And when nobody drives it any more, that is what is said.
        done = relaunch(env, *run_command("ann", 1001))
        assert done.returncode == 6
        message = json.loads(done.stdout)["message"]
        assert "nobody is working on" in message
        assert f"relaunch runs resume {kept['relaunch_id']}" in message
        assert f"relaunch runs abort {kept['relaunch_id']}" in message
        assert len(sandbox.ledger.cancels()) == 1


def test_what_has_changed_nothing_yet_may_be_superseded(tmp_path: Path) -> None:
    with serving(faults="userrunningandsavedlabs:hang") as (sandbox, env):
        env = durable(env, tmp_path)
        with running(env, *run_command()) as process:
            await_line(process, "Looking at which")
            await_requests(sandbox, "userrunningandsavedlabs", 1)
            done = relaunch(env, *run_command("ann", 1001, "--on-conflict", "supersede"))
        assert (done.returncode, json.loads(done.stdout)["outcome"]) == (0, "launched")
        new, other = told(env, "runs", "list")["relaunches"]
        assert (new["lab_profile_id"], new["state"]) == (1001, "launched")
        assert (other["state"], other["reason"]) == ("aborted", "superseded")
        assert len(sandbox.ledger.launches()) == 1


def test_an_idempotency_key_names_the_request_also_after_its_end(tmp_path: Path) -> None:
    with serving() as (sandbox, env):
        env = durable(env, tmp_path)
        keyed = run_command("ann", 1002, "--idempotency-key", "order-7")
        first = json.loads(relaunch(env, *keyed).stdout)
        done = relaunch(env, *keyed)
        again = json.loads(done.stdout)
        assert (first["joined"], again["joined"]) == (False, True)
        assert again["lab_instance_id"] == first["lab_instance_id"]
        assert len(sandbox.ledger.launches()) == 1
        assert "had this idempotency key" in done.stderr
        other = relaunch(env, *run_command("ann", 1001, "--idempotency-key", "order-7"))
        assert (other.returncode, json.loads(other.stdout)["reason"]) == (2, "invalid_request")
        none = relaunch(env, *keyed, "--store", "none")
        assert none.returncode == 2
        assert "idempotency_key" in json.loads(none.stdout)["message"]


def test_without_a_store_it_says_so() -> None:
    with serving() as (_, env):
        done = relaunch(env, *run_command("ann", 1002, "--store", "none"))
        assert "Not durable" in done.stderr
        outcome = json.loads(done.stdout)
        assert (done.returncode, outcome["joined"]) == (0, False)


def test_a_store_that_cannot_be_opened_is_told_and_nothing_is_called(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with serving() as (sandbox, env):
        done = relaunch(env, *run_command(), "--store", str(tmp_path / "file" / "relaunch.db"))
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "store_unavailable")
        assert KEY not in done.stdout + done.stderr
        (tmp_path / "text.db").write_text("this is no database, whatever it is\n" * 99)
        done = relaunch(env, *run_command(), "--store", str(tmp_path / "text.db"))
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (2, "store_incompatible")
        assert sandbox.ledger.requests == []
