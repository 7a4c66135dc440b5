"""The token bucket that all calls of an API consumer share. Pure: a value and what is taken of it.

The algorithm is pyrate-limiter's token bucket (GCRA: its whole state is one moment, when the
bucket will be full again); ours is where the state is kept, and that the rate may change.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from orchestrator.errors import ConfigurationError
from orchestrator.traffic.pace import Limits
from orchestrator.traffic.rank import Rank

if TYPE_CHECKING:
    from pyrate_limiter.abstracts.algorithm import TokenBucket
    from pyrate_limiter.abstracts.rate import Rate

#: Milliseconds over which a rate is stated as a whole number of calls: 1,000 s.
_INTERVAL = 1_000_000
#: Microseconds of a token, and a little: what is rounded up is not cut off.
_MORE_THAN_ALL = 1_010_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """``full_at`` is when it will be full again (Unix epoch, microseconds) if it fills at ``rate``
    calls per second."""

    full_at: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of asking: which of the calls may go (by position), and from when on the next
    of each rank may (Unix epoch seconds)."""

    bucket: Bucket
    admitted: tuple[int, ...]
    free_from: Mapping[Rank, float]


def take(bucket: Bucket, calls: Sequence[Rank], *, rate: float, limits: Limits, at: float) -> Taken:
    """Take a token for each call, in this order.

    Each rank leaves some tokens alone, so that another process finds some for a higher one.
    """
    algorithm, rates = _algorithm(), [_rate(rate, limits.burst)]
    now = int(at * 1000)
    state: tuple[float, ...] = (_full_at(bucket, rate, limits, now),)
    needs = _needs(limits)
    waits = dict.fromkeys(Rank, 0.0)
    admitted = []
    for position, rank in enumerate(calls):
        if waits[rank] > 0:
            continue
        _, verdict = algorithm.step(rates, state, now, needs[rank])
        if verdict.allowed:
            state, _ = algorithm.step(rates, state, now, 1)
            admitted.append(position)
        else:
            waits[rank] = _seconds(verdict.retry_after_ms)
    for rank in Rank:
        _, verdict = algorithm.step(rates, state, now, needs[rank])
        waits[rank] = 0.0 if verdict.allowed else _seconds(verdict.retry_after_ms)
    after = Bucket(full_at=int(state[0]), rate=rate)
    free_from = {rank: at + wait for rank, wait in waits.items()}
    return Taken(bucket=after, admitted=tuple(admitted), free_from=free_from)


def emptied(*, rate: float, limits: Limits, at: float) -> Bucket:
    """A bucket that begins to fill at ``at``: the calls after it begin one by one."""
    return Bucket(full_at=int(at * 1_000_000) + int(limits.burst * 1_000_000 / rate), rate=rate)


def _needs(limits: Limits) -> dict[Rank, int]:
    """The tokens that must be there for a call of each rank, which takes one of them."""
    poll = 1 + limits.reserved
    # One that waits for the bucket to be full loses whatever fills while nobody asks.
    most = max(poll, limits.burst - 1)
    return {
        Rank.BUTTON_URGENT: 1,
        Rank.BUTTON_POLL: poll,
        Rank.BULK_URGENT: min(poll + 1, most),
        Rank.BULK_POLL: min(poll + 2, most),
    }


def _full_at(bucket: Bucket, rate: float, limits: Limits, now: int) -> int:
    """When it will be full at the rate of now: what is missing are tokens, not seconds."""
    missing = max(0, bucket.full_at - now * 1000)
    if bucket.rate != rate:
        missing = int(missing * bucket.rate / rate)
    # Never more than all: a process whose clock is far ahead must not stop the others.
    return now * 1000 + min(missing, int(limits.burst * _MORE_THAN_ALL / rate))


def check_library() -> None:
    """Raise :class:`~orchestrator.errors.ConfigurationError` now rather than at the first 429."""
    if importlib.util.find_spec("pyrate_limiter") is None:
        raise ConfigurationError(
            "A gate before the platform needs pyrate-limiter; nothing was begun. "
            "Install it with: pip install 'lab-relaunch[durable]'"
        )


def _seconds(milliseconds: int | None) -> float:
    """At least one: a wait that is rounded to nothing would be a busy loop."""
    return max(1, milliseconds or 0) / 1000


@cache
def _algorithm() -> TokenBucket:
    # Imported late: it brings its buckets for every database along, 30 ms that few need.
    from pyrate_limiter.abstracts.algorithm import TokenBucket

    return TokenBucket()


def _rate(rate: float, burst: int) -> Rate:
    from pyrate_limiter.abstracts.rate import Rate

    return Rate(max(1, round(rate * _INTERVAL / 1000)), _INTERVAL, burst=burst)
