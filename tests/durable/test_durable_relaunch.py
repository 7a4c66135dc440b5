"""A durable relaunch as its users have it: joined, parked, handed over, sync and async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import (
    AsyncRelauncher,
    ConfigurationError,
    InvalidRequest,
    Policy,
    Relauncher,
    RelaunchInFlight,
    Schedules,
)
from orchestrator.durable import embedded
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import Filter, RunStore, Signals, Step
from orchestrator.errors import StoreUnavailable, UnknownRelaunch
from orchestrator.requests import Priority
from orchestrator.testing import (
    Async,
    InMemoryPlatform,
    LosesLaunchAnswer,
    NeverTearsDown,
)
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.waiting import FixedSchedule


class Setting:
    """A platform with a learner on it, and relaunchers that share a store."""

    def __init__(
        self,
        platform: Callable[..., InMemoryPlatform] = InMemoryPlatform,
        store: Any = None,
        **options: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.platform = platform(self.clock.now, **options)
        self.old = self.platform.add_running("ann", 1001)
        self.store: Any = store or MemoryRunStore()

    def relauncher(self, **options: Any) -> AsyncRelauncher:
        """One more process, so to speak."""
        options = {"schedules": Schedules(teardown=FixedSchedule(20)), **options}
        return AsyncRelauncher(Async(self.platform), store=self.store, clock=self.clock, **options)

    def silence(self, relauncher: AsyncRelauncher) -> None:
        """Let nobody hear any more that this process lives, which drives on what it has."""
        runtime: Any = relauncher._runtime
        beat = self.store.beat

        async def unheard(owner: str, *, until: float) -> None:
            await beat(owner, until=0.0 if owner == runtime.owner else until)

        self.store.beat = unheard


def test_a_relaunch_goes_on_by_itself_and_is_journalled_with_its_intents() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        async with here.relauncher() as relauncher:
            relaunch = relauncher.start("ann", 1002)
            relaunch_id = await relaunch.accepted()
            outcome = await relaunch
        assert (outcome.outcome, outcome.cancelled_instance_ids) == ("launched", (here.old,))
        assert outcome.waited_seconds == 60
        assert outcome.api_calls == len(here.platform.calls)
        journal = await here.store.journal(relaunch_id)
        assert [e.progress.sequence for e in journal] == list(range(1, len(journal) + 1))
        assert [e.progress for e in journal] == list(outcome.events)
        told = [(e.progress.calling, e.tag) for e in journal if e.progress.calling]
        assert ("cancel", None) in told
        assert ("launch", f"relaunch={relaunch_id}") in told
        assert len(here.platform.launches()) == 1

    run_virtual(main())


class KeepsCount(MemoryRunStore):
    """Knows what was recorded at each call of the platform."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: list[str | None] = []

    async def append(self, step: Step) -> Signals:
        signals = await super().append(step)
        self.announced.append(step.entry.progress.calling)
        return signals


def test_each_intent_is_stored_before_its_call_is_made() -> None:
    async def main() -> None:
        store = KeepsCount()
        here = Setting(store=store, teardown_seconds=5)
        seen: list[tuple[str, str | None]] = []
        names = {"survey": "userrunningandsavedlabs", "inspect": "details"}

        class Watched:
            def __getattr__(self, name: str) -> Any:
                async def call(*arguments: Any, **options: Any) -> Any:
                    seen.append((names.get(name, name), store.announced[-1]))
                    return getattr(here.platform, name)(*arguments, **options)

                return call

        async with AsyncRelauncher(Watched(), store=store, clock=here.clock) as relauncher:
            await relauncher.start("ann", 1002)
        assert {"cancel", "launch"} < {call for call, _ in seen}
        assert all(call == announced for call, announced in seen)

    run_virtual(main())


def test_a_hundred_requests_through_three_processes_are_one_relaunch() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        relaunchers = [here.relauncher() for _ in range(3)]
        handles = [relaunchers[n % 3].start("ann", 1002) for n in range(100)]
        outcomes = await asyncio.gather(*handles)
        assert {o.lab_instance_id for o in outcomes} == {here.platform.launches()[0]}
        assert len(here.platform.launches()) == 1
        assert sum(not handle.joined for handle in handles) == 1
        for relauncher in relaunchers:
            await relauncher.aclose()

    run_virtual(main())


