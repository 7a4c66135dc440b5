"""How often each caller may ask, in a moving window of a minute, and how many streams it may hold.

Counted in this process; each replica counts for itself. A good credential is always let in, however
many wrong ones come from the same address: a class sits behind one, and 256 bits cannot be guessed.
What is refused beyond the limit are the wrong ones.

The moving window is that of ``limits``; where it keeps its times is our own, since the library's
memory goes through all names in a thread after each request, and never forgets one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import time
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import Storage
from limits.storage.base import MovingWindowSupport
from limits.strategies import MovingWindowRateLimiter

from orchestrator.service.access.callers import Caller
from orchestrator.service.refusals import TooMany

#: Requests of a learner within a minute that need the platform.
LEARNER_PLATFORM_CALLS = 30
_MOST_NAMES = 50_000
_STREAM_RETRY_SECONDS = 10.0


class CallerLimits:
    """See the module's docstring."""

    def __init__(
        self,
        *,
        learner_requests_per_minute: int = 120,
        key_requests_per_minute: int = 6000,
        failures_per_minute: int = 60,
        most_streams: int = 10_000,
        most_streams_each: int = 10,
    ) -> None:
        self._windows = _Windows()
        self._limiter = MovingWindowRateLimiter(self._windows)
        self._learner = RateLimitItemPerMinute(learner_requests_per_minute)
        self._key = RateLimitItemPerMinute(key_requests_per_minute)
        self._platform = RateLimitItemPerMinute(LEARNER_PLATFORM_CALLS)
        self._failures = RateLimitItemPerMinute(failures_per_minute)
        self._most_streams = most_streams
        self._most_streams_each = most_streams_each
        self._streams: Counter[str] = Counter()

    def count_request(self, caller: Caller) -> None:
        """One more request of this caller. Raises ``TooMany``."""
        item = self._learner if caller.is_learner else self._key
        if not self._limiter.hit(item, caller.name):
            raise TooMany(
                f"More than {item.amount} requests within a minute. Nothing was done by this one; "
                "what was begun before goes on.",
                retry_after=self._wait(item, caller.name),
            )

    def count_platform_call(self, caller: Caller) -> None:
        """One more request that makes the platform work. Raises ``TooMany``.

        Learners have few of them: one who presses without end must not use up what all share.
        """
        name = f"{caller.name} platform"
        if caller.is_learner and not self._limiter.hit(self._platform, name):
            raise TooMany(
                f"More than {LEARNER_PLATFORM_CALLS} looks, relaunches and entries within a "
                "minute. Nothing was done by this one; what was begun before goes on.",
                retry_after=self._wait(self._platform, name),
            )

    def count_failure(self, address: str | None) -> None:
        """One more wrong credential from this address. Raises ``TooMany``."""
        name = _network(address)
        if not self._limiter.hit(self._failures, name):
            raise TooMany(
                "Too many wrong credentials from this address. Nothing was done; a good one is "
                "let in at any time.",
                retry_after=self._wait(self._failures, name),
            )

    @contextlib.contextmanager
    def stream(self, caller: Caller) -> Iterator[None]:
        """Hold an event stream open. Raises ``TooMany`` on entering."""
        if self._streams.total() >= self._most_streams:
            raise TooMany(
                "All event streams of this service are taken. Nothing was changed; ask for the "
                "relaunch itself from time to time instead.",
                retry_after=_STREAM_RETRY_SECONDS,
            )
        if caller.is_learner and self._streams[caller.name] >= self._most_streams_each:
            raise TooMany(
                f"More than {self._most_streams_each} event streams at a time. Nothing was "
                "changed; close one, or ask for the relaunch itself from time to time.",
                retry_after=_STREAM_RETRY_SECONDS,
            )
        self._streams[caller.name] += 1
        try:
            yield
        finally:
            self._streams[caller.name] -= 1
            if not self._streams[caller.name]:
                del self._streams[caller.name]

    @property
    def most_streams(self) -> int:
        """How many event streams may be open."""
        return self._most_streams

    @property
    def open_streams(self) -> int:
        """How many event streams are open."""
        return self._streams.total()

    def _wait(self, item: RateLimitItem, name: str) -> float:
        return self._limiter.get_window_stats(item, name).reset_time - time.time()


class _Windows(Storage, MovingWindowSupport):
    """The times of each name's requests; names that were silent for a window are forgotten.

    Should there be too many names all the same, the one that was silent longest starts afresh.
    """

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether ``amount`` more fit into the window of ``key``; if so they are in it."""
        now = time.time()
        self._forget(now - expiry)
        times = self._times.setdefault(key, [])
        del times[: bisect_right(times, now - expiry)]
        if len(times) + amount > limit:
            return False
        times.extend([now] * amount)
        self._times.move_to_end(key)
        return True

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When the window of ``key`` began, and how many are in it."""
        now = time.time()
        times = self._times.get(key, [])
        gone = bisect_right(times, now - expiry)
        return (times[gone], len(times) - gone) if gone < len(times) else (now, 0)

    def _forget(self, before: float) -> None:
        """Amortised over the requests: each forgets as many names as it could add, and one more."""
        for _ in range(2):
            if not self._times:
                return
            oldest, times = next(iter(self._times.items()))
            if times and times[-1] > before and len(self._times) < _MOST_NAMES:
                return
            del self._times[oldest]

    # What other strategies would need. Ours never asks.

    @property
    def base_exceptions(self) -> type[Exception]:
        """None in particular."""
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Not for a moving window."""
        raise NotImplementedError

    def get(self, key: str) -> int:
        """Not for a moving window."""
        raise NotImplementedError

    def get_expiry(self, key: str) -> float:
        """Not for a moving window."""
        raise NotImplementedError

    def check(self) -> bool:
        """Memory is always there."""
        return True

    def reset(self) -> int:
        """Forget everybody."""
        count = len(self._times)
        self._times.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget one."""
        self._times.pop(key, None)


def _network(address: str | None) -> str:
    """An address as it counts: of IPv6 the network, of which everybody has 2**64 addresses."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "elsewhere"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
