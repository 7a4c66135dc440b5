"""What a batch came to, gathered in one pass over its items, in memory that hardly grows with them.

Kept are counts, the teardown times (eight bytes each), the levels over time, and of the items only
those that are shown one by one: everybody's time line in a batch of up to :data:`MOST_BARS`, else
the :data:`SLOWEST` ones'; and of each way to end without success the first :data:`MOST_NAMED`.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.batch.report.axis import Cut, pauses
from orchestrator.batch.report.levels import Levels
from orchestrator.batch.report.spans import Phase, Span, spans_of, teardown_of
from orchestrator.batch.report.wording import Ending, ending_of
from orchestrator.durable.batches import Batch, BatchState, StoredItem

MOST_BARS = 250
SLOWEST = 100
MOST_NAMED = 100


class Fate(StrEnum):
    """How an item stands, at a glance."""

    OK = "ok"
    NOT_OK = "not_ok"
    UNDER_WAY = "under_way"
    WAITING = "waiting"


#: Phases in which something is done.
BUSY = (Phase.LOOK, Phase.TEARDOWN, Phase.LAUNCH, Phase.HELD)


@dataclass(frozen=True, slots=True)
class Bar:
    """An item as it is drawn; ``seconds`` are from its beginning to its end."""

    stored: StoredItem
    spans: tuple[Span, ...]
    fate: Fate
    seconds: float | None
    word: str


@dataclass(slots=True)
class Group:
    """The items that share a fate, or a way to end: how many, and the first of them."""

    count: int = 0
    named: list[StoredItem] = field(default_factory=list)

    def add(self, stored: StoredItem) -> None:
        self.count += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(stored)


class Times:
    """Teardown times of one lab profile, or of all."""

    def __init__(self) -> None:
        self.over = array("d")
        self.at_least = array("d")

    def quantile(self, share: float) -> float:
        """The time within which that share of the teardowns was over; needs one."""
        times = sorted(self.over)
        place = share * (len(times) - 1)
        low = int(place)
        high = min(low + 1, len(times) - 1)
        return times[low] + (times[high] - times[low]) * (place - low)

    def plain(self) -> dict[str, float | int | None]:
        """How many, and how long they took."""
        some = len(self.over) > 0
        return {
            "count": len(self.over),
            "median": round(self.quantile(0.5), 3) if some else None,
            "p10": round(self.quantile(0.1), 3) if some else None,
            "p90": round(self.quantile(0.9), 3) if some else None,
            "longest": round(max(self.over), 3) if some else None,
            "not_over": len(self.at_least),
        }


class Tally:
    """Takes the items in, one by one; then tells. ``at`` is when the report is made."""

    def __init__(self, batch: Batch, *, at: float) -> None:
        self.batch = batch
        self.at = at
        self.fates: Counter[Fate] = Counter()
        self.ended: Counter[str] = Counter()
        self.api_calls = 0
        self.retried = 0
        self.last = batch.created_at
        self.first: float | None = None
        self.labs: dict[int, Times] = {}
        self.times = Times()
        self.groups: dict[Ending, Group] = {}
        self.under_way = Group()
        self.waiting = Group()
        self.levels: Levels[str] = Levels(batch.created_at)
        self._bars: list[tuple[float, int, Bar]] = []
        self._learners: set[int] = set()

    def add(self, stored: StoredItem) -> Bar:
        """Take an item in; what is drawn of it."""
        fate = self._count(stored)
        spans = spans_of(stored, since=self.batch.created_at)
        for span in spans:
            self.levels.span(span.phase, span.start, span.end)
        teardown = teardown_of(stored)
        if teardown is not None:
            ended = stored.result.ended_lab_profile_id if stored.result is not None else None
            lab = self.labs.setdefault(ended or stored.item.lab_profile_id, Times())
            for times in (lab, self.times):
                (times.over if teardown.over else times.at_least).append(teardown.seconds)
        bar = Bar(stored, spans, fate, _seconds(stored), self._word(stored, fate))
        self._keep(bar)
        return bar

    @property
    def total(self) -> int:
        """How many items there are."""
        return sum(self.fates.values())

    @property
    def learners(self) -> int:
        """How many different learners."""
        return len(self._learners)

    @property
    def is_carried_out(self) -> bool:
        """Whether somebody carries the batch out as the report is made."""
        batch = self.batch
        held = batch.held_until is not None and batch.held_until >= self.at
        return batch.state is BatchState.RUNNING and held

    @property
    def is_through(self) -> bool:
        """Whether every item has come to its end."""
        return self.fates[Fate.UNDER_WAY] == self.fates[Fate.WAITING] == 0

    @property
    def horizon(self) -> float:
        """Until when something is known: now, while it is carried out, or the last that was."""
        return max(self.last, self.at) if self.is_carried_out else self.last

    def bars(self) -> list[Bar]:
        """The items that are drawn: all by number, or the slowest, slowest first."""
        if self.shows_all:
            return [bar for _, _, bar in sorted(self._bars, key=lambda kept: -kept[1])]
        return [bar for _, _, bar in sorted(self._bars, key=lambda kept: kept[:2], reverse=True)]

    @property
    def shows_all(self) -> bool:
        """Whether everybody has a bar."""
        return self.batch.total <= MOST_BARS

    def cuts(self) -> tuple[Cut, ...]:
        """The pauses in which nothing was done."""
        phases: tuple[Phase, ...] = BUSY
        if self.is_carried_out:
            phases = (*BUSY, Phase.UNDER_WAY)
        levels = [self.levels.means(phase, self.horizon) for phase in phases]
        busy = [max(each) > 1e-6 for each in zip(*levels, strict=True)]
        busy[0] = busy[-1] = True
        return pauses(busy, self.levels.width, self.levels.origin)

    def by_size(self) -> Iterator[tuple[Ending, Group]]:
        """The ways to end without success, the most frequent first."""
        yield from sorted(self.groups.items(), key=lambda known: -known[1].count)

    def _count(self, stored: StoredItem) -> Fate:
        self._learners.add(hash(stored.item.user_id))
        self.retried += stored.attempt > 1
        result = stored.result
        if stored.begun_at is not None:
            self.last = max(self.last, stored.begun_at, stored.ended_at or 0.0)
            self.first = min(self.first or stored.begun_at, stored.begun_at)
        if stored.attempt == 0 and result is None:
            fate = Fate.WAITING
            self.waiting.add(stored)
        elif result is None:
            fate = Fate.UNDER_WAY
            self.under_way.add(stored)
        else:
            fate = Fate.OK if result.ok else Fate.NOT_OK
            self.ended[str(result.outcome)] += 1
            self.api_calls += result.api_calls
            self.levels.step(fate, stored.ended_at or self.last, 1)
            if not result.ok:
                self.groups.setdefault(ending_of(stored), Group()).add(stored)
        self.fates[fate] += 1
        return fate

    def _word(self, stored: StoredItem, fate: Fate) -> str:
        if fate is Fate.NOT_OK:
            return ending_of(stored).one
        if fate is Fate.OK and stored.result is not None:
            return _WELL.get(str(stored.result.outcome), str(stored.result.outcome))
        return "under way" if fate is Fate.UNDER_WAY else "not begun"

    def _keep(self, bar: Bar) -> None:
        begun = bar.stored.begun_at
        seconds = bar.seconds or 0.0
        if bar.fate is Fate.UNDER_WAY and begun is not None and self.is_carried_out:
            seconds = self.at - begun
        kept = (seconds, -bar.stored.item.number, bar)
        if self.shows_all or len(self._bars) < SLOWEST:
            heapq.heappush(self._bars, kept)
        else:
            heapq.heappushpop(self._bars, kept)


_WELL = {"launched": "new lab", "reused": "lab was there", "freed": "slot free"}


def _seconds(stored: StoredItem) -> float | None:
    if stored.begun_at is None or stored.ended_at is None:
        return None
    return max(0.0, stored.ended_at - stored.begun_at)
