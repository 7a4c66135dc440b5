"""Following thousands of runs that others drive: one look for all, and nobody misses anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from orchestrator.durable.following import AGAIN, AGAIN_HERE, AWAY, REST
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.runtime import Runtime
from orchestrator.durable.store import Entry, StoredRun
from orchestrator.errors import StoreUnavailable, UnknownRelaunch
from orchestrator.machine.vocabulary import State
from orchestrator.testing.virtual import VirtualClock, run_virtual
from tests.contract.stores import after, begun, ended, new_run, next_step, taken
from tests.durable.test_durable_relaunch import Setting


class Asked(MemoryRunStore):
    """Counts what it is asked; it is slow, silent and away as told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.looks: list[set[str]] = []
        self.seconds = 0.0
        self.looks_take = 0.0
        self.fails: Callable[[], Exception] | None = None

    async def load(self, relaunch_id: str) -> StoredRun:
        self.asked["load"] += 1
        return await super().load(relaunch_id)

    async def journal(self, relaunch_id: str, *, after: int = 0) -> tuple[Entry, ...]:
        self.asked["journal"] += 1
        found = await super().journal(relaunch_id, after=after)
        await asyncio.sleep(self.seconds)
        return found

    async def moved_on(self, seen: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
        self.looks.append(set(seen))
        if self.fails is not None:
            raise self.fails()
        moved = await super().moved_on(seen)
        await asyncio.sleep(self.looks_take)
        return moved

    def be_silent(self) -> None:
        """Tell nobody of any change any more."""
        setattr(self._watchers, "tell", lambda relaunch_id: None)  # noqa: B010 - a method

    def tell_of_any(self) -> None:
        """As a store that does not know what another process has changed."""
        self._watchers.tell(None)

    def tell_of(self, relaunch_id: str) -> None:
        """As a store that knows."""
        self._watchers.tell(relaunch_id)


class Follows:
    """One who follows a run: what it has heard so far, and when it heard the last of it."""

    def __init__(self, runtime: Runtime, relaunch_id: str, after: int = 0) -> None:
        self.heard: list[int] = []
        self.heard_at = 0.0
        self.task = asyncio.create_task(self._follow(runtime, relaunch_id, after))

    async def _follow(self, runtime: Runtime, relaunch_id: str, after: int) -> None:
        async for progress in runtime.events(relaunch_id, after=after):
            self.heard.append(progress.sequence)
            self.heard_at = runtime.clock.now()


@asynccontextmanager
async def follows_only(store: MemoryRunStore) -> AsyncIterator[Runtime]:
    """A process that drives nothing; nothing of it is left at its end."""
    before = asyncio.all_tasks()
    runtime = Runtime(store, VirtualClock())
    await runtime.open()
    yield runtime
    await runtime.close()
    assert asyncio.all_tasks() == before


async def cancelled(*following: Follows) -> None:
    """They follow no more."""
    for each in following:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in following), return_exceptions=True)


async def waiting(store: MemoryRunStore, count: int) -> list[StoredRun]:
    """So many runs of as many learners, each in its second step."""
    runs = [await begun(store, new_run(f"r{n}", f"learner-{n}")) for n in range(count)]
    runs = [await taken(store, run, State.DISPLACING) for run in runs]
    return [await taken(store, run, State.TEARING_DOWN, target=5) for run in runs]


def test_of_idle_runs_nothing_is_read_and_one_look_is_for_all() -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 200)
        async with follows_only(store) as runtime:
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            await asyncio.sleep(600.5)
            assert store.asked == {"journal": 200}
            assert len(store.looks) == 600 / AGAIN
            assert all(len(seen) == 200 for seen in store.looks)
            assert all(each.heard == [1, 2] for each in following)
            await cancelled(*following)

    run_virtual(main())


