"""What a process does with the relaunches of a store: start, follow, hint and abort them.

Two kinds of it: :class:`~orchestrator.durable.embedded.EmbeddedRuntime` drives runs in this
process; the fleet (:mod:`orchestrator.durable.fleet`) leaves that to its workers. Following is
the same in both: whoever follows reads the journal, from any point, whoever drives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from orchestrator.durable.driver import OnEnd
from orchestrator.durable.driving import GRACE
from orchestrator.durable.following import Follower, Followers
from orchestrator.durable.starting import Started, start
from orchestrator.durable.store import RunStore, Step, StoredRun
from orchestrator.errors import StoreError
from orchestrator.machine.run import Run
from orchestrator.machine.vocabulary import TERMINAL, State
from orchestrator.ports import AsyncClock
from orchestrator.progress import Outcome, Progress, outcome_of
from orchestrator.requests import OnConflict, Priority

#: What this program's journals tell.
_PHASES = frozenset(State)


class Runtime:
    """See the module's docstring. Lives in one event loop."""

    def __init__(self, store: RunStore, clock: AsyncClock, on_end: OnEnd | None = None) -> None:
        self.store = store
        self.clock = clock
        self._on_end = on_end
        #: Who drives what is begun here; ``None``: that is decided later.
        self.drives_new: str | None = None
        # By its name when it is asked: what drives here is for those who extend this to say.
        self._followers = Followers(store, clock, lambda relaunch_id: self.knows(relaunch_id))
        self._unwatch: Callable[[], None] | None = None

    async def open(self) -> None:
        """Open the store and begin to watch it. More than once is harmless."""
        if self._unwatch is None:
            self._unwatch = unwatch = self.store.watch(self._changed)
            try:
                await self.store.open()
            except BaseException:
                unwatch()
                self._unwatch = None
                raise

    async def close(self, *, grace: float = GRACE) -> None:
        """Leave every run to others, and let go of what this process holds, not of the store.

        Calls under way get ``grace`` seconds to be answered; then they are dropped, and whoever
        takes the run up next looks what came of them.
        """
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        await self._followers.close()

    async def start(
        self,
        run: Run,
        *,
        key: str | None = None,
        priority: Priority = Priority.BUTTON,
        on_conflict: OnConflict = "refuse",
    ) -> Started:
        """Store the run, or join the one that is there; see :func:`.starting.start`."""
        await self.open()
        started = await start(
            self.store,
            run,
            at=self.clock.now(),
            key=key,
            priority=priority,
            on_conflict=on_conflict,
            owner=self.drives_new,
        )
        self.see_to(started.stored)
        if started.superseded is not None:
            await self._tell_superseded(started.superseded)
        return started

    async def _tell_superseded(self, ending: Step) -> None:
        """Tell that a relaunch has ended that nobody drives any more, if it was ended here."""
        if self._on_end is None:
            return
        relaunch_id = ending.run.relaunch_id
        with contextlib.suppress(StoreError):
            if (await self.store.load(relaunch_id)).run == ending.run:
                self._on_end(relaunch_id)

    async def attach(self, relaunch_id: str) -> StoredRun:
        """See to a stored run by its id."""
        await self.open()
        stored = await self.store.load(relaunch_id)
        self.see_to(stored)
        return stored

    async def resume_all(self) -> tuple[StoredRun, ...]:
        """Take up every unfinished run that nobody looks after, now and from now on."""
        raise NotImplementedError

    async def work(self) -> None:
        """Drive whatever of the store needs to be driven, until cancelled."""
        await self.resume_all()
        await asyncio.Event().wait()

    def see_to(self, stored: StoredRun) -> None:
        """See to it that somebody drives the run."""

    def drives(self, relaunch_id: str) -> bool:
        """Whether the run is being driven in this process right now."""
        return False

    def knows(self, relaunch_id: str) -> bool:
        """Whether this process drives the run, so that its changes are told by its id."""
        return False

    async def hint(self, lab_instance_id: int) -> bool:
        """Store that an instance seems torn down, and wake who waits for it, if anybody does."""
        await self.open()
        hit = await self.store.hint(lab_instance_id, at=self.clock.now())
        self._reached(hit)
        return bool(hit)

    def _reached(self, relaunch_ids: Iterable[str]) -> None:
        """Something was stored here for these runs: tell those that are driven in this process."""

    async def abort(self, relaunch_id: str) -> bool:
        """Store the wish to abort; ``False`` if the relaunch has ended."""
        await self.open()
        return await self.store.request_abort(relaunch_id, at=self.clock.now())

    async def events(self, relaunch_id: str, *, after: int = 0) -> AsyncIterator[Progress]:
        """Every progress after sequence number ``after``, as it comes, up to the last one."""
        with self._followers.one(relaunch_id, Follower()) as follower:
            while True:
                follower.begin_to_read()
                entries = await self.store.journal(relaunch_id, after=after)
                for entry in entries:
                    after = entry.progress.sequence
                    yield entry.progress
                    del entry
                if entries and (phase := entries[-1].progress.phase) in _PHASES:
                    has_ended = phase in TERMINAL
                    follower.saw(after)
                else:
                    # What the journal doesn't say: after the last entry, or in a newer program's.
                    stored = await self.store.load(relaunch_id)
                    has_ended = stored.finished_at is not None and after >= stored.version
                    follower.saw(min(after, stored.version))
                    del stored
                if has_ended:
                    return
                # Most of the time is spent waiting, by thousands at a time.
                del entries
                await follower.change()

    async def outcome(self, relaunch_id: str, *, begins: bool = False) -> Outcome:
        """Wait for the end, and how it was, time line and all; ``begins``: stored just now."""
        with self._followers.one(relaunch_id, Follower(version=0, to_the_end=True)) as follower:
            while True:
                follower.begin_to_read()
                # As long as it is driven here, it has not ended.
                if begins:
                    begins = False
                elif not self.drives(relaunch_id):
                    stored = await self.store.load(relaunch_id)
                    if stored.finished_at is not None:
                        break
                    follower.saw(stored.version)
                await self._end_or_change(relaunch_id, follower)
        return await outcome_so_far(self.store, stored)

    async def _end_or_change(self, relaunch_id: str, follower: Follower) -> None:
        """Wait until it is worth looking whether the run has ended."""
        await follower.change()

    def _changed(self, relaunch_id: str | None) -> None:
        if relaunch_id is None:
            self._followers.tell_of_any()
        else:
            self._followers.tell(relaunch_id)

    def _tell_followers(self, relaunch_id: str) -> None:
        self._followers.tell(relaunch_id)


async def outcome_so_far(store: RunStore, stored: StoredRun) -> Outcome:
    """The outcome of a stored run, with its time line from the journal."""
    entries = await store.journal(stored.run.relaunch_id)
    return outcome_of(
        stored.run,
        at=stored.finished_at or stored.updated_at,
        api_calls=stored.api_calls,
        events=tuple(entry.progress for entry in entries),
    )
