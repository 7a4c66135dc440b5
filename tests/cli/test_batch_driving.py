"""A batch carried out by a command, in virtual time: what is told where, and its interruption."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch.outcomes import ItemOutcome
from orchestrator.cli import batch_driving, exits
from orchestrator.cli.batch_driving import Telling, carry_out, where_flags
from orchestrator.cli.batch_reports import Place
from orchestrator.cli.reset_display import PlainDisplay
from orchestrator.durable.batches import BatchState
from orchestrator.testing.virtual import run_virtual
from tests.batch.classroom import EXAM, NEW_LAB, Classroom, name

LEARNERS = 6


def carried_out(
    telling: Telling, *, classroom: Callable[[], Classroom] | None = None, **pace: Any
) -> tuple[int, Classroom]:
    """Carry a batch of a class out; the exit code, and the class as it is then."""

    async def main() -> tuple[int, Classroom]:
        here = Classroom(LEARNERS) if classroom is None else classroom()
        batch = await here.batch(**pace)
        async with here.process() as relauncher:
            return await carry_out(relauncher, batch, telling), here

    return run_virtual(main())


def test_each_learner_is_a_line_and_the_last_word_is_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, here = carried_out(Telling())
    said = capsys.readouterr()
    assert code == exits.ALL_WELL
    assert here.each_once()
    assert said.out.startswith("Batch ")
    assert f"{LEARNERS} of {LEARNERS} learners have the lab that was asked for" in said.out
    lines = said.err.splitlines()
    assert [line.split()[0] for line in lines if "was launched" in line] == list("123456")
    # A teardown takes half a minute, of which is told now and then.
    assert any("waiting for a teardown" in line for line in lines)


def test_json_is_an_object_for_each_learner_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = carried_out(Telling(as_json=True))
    said = capsys.readouterr()
    told = [json.loads(line) for line in said.out.splitlines()]
    assert code == exits.ALL_WELL
    assert {one["user_id"] for one in told} == {name(n) for n in range(LEARNERS)}
    assert {one["outcome"] for one in told} == {"launched"}
    assert all(one["url"].startswith("http") for one in told)
    assert "learners have the lab that was asked for" in said.err


def test_an_exam_is_a_failure_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def with_an_exam() -> Classroom:
        here = Classroom(LEARNERS - 1)
        here.learners.append("zoe")
        here.sandbox.world.give("zoe", EXAM)
        return here

    code, here = carried_out(Telling(where=" --store x.db"), classroom=with_an_exam)
    said = capsys.readouterr()
    assert code == exits.SOME_FAILED
    assert here.launched("zoe") == 0
    assert "1 learner without success:\n  Refused for user zoe" in said.out
    assert "--store x.db` tries those without success again" in said.out
    assert "--allow-exam" in said.out


def test_a_key_that_is_refused_is_a_reason_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> int:
        here = Classroom(LEARNERS)
        batch = await here.batch()
        async with here.process(key="wrong") as relauncher:
            return await carry_out(relauncher, batch, Telling())

    assert run_virtual(main()) == exits.STOPPED
    assert "does not accept the API key" in capsys.readouterr().out


def test_the_time_that_is_over_leaves_the_teardowns_as_they_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, here = carried_out(Telling(), wait_seconds=10)
    assert code == exits.TIME_OVER
    assert here.sandbox.ledger.launches() == []
    assert f"{LEARNERS} learners in flight: their relaunches are kept" in capsys.readouterr().out


class Presses(PlainDisplay):
    """A display before which somebody sits who presses Ctrl-C as soon as two are done."""

    times = 1

    def ended(self, outcome: ItemOutcome) -> None:
        """As ever, and press."""
        super().ended(outcome)
        if self._ended == 2:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


def interrupted(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[], Coroutine[Any, Any, Any]], times: int = 1
) -> Any:
    """Run with somebody who presses Ctrl-C."""
    monkeypatch.setattr("orchestrator.cli.reset_display.PlainDisplay", Presses)
    monkeypatch.setattr(Presses, "times", times)
    return run_virtual(run())


def test_ctrl_c_begins_nobody_any_more_and_lets_the_others_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> tuple[int, Classroom, str, BatchState]:
        here = Classroom(LEARNERS)
        batch = await here.batch(concurrency=2)
        async with here.process() as relauncher:
            code = await carry_out(relauncher, batch, Telling(where=" --store s"))
        stored = await here.store.batches.load(batch.batch_id)
        return code, here, batch.batch_id, stored.state

    code, here, batch_id, state = interrupted(monkeypatch, main)
    said = capsys.readouterr()
    begun = len(here.sandbox.ledger.cancels())
    assert (code, state) == (exits.INTERRUPTED, BatchState.STOPPED)
    assert 2 <= begun <= 4
    # Nobody is left without a lab.
    assert len(here.sandbox.ledger.launches()) == begun
    assert f"relaunch batch resume {batch_id} --store s" in said.err
    assert "once more leaves at once" in said.err
    assert f"{LEARNERS - begun} learners not begun: nothing of theirs was touched." in said.out
    assert f"relaunch batch resume {batch_id} --store s" in said.out


class Left(KeyboardInterrupt):
    """The process would be gone now."""


def test_a_second_ctrl_c_leaves_at_once_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        here = Classroom(LEARNERS)
        batch = await here.batch(concurrency=2)
        async with here.process() as relauncher:
            await carry_out(relauncher, batch, Telling())

    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise Left

    monkeypatch.setattr("orchestrator.cli.interrupts.os._exit", leave)
    with pytest.raises(Left):
        interrupted(monkeypatch, main, times=2)
    assert codes == [exits.INTERRUPTED]
    assert "Left at once" in capsys.readouterr().err.splitlines()[-1]


def test_reports_are_written_at_the_end_whatever_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Place(path=tmp_path / "out.csv", format="csv")
    page = Place(path=tmp_path / "out.html", format="html")
    table.path.write_text("of yesterday", encoding="utf-8")
    code, _ = carried_out(Telling(reports=(table, page)), wait_seconds=10)
    assert code == exits.TIME_OVER
    assert name(0) in table.path.read_text(encoding="utf-8")
    assert "yesterday" not in table.path.read_text(encoding="utf-8")
    assert "<html" in page.path.read_text(encoding="utf-8")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "out.html"]
    assert f"Report: {table.path}" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told_and_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(path=tmp_path / "gone" / "out.json", format="json")
    code, here = carried_out(Telling(reports=(place,)))
    assert here.each_once()
    assert code == exits.SOME_FAILED
    assert "could not be written" in capsys.readouterr().err


def test_the_flags_that_lead_to_the_store_are_kept_without_a_password() -> None:
    assert where_flags(None, None) == ""
    assert where_flags(Path("a b.toml"), "x.db") == " --config 'a b.toml' --store x.db"
    told = where_flags(None, "postgresql://ada:secret@db/relaunch")
    assert told == " --store postgresql://ada@db/relaunch"


def test_what_is_over_is_told_of_a_batch_that_others_have_ended() -> None:
    async def main() -> int:
        here = Classroom(LEARNERS)
        batch = await here.batch(here.rows(NEW_LAB)[:2])
        async with here.process() as one, here.process() as two:
            await carry_out(one, batch, Telling())
            return await batch_driving.tell_the_end(
                two.store, batch.batch_id, Telling(), at=here.clock.now()
            )

    assert run_virtual(main()) == exits.ALL_WELL
