"""A batch in plain words, its exit code, and lines to readers that go away: values in, text out."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from orchestrator.batch.outcomes import ItemOutcome, Obstacle, Standing, outcome_of_stored
from orchestrator.cli.batch_story import asked_for, row, story, told
from orchestrator.cli.batch_words import (
    NAMED,
    Account,
    doing,
    ended_words,
    last_word,
    resume_command,
    status_line,
)
from orchestrator.cli.durations import per_minute_of
from orchestrator.cli.exits import BATCH_EXITS, batch_exit_code
from orchestrator.cli.lines import Lines, printable
from orchestrator.cli.options import pace_given
from orchestrator.cli.reset_display import PlainDisplay, batch_display, picture
from orchestrator.durable.batches import Batch, BatchState, Counts, Item, ItemResult, StoredItem
from orchestrator.machine.run import Policy
from orchestrator.machine.vocabulary import TERMINAL, State

NOW = 1_700_000_000.0


def batch_as(state: BatchState = BatchState.ENDED, **fields: Any) -> Batch:
    """A batch of a hundred learners, begun two minutes ago."""
    known: dict[str, Any] = {
        "batch_id": "autumn", "fingerprint": "f", "total": 100, "state": state,
        "created_at": NOW - 120, "started_at": NOW - 120,
    }  # fmt: skip
    return Batch(**(known | fields))


def stored(number: int, outcome: str, reason: str | None = None) -> StoredItem:
    """An item that has ended."""
    return StoredItem(
        item=Item(number=number, user_id=f"u{number}", lab_profile_id=1001),
        attempt=1,
        relaunch_id=f"r{number}",
        begun_at=NOW - 60,
        ended_at=NOW,
        result=ItemResult(outcome=outcome, reason=reason, message=f"How it was for u{number}."),
    )


def standing_as(**fields: Any) -> Standing:
    """How a batch stands."""
    known: dict[str, Any] = {
        "batch": batch_as(BatchState.RUNNING), "at": NOW, "waiting": 60, "in_flight": 10,
        "ok": 28, "not_ok": 2, "ended": {"launched": 28, "refused": 2},
        "phases": {"tearing_down": 6, "looking": 1, "new": 3}, "elapsed_seconds": 120.0,
        "api_calls": 99,
    }  # fmt: skip
    return Standing(**(known | fields))


@pytest.mark.parametrize(
    ("state", "reason", "ended", "code"),
    [
        (BatchState.ENDED, None, {}, 0),
        (BatchState.ENDED, None, {"launched": 3, "reused": 1, "freed": 2}, 0),
        (BatchState.ENDED, None, {"launched": 3, "refused": 0}, 0),
        (BatchState.ENDED, None, {"launched": 3, "refused": 1}, 1),
        (BatchState.ENDED, None, {"launched": 3, "choose": 1}, 1),
        (BatchState.ENDED, None, {"launched": 3, "failed": 1, "timed_out": 1}, 1),
        (BatchState.ENDED, None, {"launched": 3, "timed_out": 1}, 4),
        (BatchState.STOPPED, "batch_wait", {"launched": 3}, 4),
        (BatchState.STOPPED, "on_error", {"launched": 3, "failed": 1}, 1),
        (BatchState.STOPPED, "key_rejected", {"failed": 1}, 3),
        (BatchState.STOPPED, "consumer_active", {"timed_out": 1}, 3),
        (BatchState.STOPPED, "platform_unreachable", {"launched": 9}, 3),
        (BatchState.STOPPED, "something_new", {}, 3),
        (BatchState.STOPPED, "interrupted", {"failed": 1}, 130),
        (BatchState.STOPPED, "stopped", {}, 130),
        (BatchState.ABORTED, "aborted", {"launched": 3}, 130),
    ],
)
def test_the_exit_code_of_a_batch(
    state: BatchState, reason: str | None, ended: Mapping[str, int], code: int
) -> None:
    assert batch_exit_code(batch_as(state, reason=reason), ended) == code
    assert code in BATCH_EXITS


def test_every_phase_of_the_machine_has_a_word_and_every_outcome_too() -> None:
    assert sum(doing({state.value: 1 for state in State}).values()) == len(State)
    assert "at work" not in doing({s.value: 1 for s in State if s not in TERMINAL})
    assert doing({"a_newer_one": 2}) == {"at work": 2}
    assert doing({"looking": 0}) == {}
    in_words = ended_words({state.value: 1 for state in TERMINAL})
    assert not set(in_words) & {"timed_out", "reused", "freed", "choose"}
    assert ended_words({"newer": 1, "failed": 0}) == {"newer": 1}


def test_how_it_stands_in_one_line() -> None:
    assert status_line(standing_as()) == (
        "30 of 100 learners done, 2 without success; 3 in line, 7 waiting for a teardown; "
        "60 not begun."
    )
    obstacle = Obstacle(code="consumer_active", message="No room for anybody.", since=NOW)
    line = status_line(standing_as(per_minute=12.3, eta_seconds=350.0, obstacle=obstacle))
    assert line.endswith("60 not begun; 12 a minute, about 6 min left; No room for anybody.")


def account_of(batch: Batch, counts: Counts, bad: list[StoredItem] | None = None) -> Account:
    """What is told of it now."""
    return Account(batch=batch, counts=counts, bad=bad or [], at=NOW, where=" --store x.db")


def test_the_last_word_says_who_has_no_lab_and_why_and_what_to_do() -> None:
    bad = [stored(n, "refused", "protected_exam") for n in range(1, 26)]
    counts = Counts(waiting=0, in_flight=0, ended={"launched": 75, "refused": 25}, api_calls=400)
    said = last_word(account_of(batch_as(ended_at=NOW), counts, bad))
    assert "Batch autumn has ended: 75 of 100 learners have the lab that was asked for. " in said
    assert " 2 min, 400 API calls." in said
    assert "How it was for u1." in said
    assert f"How it was for u{NAMED}." in said
    assert f"How it was for u{NAMED + 1}." not in said
    assert "and 5 more: `relaunch batch show autumn --failed --store x.db`" in said
    assert "`relaunch batch resume autumn --store x.db` tries those without success again" in said
    assert "--allow-exam" in said


def test_what_went_well_needs_no_next_step() -> None:
    counts = Counts(waiting=0, in_flight=0, ended={"freed": 100})
    said = last_word(account_of(batch_as(policy=Policy(launch=False), ended_at=NOW), counts))
    assert "100 of 100 learners no longer have the lab that was to end" in said
    assert "resume" not in said


@pytest.mark.parametrize(
    ("reason", "words"),
    [("interrupted", "was interrupted"), ("key_rejected", "does not accept the API key")],
)
def test_a_stop_says_why_and_what_is_left(reason: str, words: str) -> None:
    counts = Counts(waiting=90, in_flight=4, ended={"launched": 6})
    said = last_word(account_of(batch_as(BatchState.STOPPED, reason=reason), counts))
    assert words in said
    assert "4 learners in flight: their relaunches are kept" in said
    assert "90 learners not begun: nothing of theirs was touched." in said
    assert "resume autumn --store x.db` goes on with it; whoever has succeeded is let be." in said


def test_what_was_aborted_is_not_gone_on_with() -> None:
    counts = Counts(waiting=90, in_flight=0, ended={"launched": 6, "aborted": 4})
    batch = batch_as(BatchState.ABORTED, reason="aborted")
    assert "resume" not in last_word(account_of(batch, counts, [stored(1, "aborted", "aborted")]))


def test_who_carries_it_out_is_told() -> None:
    counts = Counts(waiting=90, in_flight=10, ended={})
    held = batch_as(BatchState.RUNNING, holder="batch-1", held_until=NOW + 3)
    silent = batch_as(BatchState.RUNNING, holder="batch-1", held_until=NOW - 1)
    assert "is being carried out" in story(account_of(held, counts), most=None)
    assert "follows it" in story(account_of(held, counts), most=None)
    assert "nobody carries it out right now" in story(account_of(silent, counts), most=None)
    assert told(account_of(held, counts))["carried_out"] is True
    assert told(account_of(silent, counts))["carried_out"] is False


def test_what_is_told_of_a_batch_to_programs() -> None:
    counts = Counts(waiting=1, in_flight=2, ended={"launched": 96, "failed": 1}, api_calls=7)
    one = stored(4, "failed", "launch_error")
    known = told(account_of(batch_as(BatchState.STOPPED, reason="on_error"), counts, [one]))
    assert known.items() >= row(batch_as(BatchState.STOPPED, reason="on_error"), counts).items()
    assert (known["ok"], known["not_ok"], known["waiting"], known["in_flight"]) == (96, 1, 1, 2)
    (told_of,) = known["without_success"]
    assert (told_of["user_id"], told_of["reason"], told_of["url"]) == ("u4", "launch_error", None)


def test_what_was_asked_for_in_words() -> None:
    save = Policy(displace="save")
    assert asked_for(batch_as()) == "relaunch"
    assert asked_for(batch_as(policy=save)) == "relaunch, saving the old labs"
    frees = batch_as(policy=Policy(launch=False), selection="labs of class 5")
    assert asked_for(frees) == "free the slots: labs of class 5"
    assert asked_for(batch_as(policy=Policy(launch=False, displace="save"))).startswith("save")


@pytest.mark.parametrize(
    ("text", "rate"), [("30", 30.0), ("30/min", 30.0), ("2/s", 120.0), ("90 /h", 1.5)]
)
def test_rates_as_people_write_them(text: str, rate: float) -> None:
    assert per_minute_of("--rate", text) == rate


@pytest.mark.parametrize("text", ["0", "fast", "-1", "2/d", ""])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--rate"):
        per_minute_of("--rate", text)


def test_only_what_was_given_of_a_pace_is_given_on() -> None:
    assert pace_given(None, None, None, None) == {}
    given = pace_given(5, "2/s", "2h", "stop")
    assert given == {
        "concurrency": 5, "per_minute": 120.0, "wait_seconds": 7200.0, "on_error": "stop"
    }  # fmt: skip


def test_the_flags_that_lead_to_the_store_go_with_the_resume_command() -> None:
    assert resume_command("autumn") == "relaunch batch resume autumn"
    assert resume_command("autumn", " --store x.db") == "relaunch batch resume autumn --store x.db"


# --- lines and displays ------------------------------------------------------------------------


def test_a_reader_that_goes_away_ends_the_lines_and_is_told_of_once() -> None:
    told_of: list[int] = []
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    lines = Lines(stream, gone=lambda: told_of.append(1))
    lines.write("one")
    assert os.read(read, 100) == b"one\n"
    os.close(read)
    lines.write("two")
    lines.write("three")
    stream.close()  # what was left in its buffer goes nowhere
    assert told_of == [1]


def test_a_terminal_is_not_told_what_to_do_by_an_answer_of_the_platform() -> None:
    assert printable("ann\x1b[2J\r\u202eb") == "ann?[2J??b"
    assert printable("Zoë 李\nnext") == "Zoë 李\nnext"


def test_what_a_stream_cannot_write_is_replaced() -> None:
    raw = io.BytesIO()
    lines = Lines(io.TextIOWrapper(raw, encoding="ascii"))
    lines.write("Zoë")
    lines.write("next")
    assert raw.getvalue() == b"Zo?\nnext\n"


class Said:
    """A stream that is read afterwards."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self) -> list[str]:
        """What came since the last time."""
        found = self.stream.getvalue().splitlines()
        self.stream.truncate(0)
        self.stream.seek(0)
        return found


