"""What all processes of an API consumer know of its traffic: one small text, and its changes. Pure.

Each change is a function from text to text and a verdict, so that any store with a transactional
read-modify-write can hold it (``RunStore.change`` does). A text that can't be read counts as none:
losing it costs politeness for a moment, never a call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from orchestrator.plain import from_plain, to_plain
from orchestrator.traffic import pace as p
from orchestrator.traffic.budget import Bucket, emptied, take
from orchestrator.traffic.pace import Circuit, Limits, Pace
from orchestrator.traffic.rank import Rank

T = TypeVar("T")


class Shared(Protocol):
    """Where the text is kept; every :class:`~orchestrator.durable.store.RunStore` will do."""

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change the text ``name`` in one transaction; ``step`` is pure and may run twice.

        Raises :class:`~orchestrator.errors.StoreError`.
        """


class InProcess:
    """:class:`Shared` for one process without a store."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change the text."""
        text, answer = step(self._texts.get(name))
        if text is None:
            self._texts.pop(name, None)
        else:
            self._texts[name] = text
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The shared value: how fast calls may go, and the bucket that they take their tokens from."""

    pace: Pace = field(default_factory=Pace)
    bucket: Bucket = field(default_factory=Bucket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which calls may go (by position), and from when on the bucket has a token for the next of a
    rank; where it has one at once, nothing is said.

    ``trial`` is the number of the trial if the one admitted call is that. ``traffic`` is the
    shared value after it.
    """

    traffic: Traffic
    admitted: tuple[int, ...] = ()
    trial: int = 0
    free_from: Mapping[Rank, float] = field(default_factory=dict)


#: A change of the shared text, as a store takes it.
Change = Callable[[str | None], tuple[str | None, Verdict]]


def ask(calls: Sequence[Rank], *, already_sent: int, limits: Limits, at: float) -> Change:
    """Ask to let calls through, in this order.

    ``already_sent`` calls went without asking since the last time; they are counted now.
    """

    def step(traffic: Traffic) -> Verdict:
        pace = p.sent(traffic.pace, already_sent, at) if already_sent else traffic.pace
        if pace.circuit is not Circuit.CLOSED:
            return _try(replace(traffic, pace=pace), calls, at)
        if pace.paused_until > at:
            return Verdict(traffic=replace(traffic, pace=pace))
        rate = p.rate(pace, limits, at)
        if rate is None:
            pace = p.sent(pace, len(calls), at) if calls else pace
            everybody = tuple(range(len(calls)))
            return Verdict(traffic=replace(traffic, pace=pace), admitted=everybody)
        now = p.in_force(pace, limits, at)
        taken = take(traffic.bucket, calls, rate=rate, limits=now, at=at)
        if taken.admitted:
            traffic = replace(traffic, bucket=taken.bucket)
            pace = p.sent(pace, len(taken.admitted), at)
        return Verdict(
            traffic=replace(traffic, pace=pace),
            admitted=taken.admitted,
            free_from=taken.free_from,
        )

    return _on_text(step)


def tell_rate_limited(
    *,
    retry_after: float | None,
    cuts: int,
    trial: int,
    already_sent: int,
    limits: Limits,
    at: float,
    sent_at: float = 0.0,
    served: float = 0.0,
) -> Change:
    """Tell of a 429: see :func:`.pace.rate_limited`."""

    def step(traffic: Traffic) -> Verdict:
        pace = p.sent(traffic.pace, already_sent, at)
        pace = p.rate_limited(
            pace,
            limits,
            at,
            retry_after=retry_after,
            cuts=cuts,
            trial=trial,
            sent_at=sent_at,
            served=served,
        )
        return _slowed(traffic, pace, limits)

    return _on_text(step)


def tell_served(*, cuts: int, served: float) -> Change:
    """Tell what this process was served before the last 429: see :func:`.pace.also_served`."""
    return _on_text(
        lambda traffic: Verdict(
            traffic=replace(traffic, pace=p.also_served(traffic.pace, cuts=cuts, served=served))
        )
    )


def tell_answered(*, trial: int, limits: Limits, at: float) -> Change:
    """Tell of an answer after outages: see :func:`.pace.answered`."""

    def step(traffic: Traffic) -> Verdict:
        pace = p.answered(traffic.pace, limits, at, trial=trial)
        if pace.cuts > traffic.pace.cuts:
            return _slowed(traffic, pace, limits)
        return Verdict(traffic=replace(traffic, pace=pace))

    return _on_text(step)


def tell_failed(
    *, retry_after: float | None, trial: int, already_sent: int, limits: Limits, at: float
) -> Change:
    """Tell of an outage: see :func:`.pace.failed`."""

    def step(traffic: Traffic) -> Verdict:
        pace = p.sent(traffic.pace, already_sent, at)
        pace = p.failed(pace, limits, at, retry_after=retry_after, trial=trial)
        return Verdict(traffic=replace(traffic, pace=pace))

    return _on_text(step)


def tell_given_up(*, trial: int, at: float) -> Change:
    """Tell that a trial came to nothing: see :func:`.pace.give_up_trial`."""
    return _on_text(
        lambda traffic: Verdict(
            traffic=replace(traffic, pace=p.give_up_trial(traffic.pace, at, trial=trial))
        )
    )


def read(text: str | None) -> Traffic:
    """The value of a text."""
    if text is None:
        return Traffic()
    try:
        return from_plain(Traffic, json.loads(text))
    except ValueError:
        return Traffic()


def written(traffic: Traffic) -> str:
    """The text of a value."""
    return json.dumps(to_plain(traffic), separators=(",", ":"))


def _on_text(step: Callable[[Traffic], Verdict]) -> Change:
    def change(text: str | None) -> tuple[str | None, Verdict]:
        before = read(text)
        verdict = step(before)
        return (text if verdict.traffic == before else written(verdict.traffic)), verdict

    return change


def _try(traffic: Traffic, calls: Sequence[Rank], at: float) -> Verdict:
    """Let one call through a circuit that is not closed, if it is time to: a poll, if any."""
    pace, trial = traffic.pace, 0
    admitted: tuple[int, ...] = ()
    for urgent in (False, True):
        fitting = [n for n, rank in enumerate(calls) if rank.is_urgent is urgent]
        if fitting and at >= p.opens_at(pace, at, urgent=urgent):
            pace = p.begin_trial(p.sent(pace, 1, at), at)
            admitted, trial = (fitting[0],), pace.trials
            break
    return Verdict(traffic=replace(traffic, pace=pace), admitted=admitted, trial=trial)


def _slowed(traffic: Traffic, pace: Pace, limits: Limits) -> Verdict:
    """The calls after a pause, or an outage, begin one by one."""
    begin = max(pace.paused_until, pace.taught_at)
    rate = p.rate(pace, limits, begin)
    if rate is None:
        return Verdict(traffic=replace(traffic, pace=pace))
    bucket = emptied(rate=rate, limits=limits, at=begin)
    return Verdict(traffic=Traffic(pace=pace, bucket=bucket))
