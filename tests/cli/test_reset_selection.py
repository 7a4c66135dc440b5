"""``relaunch reset`` of what is running, and the same selection again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.processes import await_line, running, told
from tests.cli.test_reset import LEARNERS, a_class, each_once, objects, reset


def test_what_runs_is_selected_by_the_platform_s_word(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        others = [sandbox.world.give(user, 1002).instance_id for user in ("zoe", "yan")]
        done = reset(env, "--lab", "1001", "--user-glob", "learner-[0-3]", "--yes", "--json")
        assert done.returncode == 0, done.stderr
        assert sorted(one["user_id"] for one in objects(done.stdout)) == LEARNERS[:4]
        assert {one["lab_profile_id"] for one in objects(done.stdout)} == {1001}
        assert each_once(sandbox, LEARNERS[:4])
        assert not {*others} & {*sandbox.ledger.cancels()}
        assert "like 'learner-[0-3]'" in told(env, "batches")["batches"][0]["selection"]


def test_an_exam_that_is_selected_is_no_item_and_no_failure(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        exam = sandbox.world.give("zoe", 1003).instance_id
        done = reset(env, "--all", "--no-launch", "--yes", "--json")
        assert done.returncode == 0, done.stderr
        assert sorted(one["user_id"] for one in objects(done.stdout)) == LEARNERS
        assert "Protected, an exam: zoe." in done.stderr
        assert exam not in sandbox.ledger.cancels()


def test_the_plan_of_a_dry_run_says_who_and_what(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        sandbox.world.give("zoe", 1003)
        plan = json.loads(reset(env, "--all", "--dry-run", "--json").stdout)
        rows = {row["user_id"]: row for row in plan["rows"]}
        assert set(rows) == {*LEARNERS, "zoe"}
        assert rows["zoe"]["protected"] == "protected_exam"
        assert (rows["zoe"]["carried_out"], plan["total"]) == (False, len(LEARNERS))
        listed = json.loads(reset(env, file, "--dry-run", "--json").stdout)
        # So it will be called: the same list has the same id.
        assert (
            listed["batch_id"]
            == json.loads(reset(env, file, "--dry-run", "--json").stdout)["batch_id"]
        )
        assert sandbox.ledger.cancels() == sandbox.ledger.launches() == []
        assert sandbox.ledger.count("launch") == 0


def test_an_unfinished_selection_is_gone_on_with_and_an_ended_one_is_not_in_the_way(
    tmp_path: Path,
) -> None:
    selection = ("--lab", "1001", "--no-launch", "--yes")
    with a_class(tmp_path, teardown="fixed:0.8") as (sandbox, env, _):
        with running(env, "reset", *selection, "--concurrency", "2") as process:
            await_line(process, "user learner-")
            process.kill()
        again = reset(env, *selection, "--json")
        assert again.returncode == 0, again.stderr
        (batch,) = told(env, "batches")["batches"]
        assert (batch["total"], batch["ok"]) == (len(LEARNERS), len(LEARNERS))
        assert sorted(sandbox.ledger.cancels()) == sorted(set(sandbox.ledger.cancels()))
        assert len(sandbox.ledger.cancels()) == len(LEARNERS)
        # Nobody has the lab any more; then somebody has it again.
        nothing = reset(env, *selection)
        assert nothing.returncode == 0
        assert "Nothing is to be done" in nothing.stderr
        sandbox.world.give("ann", 1001)
        done = reset(env, *selection, "--json")
        assert [one["user_id"] for one in objects(done.stdout)] == ["ann"]
        assert len(told(env, "batches")["batches"]) == 2


def test_a_list_without_labs_frees_whatever_runs(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        file = tmp_path / "who.csv"
        file.write_text("user\n" + "\n".join([*LEARNERS[:3], "nobody"]) + "\n", encoding="utf-8")
        done = reset(env, str(file), "--no-launch", "--yes", "--json")
        assert done.returncode == 0, done.stderr
        assert sorted(one["user_id"] for one in objects(done.stdout)) == LEARNERS[:3]
        assert "Skipped, no lab is running: nobody." in done.stderr
        assert len(sandbox.ledger.cancels()) == 3


def test_a_platform_that_does_not_answer_the_first_question_is_exit_3(tmp_path: Path) -> None:
    with a_class(tmp_path) as (sandbox, env, file):
        done = reset(env | {"SKILLABLE_API_KEY": "wrong-9f"}, file, "--yes")
        assert done.returncode == 3
        assert "API key" in done.stderr
        assert "nothing was changed" in done.stderr
        assert "wrong-9f" not in done.stdout + done.stderr
        assert sandbox.ledger.cancels() == []
        assert told(env, "batches")["batches"] == []


def test_saving_the_very_labs_that_are_to_be_launched_is_refused_at_the_door(
    tmp_path: Path,
) -> None:
    with a_class(tmp_path) as (sandbox, env, _):
        done = reset(env, "--all", "--save", "--yes")
        assert done.returncode == 2
        assert "add --no-launch" in done.stderr
        assert sandbox.ledger.requests == []
        assert told(env, "batches")["batches"] == []
        assert reset(env, "--all", "--save", "--no-launch", "--dry-run").returncode == 0