def ends(number: int, outcome: str) -> ItemOutcome:
    """An item's end."""
    return outcome_of_stored("autumn", stored(number, outcome))


def test_plain_lines_are_one_for_each_learner_and_one_now_and_then() -> None:
    said = Said()
    display = PlainDisplay(Lines(said.stream), each=True)
    display.tick(standing_as())
    assert said.lines() == []
    display.ended(ends(7, "launched"))
    (line,) = said.lines()
    assert line.split() == ["1", "0.0", "s", "How", "it", "was", "for", "u7."]
    display.tick(standing_as(at=NOW + 9))
    assert said.lines() == []
    display.tick(standing_as(at=NOW + 10))
    assert said.lines() == [status_line(standing_as())]
    display.tick(standing_as(at=NOW + 11))
    assert said.lines() == []


def test_a_new_obstacle_is_told_at_once_and_only_once() -> None:
    said = Said()
    display = PlainDisplay(Lines(said.stream), each=True)
    obstacle = Obstacle(code="platform_paused", message="It is out of order.", since=NOW)
    display.tick(standing_as())
    display.tick(standing_as(at=NOW + 1, obstacle=obstacle))
    display.tick(standing_as(at=NOW + 2, obstacle=obstacle))
    display.tick(standing_as(at=NOW + 3))
    (line,) = said.lines()
    assert line.endswith("It is out of order.")