def test_another_lab_meanwhile_is_a_conflict_at_the_handle() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        async with here.relauncher() as relauncher:
            first = relauncher.start("ann", 1002)
            async for progress in first.events():
                if progress.phase == "tearing_down":
                    break
            with pytest.raises(RelaunchInFlight, match="nothing was changed"):
                await relauncher.start("ann", 1003)

    run_virtual(main())


def test_events_are_replayed_from_any_point_and_to_whoever_comes_late() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=30)
        async with here.relauncher() as relauncher:
            relaunch = relauncher.start("ann", 1002)
            live = [p async for p in relaunch.events()]
            again = [p async for p in relaunch.events()]
            late = await (await relauncher.attach(relaunch.relaunch_id)).result()
            assert live == again == list(late.events)
            tail = [p.sequence async for p in relaunch.events(after=3)]
            assert tail == [p.sequence for p in live][3:]

    run_virtual(main())


def test_leaving_the_loop_changes_nothing_and_abort_ends_the_run() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        async with here.relauncher() as relauncher:
            relaunch = relauncher.start("ann", 1002)
            async for progress in relaunch.events():
                if progress.phase == "tearing_down":
                    break
            await asyncio.sleep(100)
            assert (await here.store.load(relaunch.relaunch_id)).finished_at is None
            relaunch.abort()
            outcome = await relaunch
        assert (outcome.outcome, outcome.left.tearing_down) == ("aborted", (here.old,))

    run_virtual(main())


def test_a_parked_run_is_not_in_memory_and_wakes_for_a_hint() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        async with here.relauncher(schedules=Schedules(teardown=FixedSchedule(500))) as relauncher:
            relaunch = relauncher.start("ann", 1002)
            async for progress in relaunch.events():
                if progress.phase == "tearing_down":
                    break
            await asyncio.sleep(100)
            runtime: Any = relauncher._runtime
            assert runtime.in_memory == 0
            began = here.clock.now()
            here.platform.instances[here.old].gone_at = began
            assert await relauncher.announce(here.old)
            assert not await relauncher.announce(12345)
            outcome = await relaunch
            assert outcome.outcome == "launched"
            assert here.clock.now() == began

    run_virtual(main())


def test_a_hint_given_to_another_process_reaches_the_one_that_drives() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        schedules = Schedules(teardown=FixedSchedule(1.5))  # too short to be parked
        here.platform.teardown_seconds = 1e9
        one, other = here.relauncher(schedules=schedules), here.relauncher()
        relaunch = one.start("ann", 1002)
        async for progress in relaunch.events():
            if progress.phase == "tearing_down":
                break
        here.platform.instances[here.old].gone_at = here.clock.now()
        calls = len(here.platform.calls)
        assert await other.announce(here.old)
        assert (await relaunch).outcome == "launched"
        # The launch and the look at the new lab: no look at the old one came first.
        assert [name for name, _ in here.platform.calls[calls:]] == ["launch", "inspect"]
        await one.aclose()
        await other.aclose()

    run_virtual(main())


def test_a_closed_process_leaves_its_runs_and_the_next_goes_on_where_it_was() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=300)
        schedules = Schedules(teardown=FixedSchedule(100))
        first = here.relauncher(schedules=schedules)
        relaunch = first.start("ann", 1002)
        async for progress in relaunch.events():
            if progress.phase == "tearing_down":
                break
        looks_at = progress.next_look_at
        relaunch_id = relaunch.relaunch_id
        await first.aclose()
        assert (await here.store.load(relaunch_id)).owner is None
        await asyncio.sleep(30)
        calls = len(here.platform.calls)
        async with here.relauncher(schedules=schedules) as second:
            (handle,) = await second.resume_all()
            events = [p async for p in handle.events(after=progress.sequence)]
            assert events[0].at == looks_at, "the wait went on until the moment that was planned"
            assert len(here.platform.calls) > calls
            outcome = await handle
        assert (outcome.outcome, outcome.relaunch_id) == ("launched", relaunch_id)
        assert len(here.platform.launches()) == 1

    run_virtual(main())


