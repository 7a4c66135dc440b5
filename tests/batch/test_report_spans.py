"""What marks become: phases, teardown times, levels over time, an axis that leaves out pauses."""

from __future__ import annotations

import random

import pytest

from orchestrator.batch.report.axis import Axis, Cut, pauses, round_length
from orchestrator.batch.report.levels import BINS, Levels
from orchestrator.batch.report.spans import Phase, spans_of, teardown_of
from orchestrator.batch.report.tally import MOST_BARS, SLOWEST, Tally
from orchestrator.batch.report.wording import colon, iso, length
from orchestrator.durable.batches import Item, Mark, StoredItem
from orchestrator.machine.vocabulary import State
from tests.batch.reported import BEGUN, batch, class_of, marks, stored

PLAIN = marks(
    ("new", 10), ("surveying", 5), ("probing", 1), ("inspecting", 1), ("displacing", 1),
    ("tearing_down", 2), ("looking", 20), ("tearing_down", 1), ("launching", 9), ("verifying", 1),
)  # fmt: skip


def shown(item: StoredItem) -> list[tuple[Phase, float, float | None]]:
    return [
        (s.phase, s.start - BEGUN, None if s.end is None else s.end - BEGUN)
        for s in spans_of(item, since=BEGUN)
    ]


def test_a_relaunch_in_five_phases() -> None:
    item = stored(begun_at=BEGUN + 10, seconds=42, marks=PLAIN)
    assert shown(item) == [
        (Phase.QUEUE, 0, 15),
        (Phase.LOOK, 15, 18),
        (Phase.TEARDOWN, 18, 50),
        (Phase.LAUNCH, 50, 52),
    ]


def test_what_is_tried_within_a_teardown_belongs_to_it_but_a_wait_for_the_platform_shows() -> None:
    tried = marks(
        ("displacing", 0), ("tearing_down", 1), ("launching", 9), ("resurveying", 1),
        ("backing_off", 1), ("tearing_down", 8), ("launching", 10),
    )  # fmt: skip
    assert shown(stored(seconds=31, marks=tried)) == [
        (Phase.TEARDOWN, 0, 12),
        (Phase.HELD, 12, 20),
        (Phase.TEARDOWN, 20, 30),
        (Phase.LAUNCH, 30, 31),
    ]


def test_every_state_has_a_phase() -> None:
    for state in State:
        if not state.is_terminal:
            phases = shown(stored(marks=marks((state.value, 0))))
            assert phases, state
    assert shown(stored(marks=marks(("surveying", 0), ("launched", 5)))) == [(Phase.LOOK, 0, 5)]


def test_what_is_not_over_is_open_ended() -> None:
    item = Item(number=1, user_id="ada", lab_profile_id=1)
    assert shown(StoredItem(item=item)) == [(Phase.QUEUE, 0, None)]
    begun = StoredItem(item=item, attempt=1, begun_at=BEGUN + 7)
    assert shown(begun) == [(Phase.QUEUE, 0, 7), (Phase.UNDER_WAY, 7, None)]


def test_marks_of_clocks_that_disagree_make_no_time_run_backwards() -> None:
    crooked = tuple(
        Mark(phase=phase, at=BEGUN + at)
        for phase, at in (("surveying", -50.0), ("displacing", 30), ("tearing_down", 20))
    )
    spans = spans_of(stored(seconds=25, marks=crooked), since=BEGUN)
    times = [t for span in spans for t in (span.start, span.end)]
    assert times == sorted(t for t in times if t is not None)
    assert spans[-1].end == BEGUN + 25


def test_one_that_could_not_be_begun_has_a_line() -> None:
    assert shown(stored(outcome="failed", seconds=2)) == [(Phase.LOOK, 0, 2)]


def test_a_teardown_is_timed_from_its_beginning_until_it_was_left() -> None:
    known = teardown_of(stored(seconds=52, marks=PLAIN))
    assert known is not None
    assert (known.seconds, known.over) == (30, True)
    assert teardown_of(stored(marks=marks(("surveying", 0), ("probing", 1)))) is None


@pytest.mark.parametrize(
    ("outcome", "phases", "over"),
    [
        ("freed", (("tearing_down", 0),), True),
        ("timed_out", (("tearing_down", 0),), False),
        ("timed_out", (("tearing_down", 0), ("launching", 40)), False),
        ("failed", (("tearing_down", 0), ("launching", 39), ("verifying", 1)), True),
    ],
)
def test_only_an_accepted_launch_or_a_free_slot_ends_a_teardown(
    outcome: str, phases: tuple[tuple[str, float], ...], over: bool
) -> None:
    known = teardown_of(stored(outcome=outcome, seconds=40, marks=marks(*phases)))
    assert known is not None
    assert known.over is over
    assert known.seconds == pytest.approx(40, abs=1)


