"""Who follows runs in one process, and the one look at the store that all of them share.

* Whoever follows waits until it is told; it costs no timer and no question while nothing happens.
* What this process drives is told by who drives it. Of the rest a notification may be lost with a
  connection, so one task asks the store, every :attr:`RunStore.latency` (or second), for those
  among all that are followed whose version has moved: these are read, and no other.
* "Any run may have changed" makes that task ask at once, however often it is said meanwhile, but
  never for more than a share of its time: a store that others keep busy is not asked in a loop.
* The task begins with the first who follows and ends with the last. If the store is away for long,
  who follows gets to know it, as by a question of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from orchestrator.durable.store import RunStore
from orchestrator.errors import StoreUnavailable
from orchestrator.logs import get_logger
from orchestrator.ports import AsyncClock

_log = get_logger("orchestrator.durable")

#: Seconds between two looks at least at what others drive, and at what this process does: there,
#: being told has only to be made sure of.
AGAIN, AGAIN_HERE = 1.0, 60.0
#: How long the task rests after a look, in times of what the look took.
REST = 9.0
#: Seconds for which looks may fail before those who follow are told.
AWAY = 3.0


class Follower:
    """One who follows a run: ``version`` is the last that it has seen, ``None`` before it has read.

    ``to_the_end``: only the end is of interest to it.
    """

    __slots__ = ("_error", "_is_told", "_waiting", "to_the_end", "version")

    def __init__(self, *, version: int | None = None, to_the_end: bool = False) -> None:
        self.version = version
        self.to_the_end = to_the_end
        self._is_told = False
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None

    def begin_to_read(self) -> None:
        """What comes from now on is to be read next time."""
        self._is_told = False

    def tell(self, error: Exception | None = None) -> None:
        """There may be something to read; or ``error`` keeps the run from being followed."""
        self._is_told = True
        self._error = error
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def saw(self, version: int) -> None:
        """The run has come so far, as this follower knows."""
        self.version = version if self.version is None else max(version, self.version)

    async def change(self) -> None:
        """Wait until it is worth reading. Raises what keeps the store from being looked at."""
        if not self._is_told:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        error, self._error = self._error, None
        if error is not None:
            raise error


class Followers:
    """See the module's docstring. ``knows`` says whether this process tells of a run's changes."""

    def __init__(self, store: RunStore, clock: AsyncClock, knows: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._knows = knows
        self._following: dict[str, set[Follower]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._none_left = asyncio.Event()
        #: When to look at what this process drives as well.
        self._look_here_at = 0.0
        self._away_since: float | None = None

    @contextlib.contextmanager
    def one(self, relaunch_id: str, follower: Follower) -> Iterator[Follower]:
        """Let it follow the run."""
        followers = self._following.setdefault(relaunch_id, set())
        followers.add(follower)
        self._none_left.clear()
        if self._looking is None:
            self._look_here_at = self._clock.now() + AGAIN_HERE
            self._looking = asyncio.create_task(self._look_again(), name="followers")
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers and self._following.get(relaunch_id) is followers:
                del self._following[relaunch_id]
            if not self._following:
                self._none_left.set()
                self._wanted.set()

    def tell(self, relaunch_id: str) -> None:
        """This run may have changed."""
        for follower in self._following.get(relaunch_id, ()):
            follower.tell()

    def tell_of_any(self) -> None:
        """Any run may have changed that this process does not drive."""
        self._wanted.set()
        for relaunch_id, followers in self._following.items():
            for follower in followers:
                # It is reading, so the look leaves it out.
                if follower.version is None and not self._knows(relaunch_id):
                    follower.tell()

    async def close(self) -> None:
        """Wait for the end of the last look, if nobody follows any more."""
        if self._looking is not None and not self._following:
            await asyncio.wait([self._looking])

    async def _look_again(self) -> None:
        rest = 0.0
        try:
            while self._following:
                again = max(self._store.latency, AGAIN)
                if rest:
                    await self._clock.wait(min(rest, again), self._none_left)
                await self._clock.wait(max(again - rest, 0.0), self._wanted)
                if self._following:
                    rest = await self._look() * REST
        finally:
            self._looking = None

    async def _look(self) -> float:
        """Tell those whose run has moved; how long it took."""
        began = self._clock.now()
        self._wanted.clear()
        here = began >= self._look_here_at
        if here:
            self._look_here_at = began + AGAIN_HERE
        seen = {
            relaunch_id: version
            for relaunch_id, followers in self._following.items()
            if (here or not self._knows(relaunch_id)) and (version := _least(followers)) is not None
        }
        if not seen:
            return 0.0
        try:
            moved = await self._store.moved_on(seen)
        except StoreUnavailable as error:
            self._is_away(began, error, seen)
        except Exception as error:
            # Also a bug of ours: nobody is to wait for a look that can't be had.
            _log.error("look_failed", reason=type(error).__name__)
            failed = error
            self._tell_all(seen, lambda: failed)
        else:
            self._away_since = None
            for relaunch_id, (version, has_ended) in moved.items():
                self._moved(relaunch_id, version, has_ended)
        return max(0.0, self._clock.now() - began)

    def _moved(self, relaunch_id: str, version: int, has_ended: bool) -> None:
        for follower in self._following.get(relaunch_id, ()):
            # Who reads for the first time finds it by itself; who has read on since has it.
            if follower.version is None or (version <= follower.version and not has_ended):
                continue
            follower.saw(version)
            if has_ended or not follower.to_the_end:
                follower.tell()

    def _is_away(self, began: float, error: StoreUnavailable, seen: dict[str, int]) -> None:
        _log.warning("store_unavailable")
        if self._away_since is None:
            self._away_since = began
        if self._clock.now() - self._away_since >= AWAY:
            self._away_since = None
            told = str(error)
            # One for each: a traceback grows with everybody who raises it.
            self._tell_all(seen, lambda: StoreUnavailable(told))

    def _tell_all(self, seen: dict[str, int], error: Callable[[], Exception]) -> None:
        for relaunch_id in seen:
            for follower in self._following.get(relaunch_id, ()):
                follower.tell(error())


def _least(followers: set[Follower]) -> int | None:
    return min((f.version for f in followers if f.version is not None), default=None)
