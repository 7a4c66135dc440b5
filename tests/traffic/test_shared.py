"""The text that the processes of a consumer share."""

from __future__ import annotations

import json

import pytest

from orchestrator.traffic import shared
from orchestrator.traffic.budget import Bucket
from orchestrator.traffic.pace import Circuit, Limits, Pace
from orchestrator.traffic.rank import Rank
from orchestrator.traffic.shared import Traffic

AT = 1_700_000_000.0
LIMITED = Limits(calls_per_second=5.0)
URGENT, POLL = Rank.BUTTON_URGENT, Rank.BUTTON_POLL


def test_it_comes_back_as_it_was() -> None:
    traffic = Traffic(
        pace=Pace(flow=1 / 3, taught=2.5, circuit=Circuit.TRIAL, trials=3, turn_at=AT),
        bucket=Bucket(full_at=1_700_000_000_000_001, rate=7.3),
    )
    assert shared.read(shared.written(traffic)) == traffic


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"pace": {"flow": "fast"}}', "null", "7"])
def test_what_cannot_be_read_counts_as_nothing(text: str | None) -> None:
    assert shared.read(text) == Traffic()
    after, verdict = shared.ask((URGENT,), already_sent=0, limits=LIMITED, at=AT)(text)
    assert verdict.admitted == (0,)
    assert after is not None
    assert shared.read(after).bucket.full_at > 0


def test_a_later_version_may_add_to_it() -> None:
    data = json.loads(shared.written(Traffic(pace=Pace(cuts=4))))
    data["pace"]["mood"] = "calm"
    del data["bucket"]
    assert shared.read(json.dumps(data)) == Traffic(pace=Pace(cuts=4))


def test_nothing_is_written_where_nothing_changes() -> None:
    text = '{"pace": {}}'  # not as we would write it, so that a write would show
    look = shared.ask((), already_sent=0, limits=Limits(), at=AT)
    assert look(text)[0] is text
    assert shared.tell_answered(trial=0, limits=Limits(), at=AT)(text)[0] is text


def test_a_change_may_be_made_twice() -> None:
    """A store repeats a step whose transaction failed: it must not remember anything."""
    step = shared.ask((POLL, URGENT), already_sent=3, limits=LIMITED, at=AT)
    assert step(None) == step(None)


def test_calls_that_went_without_asking_are_counted_when_somebody_asks() -> None:
    _, verdict = shared.ask((), already_sent=50, limits=Limits(), at=AT)(None)
    assert verdict.traffic.pace.flow == pytest.approx(10.0)


def test_the_trial_is_a_poll_even_if_a_launch_came_first() -> None:
    text = shared.written(Traffic(pace=Pace(circuit=Circuit.OPEN, turn_at=AT)))
    ask = shared.ask((URGENT, URGENT, POLL, POLL), already_sent=0, limits=Limits(), at=AT + 60)
    after, verdict = ask(text)
    assert verdict.admitted == (2,)
    assert verdict.trial == 1
    assert ask(after)[1].admitted == (), "one trial at a time"


def test_asking_during_a_pause_takes_nothing_and_fills_nothing() -> None:
    slow = shared.tell_rate_limited(
        retry_after=20.0, cuts=0, trial=0, already_sent=40, limits=Limits(), at=AT
    )
    text, _ = slow(None)
    for second in range(20):
        # Even of a process that is set up for larger bursts, and takes the bucket for a fuller one.
        ask = shared.ask((URGENT,), already_sent=0, limits=Limits(burst=1000), at=AT + second)
        text, verdict = ask(text)
        assert verdict.admitted == ()
    after = shared.ask((URGENT,) * 9, already_sent=0, limits=Limits(), at=AT + 20.3)
    assert after(text)[1].admitted == (0,), "they begin one by one"