def test_who_is_told_nothing_hears_of_each_step_within_a_second_and_only_that_run_is_read() -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 50)
        async with follows_only(store) as runtime:
            store.be_silent()
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            twice = Follows(runtime, "r7", after=1)
            await asyncio.sleep(10.3)
            store.asked.clear()
            at = runtime.clock.now()
            moved = await taken(store, runs[7], State.LOOKING)
            await asyncio.sleep(2)
            assert (following[7].heard, twice.heard) == ([1, 2, 3], [2, 3])
            assert following[7].heard_at - at <= AGAIN
            # One question for each who follows the run: the journal says that it goes on.
            assert store.asked == {"journal": 2}
            at = runtime.clock.now()
            await taken(store, moved, State.LAUNCHED)
            await asyncio.wait([following[7].task, twice.task])
            assert runtime.clock.now() - at <= AGAIN
            assert store.asked == {"journal": 4}
            assert following[7].heard == [1, 2, 3, 4]
            await cancelled(*following)

    run_virtual(main())


def test_a_notification_by_id_wakes_that_one_at_once_and_nobody_else() -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 3)
        async with follows_only(store) as runtime:
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            await asyncio.sleep(0.5)
            store.asked.clear()
            await taken(store, runs[1], State.LOOKING)
            store.tell_of("r1")
            at = runtime.clock.now()
            await asyncio.sleep(0.1)
            assert (following[1].heard, following[1].heard_at) == ([1, 2, 3], at)
            assert (store.asked, store.looks) == ({"journal": 1}, [])
            await cancelled(*following)

    run_virtual(main())


def test_that_any_run_may_have_changed_is_one_look_at_once() -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 20)
        async with follows_only(store) as runtime:
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            await asyncio.sleep(0.5)
            store.asked.clear()
            await taken(store, runs[4], State.LOOKING)
            for _ in range(100):
                store.tell_of_any()
            at = runtime.clock.now()
            await asyncio.sleep(0.1)
            assert (following[4].heard, following[4].heard_at) == ([1, 2, 3], at)
            assert (store.asked, len(store.looks)) == ({"journal": 1}, 1)
            await cancelled(*following)

    run_virtual(main())


def test_a_store_that_others_keep_busy_is_looked_at_for_a_share_of_the_time() -> None:
    async def main() -> None:
        store = Asked()
        store.looks_take = 0.02
        runs = await waiting(store, 5)
        async with follows_only(store) as runtime:
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            await asyncio.sleep(0.5)
            for _ in range(1_000):
                store.tell_of_any()
                await asyncio.sleep(0.01)
            assert 45 <= len(store.looks) <= 10.0 / (0.02 * (1 + REST)) + 1
            assert store.asked == {"journal": 5}
            # However slow the looks are, they don't become fewer than one for each second of rest.
            store.looks_take = 30.0
            await asyncio.sleep(60)
            store.looks.clear()
            await asyncio.sleep(310)
            assert len(store.looks) == 10
            await cancelled(*following)

    run_virtual(main())


def test_who_joins_in_between_reads_at_once_and_looks_leave_out_whoever_reads() -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 2)
        async with follows_only(store) as runtime:
            first = Follows(runtime, "r0")
            await asyncio.sleep(3.6)
            store.seconds = 5.0
            joined_at = runtime.clock.now()
            joined = Follows(runtime, "r1")
            await asyncio.sleep(4.9)
            assert all(seen == {"r0"} for seen in store.looks)
            # What is told while it reads, and what came meanwhile, it reads next.
            await taken(store, runs[1], State.LOOKING)
            store.tell_of_any()
            await asyncio.sleep(0.2)
            assert (joined.heard, joined.heard_at) == ([1, 2], joined_at + 5.0)
            await asyncio.sleep(5.0)
            assert (joined.heard, joined.heard_at) == ([1, 2, 3], joined_at + 10.0)
            await cancelled(first, joined)

    run_virtual(main())


