"""``relaunch runs``: what an operator sees of the relaunches that are kept, and does to them."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.durable.batches import Batch, Item
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.sandbox import Sandbox
from tests.cli.processes import (
    await_line,
    durable,
    end_of,
    run_command,
    running,
    tear_down,
    told,
    unfinished,
)
from tests.cli.test_cli import environment, relaunch, serving

PERSONAL = ["--first-name", "Annabel", "--email", "annabel@x.org", "--variable", "pin=4711"]


class Kept(NamedTuple):
    """A store with one relaunch that has ended (ann's) and one that is kept (bob's)."""

    sandbox: Sandbox
    env: dict[str, str]
    ended: str
    url: str
    kept: str
    old: int


def keep_one(sandbox: Sandbox, env: dict[str, str], user: str) -> tuple[str, int]:
    """A relaunch that was interrupted while the learner's old lab is torn down."""
    old = sandbox.world.give(user, 1001).instance_id
    with running(env, *run_command(user)) as process:
        await_line(process, "Waiting while")
        process.send_signal(signal.SIGINT)
        _, outcome = end_of(process)
    return outcome["relaunch_id"], old


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Only to be looked at."""
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path_factory.mktemp("runs"))
        done = relaunch(env, *run_command("ann", 1002, "--tag", "course", *PERSONAL))
        ended = json.loads(done.stdout)
        relaunch_id, old = keep_one(sandbox, env, "bob")
        yield Kept(sandbox, env, ended["relaunch_id"], ended["url"], relaunch_id, old)


def test_the_table_has_a_line_for_each_with_its_whole_id(kept: Kept) -> None:
    table = relaunch(kept.env, "runs", "list").stdout
    assert table.index(kept.kept) < table.index(kept.ended)
    for shown in ("ann", "bob", "1002", "tearing_down", "launched", f"instance {kept.old}"):
        assert shown in table


@pytest.mark.parametrize(
    ("arguments", "users"),
    [
        ([], ["bob", "ann"]),
        (["--unfinished"], ["bob"]),
        (["--user", "ann"], ["ann"]),
        (["--user", "eve"], []),
        (["--state", "launched"], ["ann"]),
        (["--since", "1h"], ["bob", "ann"]),
        (["--since", "0s"], []),
        (["--limit", "1"], ["bob"]),
    ],
)
def test_the_list_can_be_narrowed(kept: Kept, arguments: list[str], users: list[str]) -> None:
    found = told(kept.env, "runs", "list", *arguments)["relaunches"]
    assert [one["user_id"] for one in found] == users
    if not users:
        assert "fits" in relaunch(kept.env, "runs", "list", *arguments).stdout


def test_show_tells_what_a_support_person_needs(kept: Kept) -> None:
    shown = relaunch(kept.env, "runs", "show", kept.kept).stdout
    for part in (
        "user bob, lab 1002",
        "tearing_down",
        f"Cancelled: lab instance {kept.old}",
        "driven by nobody",
        f"relaunch runs resume {kept.kept}",
        f"relaunch runs abort {kept.kept}",
        "deadline",
    ):
        assert part in shown
    values = told(kept.env, "runs", "show", kept.kept)
    assert (values["state"], values["driven"], values["finished_at"]) == (
        "tearing_down",
        False,
        None,
    )
    assert values["cancelled_instance_ids"] == [kept.old]


def test_nothing_shows_the_learners_url_or_who_the_learner_is(kept: Kept) -> None:
    for command in ("show", "events"):
        for form in ([], ["--json"]):
            done = relaunch(kept.env, "runs", command, kept.ended, *form)
            assert "launched" in done.stdout
            for secret in (kept.url, "http", "Annabel", "annabel@x.org", "4711"):
                assert secret not in done.stdout
    listed = relaunch(kept.env, "runs", "list", "--json").stdout
    assert "http" not in listed
    assert "Annabel" not in listed


def test_events_are_the_journal_with_its_intents(kept: Kept) -> None:
    text = relaunch(kept.env, "runs", "events", kept.kept).stdout
    assert f"[about to cancel {kept.old}]" in text
    assert f"[about to launch with tag 'relaunch={kept.kept}']" in text
    lines = relaunch(kept.env, "runs", "events", kept.ended, "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    launching = next(e for e in events if e["calling"] == "launch")
    assert launching["tag"] == f"course relaunch={kept.ended}"
    assert launching["intent"] == f"about to launch with tag '{launching['tag']}'"
    assert (events[-1]["phase"], events[-1]["intent"]) == ("launched", None)


@pytest.mark.parametrize("command", ["show", "events", "abort", "resume"])
def test_an_unknown_id_is_exit_2(kept: Kept, command: str) -> None:
    done = relaunch(kept.env, "runs", command, "nope", "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (2, "unknown_relaunch")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["list", "--state", "asleep"], "--state"),
        (["list", "--since", "yesterday"], "--since"),
        (["prune", "--older-than", "30"], "--older-than"),
        (["prune"], "--older-than"),
        (["resume"], "--all"),
        (["resume", "one", "--all"], "--all"),
        (["list", "--store", "none"], "store.url"),
        (["resume", "--all", "--store", "none"], "store.url"),
    ],
)
def test_what_means_nothing_is_refused_by_name(
    kept: Kept, arguments: list[str], named: str
) -> None:
    done = relaunch(kept.env, "runs", *arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_resume_goes_on_to_the_end_and_events_follow_it(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        relaunch_id, old = keep_one(sandbox, env, "bob")
        with running(env, "runs", "events", relaunch_id, "--follow") as following:
            await_line(following, "Waiting while", out=True)
            tear_down(sandbox, old)
            done = relaunch(env, "runs", "resume", relaunch_id, "--json")
            await_line(following, "was launched", out=True)
            assert following.wait(10) == 0
        outcome = json.loads(done.stdout)
        assert (done.returncode, outcome["outcome"]) == (0, "launched")
        assert outcome["relaunch_id"] == relaunch_id
        assert outcome["url"].startswith("http")
        assert "is torn down" in done.stderr
        assert len(sandbox.ledger.cancels()) == len(sandbox.ledger.launches()) == 1
        # Its URL was for once.
        again = relaunch(env, "runs", "resume", relaunch_id, "--json")
        assert (again.returncode, json.loads(again.stdout)["url"]) == (0, None)


def test_resume_all_brings_everything_to_its_end(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        for user in ("ann", "bob"):
            _, old = keep_one(sandbox, env, user)
            tear_down(sandbox, old)
        outcomes = told(env, "runs", "resume", "--all")["relaunches"]
        assert {(o["user_id"], o["outcome"]) for o in outcomes} == {
            ("ann", "launched"),
            ("bob", "launched"),
        }
        assert unfinished(env) == []
        assert told(env, "runs", "resume", "--all") == {"relaunches": []}


def test_abort_ends_what_nobody_drives_without_a_call(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        relaunch_id, old = keep_one(sandbox, env, "bob")
        before = len(sandbox.ledger.requests)
        outcome = told(env, "runs", "abort", relaunch_id)
        assert (outcome["outcome"], outcome["left"]["tearing_down"]) == ("aborted", [old])
        assert len(sandbox.ledger.requests) == before
        assert told(env, "runs", "show", relaunch_id)["state"] == "aborted"
        again = relaunch(env, "runs", "abort", relaunch_id)
        assert again.returncode == 0
        assert "ended already" in again.stderr


def test_abort_ends_what_another_process_drives(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        sandbox.world.give("bob", 1001)
        with running(env, *run_command("bob")) as process:
            await_line(process, "Waiting while")
            (going,) = unfinished(env)
            shown = told(env, "runs", "show", going["relaunch_id"])
            assert (shown["driven"], shown["owner"]) == (True, going["owner"])
            outcome = told(env, "runs", "abort", going["relaunch_id"])
            code, ended = end_of(process)
        assert outcome["outcome"] == ended["outcome"] == "aborted"
        assert code == 130
        assert sandbox.ledger.launches() == []


def test_prune_forgets_what_ended_and_who_it_was(tmp_path: Path) -> None:
    with serving(teardown="never") as (sandbox, env):
        env = durable(env, tmp_path)
        relaunch(env, *run_command("ann", 1002, *PERSONAL))
        relaunch_id, _ = keep_one(sandbox, env, "bob")
        assert told(env, "runs", "prune", "--older-than", "1h") == {
            "pruned": 0,
            "batches": 0,
        }
        assert b"annabel@x.org" in stored_bytes(tmp_path)
        assert "Forgot 1 relaunch " in relaunch(env, "runs", "prune", "--older-than", "0s").stdout
        (left,) = told(env, "runs", "list")["relaunches"]
        assert left["relaunch_id"] == relaunch_id
        assert b"annabel@x.org" not in stored_bytes(tmp_path)


def test_prune_forgets_batches_that_ended_and_who_was_in_them(tmp_path: Path) -> None:
    env = durable(environment(), tmp_path) | {"RELAUNCH_STORE__CONSUMER": "us"}

    async def store_batches() -> None:
        store = SQLiteRunStore(tmp_path / "relaunch.db", consumer="us")
        for batch_id, ended_at in (("old", 1.0), ("going", None)):
            batch = Batch(
                batch_id=batch_id,
                fingerprint="f",
                total=1,
                created_at=0.0,
                started_at=0.0,
                ended_at=ended_at,
            )
            item = Item(number=1, user_id=f"learner in {batch_id}", lab_profile_id=7)
            await store.batches.create(batch, [item])
        await store.close()

    asyncio.run(store_batches())
    said = relaunch(env, "runs", "prune", "--older-than", "30d").stdout
    assert "Forgot 0 relaunches and 1 batch that ended more than 30d ago." in said
    assert b"learner in old" not in stored_bytes(tmp_path)
    assert b"learner in going" in stored_bytes(tmp_path)


def stored_bytes(tmp_path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in tmp_path.glob("relaunch.db*"))
