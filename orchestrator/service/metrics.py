"""What is measured, for Prometheus: one registry, and who counts what.

* A relaunch is counted by the process that recorded its last step, from its journal: so whatever
  took part in it before, and wherever, it is counted once. A process that dies between that step
  and the count takes the count with it.
* No label is a user id, a tag or a URL; a label whose values come from outside has a bounded number
  of them, and the rest are :data:`OTHER`.
* What a store must be asked for is asked at most once in :data:`FRESH` seconds, however often
  somebody scrapes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.durable.store import RunStore
from orchestrator.errors import StoreError
from orchestrator.logs import get_logger
from orchestrator.service.journals import measured

_log = get_logger("orchestrator.service")

#: The value of a label that has had too many already.
OTHER = "other"
#: How many values a label may have: lab profiles; reasons, and results of calls.
MOST_PROFILES, MOST_CODES = 200, 100
#: Seconds for which the number of relaunches in flight is good.
FRESH = 5.0
#: Seconds that a store gets to say it; a scrape doesn't wait for longer.
STORE_TIMEOUT = 2.0

_CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PHASE_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
_TEARDOWN_BUCKETS = (
    5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0,
)  # fmt: skip


class Metrics:
    """See the module's docstring. ``now`` is a clock that only ever goes on."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self.registry = registry = CollectorRegistry()
        self._now = now
        self._answered_at = self._counted_at = -math.inf
        self._counting: set[asyncio.Task[None]] = set()
        self._profiles, self._reasons = _Bounded(MOST_PROFILES), _Bounded(MOST_CODES)
        self._results = _Bounded(MOST_CODES)
        self._ended = Counter(
            "lab_relaunch_ended",
            "Relaunches that ended, by outcome and reason.",
            ["outcome", "reason"],
            registry=registry,
        )
        self._phases = Histogram(
            "lab_relaunch_phase_seconds",
            "How long relaunches that have ended stayed in a phase, each time they came to it.",
            ["phase"],
            buckets=_PHASE_BUCKETS,
            registry=registry,
        )
        self._teardowns = Histogram(
            "lab_relaunch_teardown_seconds",
            "From the beginning of a teardown to the launch that was accepted after it, by the "
            "lab profile that was torn down.",
            ["lab_profile"],
            buckets=_TEARDOWN_BUCKETS,
            registry=registry,
        )
        self._saved = Counter(
            "lab_relaunch_wait_saved_seconds",
            "Seconds that relaunches did not wait for their next look, thanks to a webhook.",
            registry=registry,
        )
        self._calls = Counter(
            "lab_relaunch_api_calls",
            "Calls of the platform that were sent, by operation and result.",
            ["operation", "result"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "lab_relaunch_api_call_seconds",
            "How long the platform took to answer, or to fail.",
            ["operation"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "lab_relaunch_in_flight",
            "Unfinished relaunches of the API consumer, in all processes; NaN: the store is away.",
            registry=registry,
        )
        self._webhooks = Counter(
            "lab_relaunch_webhooks",
            "Webhooks that came, by event and effect.",
            ["event", "effect"],
            registry=registry,
        )
        self._streams = Gauge(
            "lab_relaunch_open_streams",
            "Event streams open in this process.",
            registry=registry,
        )

        self._batches = Gauge(
            "lab_relaunch_batches",
            "Batches that this process carries out.",
            registry=registry,
        )
        self._batch_items = Counter(
            "lab_relaunch_batch_items",
            "Learners of batches carried out in this process who have come to an end, by outcome.",
            ["outcome"],
            registry=registry,
        )

    # --- calls, webhooks, streams -----------------------------------------------------------

    def call(self, operation: str, result: str, seconds: float, *, answered: bool) -> None:
        """A call of the platform is over; ``answered``: by the platform, whatever it said."""
        self._calls.labels(operation, self._results.of(result)).inc()
        self._call_seconds.labels(operation).observe(seconds)
        if answered:
            self._answered_at = self._now()

    @property
    def seconds_since_answer(self) -> float:
        """For how long the platform has answered no call of this process (``inf``: never has)."""
        return self._now() - self._answered_at

    def webhook(self, event: str, effect: str) -> None:
        """A webhook came. Neither may be a text from outside."""
        self._webhooks.labels(event, effect).inc()

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """An event stream is open."""
        with self._streams.track_inprogress():
            yield

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """A batch is carried out."""
        with self._batches.track_inprogress():
            yield

    def batch_item(self, outcome: str) -> None:
        """A learner of a batch has come to an end."""
        self._batch_items.labels(outcome).inc()

    # --- relaunches -------------------------------------------------------------------------

    def counts_ends_of(self, store: RunStore) -> Callable[[str], None]:
        """What a relauncher is to be given as ``on_end``."""

        def on_end(relaunch_id: str) -> None:
            task = asyncio.create_task(self.count_ended(store, relaunch_id))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)

        return on_end

    async def count_ended(self, store: RunStore, relaunch_id: str) -> None:
        """Count a relaunch that has ended; once, please. Where the store is away it is not."""
        try:
            stored = await store.load(relaunch_id)
            entries = await store.journal(relaunch_id)
        except StoreError as error:
            _log.warning("end_not_counted", relaunch_id=relaunch_id, reason=error.code)
            return
        run = stored.run
        self._ended.labels(run.state.value, self._reasons.of(run.reason or "none")).inc()
        found = measured(run, entries)
        for phase, seconds in found.phases:
            self._phases.labels(phase).observe(seconds)
        if found.teardown is not None:
            profile = run.target_profile_id
            name = "unknown" if profile is None else self._profiles.of(str(profile))
            self._teardowns.labels(name).observe(found.teardown)
        self._saved.inc(found.saved)

    async def settled(self) -> None:
        """Wait until every end that was told has been counted."""
        while self._counting:
            await asyncio.gather(*self._counting)

    async def look(self, store: RunStore) -> None:
        """Bring what only the store knows up to date, unless it is."""
        if self._now() - self._counted_at < FRESH:
            return
        self._counted_at = self._now()  # those who come meanwhile needn't ask as well
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                self._in_flight.set(await store.unfinished())
        except (StoreError, TimeoutError):
            self._in_flight.set(math.nan)


class _Bounded:
    """The values of a label, of which there may be so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()

    def of(self, value: str) -> str:
        """The value, or :data:`OTHER` if it is new and there are enough."""
        if value not in self._seen:
            if len(self._seen) >= self._most:
                return OTHER
            self._seen.add(value)
        return value