@pytest.mark.parametrize("told", ["by id", "of any", "not at all"])
def test_what_comes_at_any_moment_of_reading_is_not_missed(told: str) -> None:
    async def main() -> None:
        store = Asked()
        store.seconds = store.looks_take = 0.7
        (run,) = await waiting(store, 1)
        async with follows_only(store) as runtime:
            follower = Follows(runtime, "r0")
            for n in range(60):
                await asyncio.sleep(0.1 + n * 0.037 % 1.1)
                run = await taken(store, run, State.LOOKING)
                if told == "by id":
                    store.tell_of("r0")
                elif told == "of any":
                    store.tell_of_any()
            if told == "not at all":
                store.be_silent()
            run = await taken(store, run, State.LAUNCHED)
            at = runtime.clock.now()
            await follower.task
            assert follower.heard == list(range(1, run.version + 1))
            # A look and a read under way, then the ones that find it, and the rest between them.
            assert runtime.clock.now() - at <= AGAIN + 4 * 0.7
            late = Follows(runtime, "r0", after=run.version)
            await late.task
            assert late.heard == []

    run_virtual(main())


def test_who_claims_to_have_seen_more_than_there_is_hears_of_the_end_only() -> None:
    async def main() -> None:
        store = Asked()
        (run,) = await waiting(store, 1)
        async with follows_only(store) as runtime:
            store.be_silent()
            follower = Follows(runtime, "r0", after=99)
            await asyncio.sleep(100)
            assert store.asked == {"journal": 1, "load": 1}
            run = await taken(store, run, State.LOOKING)
            await asyncio.sleep(100)
            assert store.asked == {"journal": 2, "load": 2}
            assert not follower.task.done()
            await cancelled(follower)

    run_virtual(main())


def test_the_end_of_a_newer_program_is_not_waited_for_forever() -> None:
    async def main() -> None:
        store = Asked()
        (run,) = await waiting(store, 1)
        async with follows_only(store) as runtime:
            store.be_silent()
            follower = Follows(runtime, "r0")
            await asyncio.sleep(5)
            step = next_step(run, State.LAUNCHED)
            progress = replace(step.entry.progress, phase="ended_in_a_new_way")
            await store.append(replace(step, entry=replace(step.entry, progress=progress)))
            await asyncio.sleep(AGAIN)
            assert follower.task.done()
            assert follower.heard == [1, 2, 3]

    run_virtual(main())


def test_who_waits_for_the_end_reads_nothing_before_it() -> None:
    async def main() -> None:
        store = Asked()
        (run,) = await waiting(store, 1)
        async with follows_only(store) as runtime:
            store.be_silent()
            outcome = asyncio.create_task(runtime.outcome("r0"))
            await asyncio.sleep(10)
            for _ in range(10):
                run = await taken(store, run, State.LOOKING)
                await asyncio.sleep(5)
            assert store.asked == {"load": 1}
            await taken(store, run, State.LAUNCHED)
            await asyncio.sleep(AGAIN)
            assert outcome.done()
            assert (await outcome).outcome == "launched"
            assert len((await outcome).events) == 13

    run_virtual(main())


def test_a_run_that_is_forgotten_while_it_is_followed_is_unknown() -> None:
    async def main() -> None:
        store = Asked()
        (run,) = await waiting(store, 1)
        async with follows_only(store) as runtime:
            store.be_silent()
            follower = Follows(runtime, "r0")
            await asyncio.sleep(3.5)
            await taken(store, run, State.LAUNCHED)
            await store.prune(before=run.updated_at + 1_000)
            with pytest.raises(UnknownRelaunch):
                await follower.task

    run_virtual(main())


def test_the_look_ends_with_the_last_follower_and_begins_with_the_next() -> None:
    async def main() -> None:
        store = Asked()
        (run,) = await waiting(store, 1)
        async with follows_only(store) as runtime:
            idle = asyncio.all_tasks()
            for _ in range(3):
                follower = Follows(runtime, "r0")
                await asyncio.sleep(5)
                await cancelled(follower)
                await asyncio.sleep(0)
                assert asyncio.all_tasks() == idle
            looks = len(store.looks)
            await asyncio.sleep(100)
            assert len(store.looks) == looks
            # Closed in the middle of a look, whose answer nobody waits for any more.
            store.looks_take = 5.0
            follower = Follows(runtime, "r0")
            await asyncio.sleep(2)
            await cancelled(follower)
        await taken(store, run, State.LAUNCHED)

    run_virtual(main())