def test_beside_json_only_failures_are_told_one_by_one() -> None:
    said = Said()
    display = PlainDisplay(Lines(said.stream), each=False)
    display.ended(ends(1, "launched"))
    display.ended(ends(2, "refused"))
    assert ["u2." in line for line in said.lines()] == [True]


def drawn(standing: Standing, failures: tuple[str, ...] = (), width: int = 100) -> str:
    """The picture as text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(picture(standing, failures))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_picture_shows_what_the_standing_says() -> None:
    obstacle = Obstacle(code="c", message="[red]No room[/] for anybody.", since=NOW)
    shown = drawn(
        standing_as(per_minute=12.0, eta_seconds=300.0, obstacle=obstacle),
        ("Failed for user [bold]x[/].",),
    )
    assert "30 of 100 learners" in shown
    assert "30 %" in shown
    assert "12 a minute, about 5 min left" in shown
    assert "7  waiting for a teardown" in shown
    assert "60  not begun" in shown
    assert "2  refused" in shown
    # What comes from outside is text, never a style.
    assert "[red]No room[/] for anybody." in shown
    assert "Failed for user [bold]x[/]." in shown


def test_what_nobody_can_foretell_is_not_foretold() -> None:
    assert "left" not in drawn(standing_as(per_minute=12.0))
    assert "left" not in drawn(standing_as())


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_picture_fits_a_narrow_terminal(width: int) -> None:
    shown = drawn(standing_as(), ("A long failure of a learner, told in many words.",) * 5, width)
    assert all(len(line) <= width for line in shown.splitlines())


def test_without_a_terminal_there_is_no_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with batch_display(each=True) as display:
        display.say("hello")
        display.leave()
    assert isinstance(display, PlainDisplay)
    assert capsys.readouterr().err == "hello\n"