def test_levels_are_exact_however_long_it_gets() -> None:
    chance = random.Random(5)
    levels: Levels[str] = Levels(BEGUN)
    spans = []
    for n in range(300):
        start = chance.uniform(0, 40 * n + 1)
        spans.append((start, start + chance.uniform(0, 900)))
        levels.span("x", BEGUN + spans[-1][0], BEGUN + spans[-1][1])
    until = max(end for _, end in spans)
    means = levels.means("x", BEGUN + until)
    assert levels.width > 1
    assert len(means) <= BINS
    assert sum(means) * levels.width == pytest.approx(sum(b - a for a, b in spans))
    for n in chance.sample(range(len(means)), 40):
        left, right = n * levels.width, (n + 1) * levels.width
        inside = sum(max(0.0, min(b, right) - max(a, left)) for a, b in spans)
        assert means[n] * levels.width == pytest.approx(inside, abs=1e-6)


def test_what_does_not_end_goes_on_through_every_widening() -> None:
    levels: Levels[str] = Levels(BEGUN)
    levels.span("open", BEGUN + 5, None)
    levels.span("x", BEGUN, BEGUN + 100_000)
    means = levels.means("open", BEGUN + 90_000)
    assert means[1:] == pytest.approx([1.0] * (len(means) - 1))


def test_a_long_pause_is_cut_out_of_the_axis_and_a_short_one_is_not() -> None:
    busy = [True] * 600 + [False] * 4000 + [True] * 600 + [False] * 250 + [True] * 10
    cuts = pauses(busy, 1.0, BEGUN)
    assert cuts == (Cut(BEGUN + 600, BEGUN + 4600),)
    axis = Axis(BEGUN, BEGUN + 5460, left=100, length=500, cuts=cuts)
    assert axis.x(BEGUN) == 100
    assert axis.x(BEGUN + 5460) == pytest.approx(600)
    assert axis.x(BEGUN + 4600) - axis.x(BEGUN + 600) == pytest.approx(Axis.GAP)
    places = [axis.x(BEGUN + t) for t in range(0, 5460, 60)]
    assert places == sorted(places)
    ticks = [seconds for _, seconds in axis.ticks()]
    assert ticks[0] == 0
    assert all(t <= 600 or t >= 4600 for t in ticks)


def test_ticks_are_at_lengths_that_people_count_in() -> None:
    known = {8: 1, 50: 5, 600: 60, 3000: 300, 20_000: 3600, 900_000: 172_800}
    for seconds, step in known.items():
        ticks = [t for _, t in Axis(BEGUN, BEGUN + seconds, left=0, length=600).ticks()]
        assert ticks[1] - ticks[0] == step
        assert 3 <= len(ticks) <= 11
    assert round_length(1e9) >= 1e9


def test_of_many_the_slowest_are_drawn_and_of_few_all() -> None:
    many, few = Tally(batch(MOST_BARS + 1), at=BEGUN), Tally(batch(3), at=BEGUN)
    for n in range(1, MOST_BARS + 2):
        many.add(stored(n, seconds=float(n * 7 % 251)))
    for n in range(1, 4):
        few.add(stored(n, seconds=float(10 - n)))
    took = [bar.seconds for bar in many.bars()]
    assert took == sorted((float(n * 7 % 251) for n in range(1, 252)), reverse=True)[:SLOWEST]
    assert [bar.stored.item.number for bar in few.bars()] == [1, 2, 3]


def test_quantiles_lie_between_the_times() -> None:
    tally = Tally(batch(5), at=BEGUN)
    for n, seconds in enumerate((10.0, 20.0, 30.0, 40.0, 50.0), 1):
        teardown = marks(("tearing_down", 0), ("launching", seconds))
        tally.add(stored(n, seconds=seconds + 1, marks=teardown))
    assert tally.times.plain() == {
        "count": 5, "median": 30, "p10": 14, "p90": 46, "longest": 50, "not_over": 0,
    }  # fmt: skip


def test_what_goes_on_at_a_time_never_exceeds_what_was_begun() -> None:
    tally = Tally(batch(60), at=BEGUN + 9000)
    for item in class_of(60, concurrency=8, trouble=0):
        tally.add(item)
    busy = [tally.levels.means(phase, tally.horizon) for phase in Phase if phase != Phase.QUEUE]
    assert max(map(sum, zip(*busy, strict=True))) <= 8 + 1e-6
    assert tally.levels.means("ok", tally.horizon + 2)[-1] == pytest.approx(60)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (0.42, "0.4 s"), (5, "5 s"), (59.6, "1 min"), (80, "1 min 20 s"),
        (3599.7, "1 h"), (7500, "2 h 5 min"), (90_000, "1 d 1 h"), (604_800, "7 d"),
    ],
)  # fmt: skip
def test_lengths_in_words(seconds: float, words: str) -> None:
    assert length(seconds) == words


def test_moments_and_columns() -> None:
    assert iso(BEGUN) == "2026-11-01T18:00:00Z"
    assert (colon(65), colon(3600 + 61), colon(9.6)) == ("1:05", "1:01:01", "0:10")


def test_a_teardown_that_was_looked_at_late_tells_nothing() -> None:
    phases = [("displacing", 1), ("tearing_down", 1), ("looking", 8), ("backing_off", 1)]
    late = [*phases, ("looking", 70), ("launching", 1), ("verifying", 1)]
    assert teardown_of(stored(seconds=84, marks=marks(*late))) is None
    soon = [*phases, ("looking", 1), ("launching", 10), ("verifying", 1)]
    known = teardown_of(stored(seconds=24, marks=marks(*soon)))
    assert known is not None
    assert known.over