def test_one_who_still_follows_when_its_process_is_closed_hears_of_the_end() -> None:
    async def main() -> None:
        store = Asked()
        (run,) = await waiting(store, 1)
        runtime = Runtime(store, VirtualClock())
        await runtime.open()
        follower = Follows(runtime, "r0")
        await asyncio.sleep(5)
        await runtime.close()
        await taken(store, run, State.LAUNCHED)
        await follower.task
        assert follower.heard == [1, 2, 3]

    run_virtual(main())


def test_a_store_that_is_away_for_a_moment_is_not_noticed() -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 2)
        async with follows_only(store) as runtime:
            store.be_silent()
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            for _ in range(5):
                await asyncio.sleep(2.5)
                store.fails = lambda: StoreUnavailable("away")
                await asyncio.sleep(AWAY - 0.5)
                store.fails = None
            await taken(store, runs[0], State.LAUNCHED)
            await following[0].task
            assert following[0].heard == [1, 2, 3]
            assert not following[1].task.done()
            await cancelled(*following)

    run_virtual(main())


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ZeroDivisionError("a bug")])
def test_who_follows_is_told_if_there_is_no_look_to_be_had(error: Exception) -> None:
    async def main() -> None:
        store = Asked()
        runs = await waiting(store, 2)
        async with follows_only(store) as runtime:
            following = [Follows(runtime, run.run.relaunch_id) for run in runs]
            outcome = asyncio.create_task(runtime.outcome("r0"))
            await asyncio.sleep(0.5)
            store.fails = lambda: error
            told = await asyncio.wait_for(
                asyncio.gather(*(f.task for f in following), outcome, return_exceptions=True),
                AWAY + 2 * AGAIN,
            )
            assert [(type(e), str(e)) for e in told] == [(type(error), str(error))] * 3
            if isinstance(error, StoreUnavailable):
                assert len({id(e) for e in told}) == 3
            store.fails = None
            # Whoever comes again goes on where it was.
            again = Follows(runtime, "r0", after=2)
            await asyncio.sleep(0.5)
            await taken(store, runs[0], State.LAUNCHED)
            await again.task
            assert again.heard == [3]

    run_virtual(main())


def test_what_this_process_drives_is_looked_at_rarely() -> None:
    async def main() -> None:
        store = Asked()
        here = Setting(store=store, teardown_seconds=400)
        async with here.relauncher() as relauncher:
            relaunch = relauncher.start("ann", 1002)
            seen = asyncio.create_task(_heard(relaunch.events()))
            await asyncio.sleep(300.5)
            # Only to make sure, and nothing is read for it.
            assert len(store.looks) == 300 / AGAIN_HERE
            steps, reads = len(await MemoryRunStore.journal(store, relaunch.relaunch_id)), 2
            assert store.asked["journal"] <= steps + reads
            outcome = await relaunch
            assert await seen == [p.sequence for p in outcome.events]
        assert store.asked["load"] <= 3

    run_virtual(main())


async def _heard(events: AsyncIterator[object]) -> list[int]:
    return [getattr(progress, "sequence") async for progress in events]  # noqa: B009 - any kind


def test_two_who_follow_one_run_each_hear_all_of_it() -> None:
    async def main() -> None:
        store = Asked()
        stored = await begun(store, new_run("r1"))
        async with follows_only(store) as runtime:
            first = Follows(runtime, "r1")
            await asyncio.sleep(1.5)
            for _ in range(5):
                step = next_step(stored, State.LOOKING)
                await store.append(step)
                stored = after(stored, step)
                await asyncio.sleep(1.5)
            second = Follows(runtime, "r1", after=3)
            await asyncio.sleep(1.5)
            await taken(store, stored, State.FAILED)
            await asyncio.gather(first.task, second.task)
            assert (first.heard, second.heard) == ([1, 2, 3, 4, 5, 6], [4, 5, 6])
            await ended(store, new_run("r2"))
            late = Follows(runtime, "r2")
            await late.task
            assert late.heard == [1]

    run_virtual(main())