def test_a_silent_process_loses_its_runs_and_records_nothing_more() -> None:
    async def main() -> None:
        here = Setting(LosesLaunchAnswer, teardown_seconds=50)
        first = here.relauncher()
        relaunch = first.start("ann", 1002)
        async for progress in relaunch.events():
            if progress.phase == "tearing_down":
                break
        here.silence(first)
        await asyncio.sleep(embedded.LEASE + 1)
        async with here.relauncher() as second:
            await second.resume_all()
            outcome = await relaunch
        assert outcome.outcome == "launched"
        assert len(here.platform.launches()) == 1
        stored = await here.store.load(relaunch.relaunch_id)
        assert stored.epoch > 1

    run_virtual(main())


class IsAwayNowAndThen(MemoryRunStore):
    """Every third call fails; what it was to record is recorded or not."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def _falter(self) -> bool:
        self.count += 1
        return self.count % 3 == 0

    async def append(self, step: Step) -> Signals:
        if self._falter():
            if self.count % 2:
                await super().append(step)
            raise StoreUnavailable("away")
        return await super().append(step)

    async def holds(self, relaunch_id: str, epoch: int) -> bool:
        if self._falter():
            raise StoreUnavailable("away")
        return await super().holds(relaunch_id, epoch)


def test_a_store_that_is_away_now_and_then_loses_and_doubles_nothing() -> None:
    async def main() -> None:
        here = Setting(store=IsAwayNowAndThen(), teardown_seconds=50)
        async with here.relauncher() as relauncher:
            outcome = await relauncher.start("ann", 1002)
        assert outcome.outcome == "launched"
        assert here.platform.cancels() == [here.old]
        assert len(here.platform.launches()) == 1
        assert [p.sequence for p in outcome.events] == list(range(1, len(outcome.events) + 1))

    run_virtual(main())


def test_only_so_many_are_in_flight_and_the_others_hear_their_place() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        for user in ("bob", "cid", "dan"):
            here.platform.add_running(user, 1001)
        async with here.relauncher(most_in_flight=1) as relauncher:
            first = relauncher.start("ann", 1002)
            await first.accepted()
            await asyncio.sleep(1)
            bulk = relauncher.start("bob", 1002, priority=Priority.BULK)
            await bulk.accepted()
            button = relauncher.start("cid", 1002)
            ended: list[str] = []

            async def wait_for(handle: Any) -> Any:
                outcome = await handle
                ended.append(outcome.user_id)
                return outcome

            outcomes = await asyncio.gather(*(wait_for(h) for h in (first, bulk, button)))
        assert ended == ["ann", "cid", "bob"]
        assert all(o.outcome == "launched" for o in outcomes)
        queued = [p for p in outcomes[1].events if p.phase == "new"]
        assert "1 other will begin before" in " ".join(p.message for p in queued)
        # Never two labs being torn down at a time.
        effects = [what for what, _ in here.platform.effects]
        assert effects == ["cancelled", "launched"] * 3

    run_virtual(main())


def test_a_bulk_run_leaves_places_to_those_at_a_button() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        users = [f"user-{n}" for n in range(6)]
        for user in users:
            here.platform.add_running(user, 1001)
        async with here.relauncher(most_in_flight=4) as relauncher:
            bulk = [relauncher.start(u, 1002, priority=Priority.BULK) for u in users]
            await asyncio.sleep(60)
            assert len(here.platform.cancels()) == 3
            relauncher.start("ann", 1002)
            await asyncio.sleep(5)
            assert here.old in here.platform.cancels()
            assert len(here.platform.cancels()) == 4
            for relaunch in bulk:
                await relaunch.accepted()

    run_virtual(main())


def test_a_deadline_that_passes_in_line_is_told_as_that() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        here.platform.add_running("bob", 1001)
        async with here.relauncher(most_in_flight=1) as relauncher:
            first = relauncher.start("ann", 1002)
            await first.accepted()
            await asyncio.sleep(1)
            outcome = await relauncher.start("bob", 1002, policy=Policy(deadline_seconds=60))
        assert (outcome.outcome, outcome.reason) == ("timed_out", "in_line")
        assert ("cancel", 5002) not in here.platform.calls

    run_virtual(main())


def test_a_bug_in_a_port_ends_the_run_and_is_told() -> None:
    async def main() -> None:
        here = Setting()

        async def broken(instance_id: int, *, note: str | None, timeout: float) -> Any:
            raise ZeroDivisionError

        async with here.relauncher(cancel=broken) as relauncher:
            outcome = await relauncher.start("ann", 1002)
        assert outcome.outcome == "aborted"
        assert outcome.left.cancel_in_doubt == here.old

    run_virtual(main())


def test_what_needs_a_store_is_refused_without_one() -> None:
    platform = InMemoryPlatform(lambda: 0.0)
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        Relauncher(platform).start("ann", 1, idempotency_key="k")
    with pytest.raises(ConfigurationError, match="store"):
        Relauncher(platform).resume_all()


class TestBlocking:
    """The sync relauncher with a store: real threads and an SQLite file, tiny teardowns."""

    def relauncher(self, store: RunStore, platform: InMemoryPlatform) -> Relauncher:
        schedules = Schedules(teardown=FixedSchedule(0.3))
        return Relauncher(platform, store=store, schedules=schedules)

    def test_it_goes_on_in_a_thread_of_its_own(self, tmp_path: Path) -> None:
        import time

        platform = InMemoryPlatform(time.time, teardown_seconds=0.2)
        platform.add_running("ann", 1001)
        store = SQLiteRunStore(tmp_path / "relaunch.db")
        with self.relauncher(store, platform) as relauncher:
            relaunch = relauncher.start("ann", 1002, idempotency_key="k")
            joined = relauncher.start("ann", 1002)
            events = [p.phase for p in relaunch.events()]
            outcome = relaunch.result()
            assert outcome.outcome == "launched"
            assert joined.result().lab_instance_id == outcome.lab_instance_id
            assert events[-1] == "launched"
            assert relauncher.start("ann", 1002, idempotency_key="k").result() == outcome
            assert threading.current_thread() is threading.main_thread()
            with pytest.raises(UnknownRelaunch):
                relauncher.attach("nothing")
        asyncio.run(store.close())

    def test_abort_and_resume_all(self, tmp_path: Path) -> None:
        import time

        platform = NeverTearsDown(time.time)
        old = platform.add_running("ann", 1001)
        store = SQLiteRunStore(tmp_path / "relaunch.db")
        with self.relauncher(store, platform) as relauncher:
            relaunch = relauncher.start("ann", 1002)
            for progress in relaunch.events():
                if progress.phase == "tearing_down":
                    break
        with self.relauncher(store, platform) as relauncher:
            (again,) = relauncher.resume_all()
            again.abort()
            assert again.result().left.tearing_down == (old,)
            assert relauncher.resume_all() == ()

        async def unfinished() -> Any:
            found = await store.history(Filter(unfinished=True))
            await store.close()
            return found

        assert asyncio.run(unfinished()) == ()


class FreezesBeforeTheLaunch(MemoryRunStore):
    """The process stands still between recording a launch and making it; somebody takes over."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.frozen = asyncio.Event()

    async def append(self, step: Step) -> Signals:
        signals = await super().append(step)
        if step.entry.progress.phase == "launching" and not self.frozen.is_set():
            self.frozen.set()
            await self.clock.wait(60, asyncio.Event())
        return signals


def test_a_process_that_stood_still_checks_its_lease_before_it_launches() -> None:
    async def main() -> None:
        clock = VirtualClock()
        store = FreezesBeforeTheLaunch(clock)
        here = Setting(store=store, teardown_seconds=10)
        # Recorded, but the answer of the store has not arrived: that is when the process freezes.
        first = here.relauncher()
        relaunch = first.start("ann", 1002)
        await store.frozen.wait()
        here.silence(first)
        await asyncio.sleep(embedded.LEASE + 1)
        async with here.relauncher() as second:
            outcome = await (await second.attach(relaunch.relaunch_id))
            await asyncio.sleep(120)
        assert outcome.outcome == "launched"
        assert here.platform.calls.count(("launch", 1002)) == 2, "the probe, and one launch"
        await first.aclose()

    run_virtual(main())
