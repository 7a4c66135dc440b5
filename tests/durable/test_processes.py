"""Several processes, one store: who drives a run, and who hears of it, when things go wrong.

What the simulation has found, told as short stories.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator import Policy, Schedules
from orchestrator.durable import embedded
from orchestrator.durable.driver import Parts
from orchestrator.durable.embedded import EmbeddedRuntime
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.starting import start
from orchestrator.durable.store import Signals, Step, StoredRun
from orchestrator.errors import LeaseLost, StoreUnavailable
from orchestrator.machine.vocabulary import State
from orchestrator.requests import new_run
from orchestrator.testing import Async, InMemoryPlatform, LosesLaunchRequest
from orchestrator.testing.virtual import VirtualClock, run_virtual
from orchestrator.waiting import FixedSchedule
from tests.contract.stores import begun, next_step


class Setting:
    """A learner's lab, and processes that share a store."""

    def __init__(
        self,
        store: MemoryRunStore | None = None,
        teardown_seconds: float = 50.0,
        platform: Callable[..., InMemoryPlatform] = InMemoryPlatform,
    ) -> None:
        self.clock = VirtualClock()
        self.platform = platform(self.clock.now, teardown_seconds=teardown_seconds)
        self.old = self.platform.add_running("ann", 1001)
        self.store = store or MemoryRunStore()

    def process(self, name: str, *, skew: float = 0.0) -> EmbeddedRuntime:
        """One more process, whose clock may be wrong."""
        platform: Any = Async(self.platform)
        parts = Parts(
            store=self.store,
            platform=platform,
            steps={"cancel": platform.cancel, "save": platform.save},
            clock=VirtualClock(skew=skew),
            schedules=Schedules(teardown=FixedSchedule(20)),
        )
        return EmbeddedRuntime(parts, owner=name)

    async def started(self, process: EmbeddedRuntime, user_id: str = "ann", **policy: Any) -> str:
        """A relaunch that was begun there."""
        run = new_run(user_id, 1002, Policy(**policy), {"relaunch_id": user_id}, self.clock.now())
        return (await process.start(run)).stored.run.relaunch_id

    async def comes_to(self, state: State, relaunch_id: str) -> StoredRun:
        """Wait until the run is in that state."""
        while True:
            stored = await self.store.load(relaunch_id)
            if stored.run.state is state:
                return stored
            await asyncio.sleep(0.1)


def test_whoever_waits_hears_of_the_end_that_came_in_a_process_with_another_clock() -> None:
    async def main() -> None:
        here = Setting()
        first, second = here.process("first"), here.process("second", skew=30.0)
        relaunch_id = await here.started(first)
        waiting = asyncio.create_task(first.outcome(relaunch_id))
        await here.comes_to(State.TEARING_DOWN, relaunch_id)
        # For this clock the first process is dead, however often it says that it lives; and as the
        # processes of an SQLite file do, it says only that something has changed.
        setattr(here.store._watchers, "tell", lambda relaunch_id: None)  # noqa: B010 - see above
        await second.resume_all()
        stored = await here.comes_to(State.LAUNCHED, relaunch_id)
        await asyncio.sleep(embedded.LEASE + 25)
        assert stored.epoch > 1
        assert waiting.done()
        assert (await waiting).outcome == "launched"
        await first.close()
        await second.close()

    run_virtual(main())


class Falters(MemoryRunStore):
    """Its claims fail or take their time, as told."""

    def __init__(self) -> None:
        super().__init__()
        self.before_claim: list[Callable[[], Awaitable[None]]] = []
        self.claims: Counter[str] = Counter()

    async def claim(
        self, relaunch_id: str, owner: str, *, at: float, take_over: bool = False
    ) -> StoredRun | None:
        self.claims[relaunch_id] += 1
        if self.before_claim:
            await self.before_claim.pop(0)()
        return await super().claim(relaunch_id, owner, at=at, take_over=take_over)


async def _fails() -> None:
    raise StoreUnavailable("away")


async def _takes_its_time() -> None:
    await asyncio.sleep(3.0)


def test_a_run_that_is_being_claimed_is_not_claimed_again() -> None:
    async def main() -> None:
        store = Falters()
        here = Setting(store)
        process = here.process("me")
        ids = ["ann", "bob"]
        for user_id in ids:
            run = new_run(user_id, 1002, Policy(), {"relaunch_id": user_id}, here.clock.now())
            await store.create(run, at=here.clock.now())
        store.before_claim = [_fails, _takes_its_time]
        await process.resume_all()
        await asyncio.sleep(100)
        assert [(await store.load(i)).run.state for i in ids] == [State.LAUNCHED] * 2
        # Bob had no lab, so nothing was waited for, and nothing gone on with.
        assert store.claims[ids[1]] == 1
        await process.close()

    run_virtual(main())


class LosesTheAnswer(MemoryRunStore):
    """Stores what it is asked to store, and does not come to say so."""

    async def create(self, *args: Any, **options: Any) -> tuple[StoredRun, bool]:
        await super().create(*args, **options)
        raise StoreUnavailable("away")


def test_a_run_whose_caller_was_told_that_the_store_is_away_is_driven_by_whoever_works() -> None:
    async def main() -> None:
        here = Setting(LosesTheAnswer())
        first, second = here.process("first"), here.process("second")
        with pytest.raises(StoreUnavailable):
            await here.started(first)
        await second.resume_all()
        async with asyncio.timeout(300):
            assert (await second.outcome("ann")).outcome == "launched"
        await first.close()
        await second.close()

    run_virtual(main())


class TakesItsTimeToCreate(MemoryRunStore):
    """What is to be stored is a second later."""

    async def create(self, *args: Any, **options: Any) -> tuple[StoredRun, bool]:
        await asyncio.sleep(1.0)
        return await super().create(*args, **options)


def test_a_run_that_is_begun_while_its_process_closes_is_not_kept_from_others() -> None:
    async def main() -> None:
        here = Setting(TakesItsTimeToCreate())
        first, second = here.process("first"), here.process("second")
        await first.open()
        beginning = asyncio.create_task(here.started(first))
        await asyncio.sleep(0.5)
        await first.close()
        relaunch_id = await beginning
        await second.resume_all()
        await here.started(first, "bob")  # it lives again
        async with asyncio.timeout(300):
            assert (await second.outcome(relaunch_id)).outcome == "launched"
        await first.close()
        await second.close()

    run_virtual(main())


class LosesTheLeaseAtTheEnd(MemoryRunStore):
    """Another process takes the run over just before its end is recorded, and dies."""

    is_taken = False

    async def append(self, step: Step) -> Signals:
        if step.run.state.is_terminal and not self.is_taken:
            self.is_taken = True
            await self.claim(step.run.relaunch_id, "other", at=0.0, take_over=True)
            await self.beat("other", until=step.entry.progress.at + 10.0)
            raise LeaseLost("taken over")
        return await super().append(step)


def test_a_run_whose_end_could_not_be_recorded_is_still_seen_to() -> None:
    async def main() -> None:
        here = Setting(LosesTheLeaseAtTheEnd())
        process = here.process("me")
        relaunch_id = await here.started(process)
        async with asyncio.timeout(300):
            outcome = await process.outcome(relaunch_id)
        assert outcome.outcome == "launched"
        assert len(here.platform.launches()) == 1
        await process.close()

    run_virtual(main())


class IsSlowToFind(MemoryRunStore):
    """Takes long to tell the first process what is due."""

    def __init__(self) -> None:
        super().__init__()
        self.claimed_by: list[str] = []

    async def claim(
        self, relaunch_id: str, owner: str, *, at: float, take_over: bool = False
    ) -> StoredRun | None:
        self.claimed_by.append(owner)
        return await super().claim(relaunch_id, owner, at=at, take_over=take_over)

    async def due(self, owner: str | None, *, at: float, limit: int = 1000) -> tuple[str, ...]:
        if owner == "first":
            await asyncio.sleep(12.0)
        return await super().due(owner, at=at, limit=limit)


def test_a_process_says_that_it_lives_however_long_the_store_takes_to_find_what_is_due() -> None:
    async def main() -> None:
        store = IsSlowToFind()
        here = Setting(store)
        first, second = here.process("first"), here.process("second")
        relaunch_id = await here.started(first)
        await here.comes_to(State.TEARING_DOWN, relaunch_id)
        await second.resume_all()
        async with asyncio.timeout(300):
            await first.outcome(relaunch_id)
        assert set(store.claimed_by) == {"first"}
        await first.close()
        await second.close()

    run_virtual(main())


class AnswersLate(MemoryRunStore):
    """What is recorded during a teardown is answered a second later."""

    async def append(self, step: Step) -> Signals:
        signals = await super().append(step)
        if step.run.state is State.TEARING_DOWN:
            await asyncio.sleep(1.0)
        return signals

    async def signals(self, relaunch_id: str) -> Signals:
        await asyncio.sleep(0.2)
        return await super().signals(relaunch_id)


def test_a_hint_that_comes_while_the_run_is_being_parked_wakes_it_at_once() -> None:
    async def main() -> None:
        here = Setting(AnswersLate(), teardown_seconds=0.2)
        process = here.process("me")
        relaunch_id = await here.started(process)
        await here.comes_to(State.TEARING_DOWN, relaunch_id)
        await asyncio.sleep(0.85)
        began = here.clock.now()
        # From another process, which shares nothing but the store.
        await here.store.hint(here.old, at=began)
        await here.comes_to(State.LAUNCHED, relaunch_id)
        assert here.clock.now() - began < 0.4
        await process.close()

    run_virtual(main())


def test_hints_do_not_hurry_the_looks_for_a_launch_whose_answer_was_lost() -> None:
    async def main() -> None:
        here = Setting(platform=LosesLaunchRequest)
        process = here.process("me")
        relaunch_id = await here.started(process, probe=False)
        async with asyncio.timeout(300):
            while (await here.store.load(relaunch_id)).run.state is not State.LAUNCHED:
                await asyncio.sleep(0.7)
                await here.store.hint(here.old, at=here.clock.now())
        journal = [entry.progress for entry in await here.store.journal(relaunch_id)]
        lost = next(p.at for p in journal if p.phase == "backing_off")
        again = next(p.at for p in journal if p.calling == "launch" and p.at > lost)
        assert again - lost >= 1 + 2 + 4 + 8
        await process.close()

    run_virtual(main())


class AnswersAfterALongPause(MemoryRunStore):
    """The process stands still before the intent to launch is answered, and again before the
    question whether the lease still holds is. Meanwhile another process takes the run over.
    """

    pauses = 0

    async def append(self, step: Step) -> Signals:
        signals = await super().append(step)
        if step.entry.progress.calling == "launch" and step.run.displaced:
            await asyncio.sleep(4.0)
        return signals

    async def holds(self, relaunch_id: str, epoch: int) -> bool:
        holds = await super().holds(relaunch_id, epoch)
        self.pauses += 1
        if self.pauses == 1:
            await self.claim(relaunch_id, "other", at=0.0, take_over=True)
            await asyncio.sleep(40.0)
        return holds


def test_nothing_is_launched_on_the_strength_of_an_answer_that_was_long_under_way() -> None:
    async def main() -> None:
        here = Setting(AnswersAfterALongPause())
        process = here.process("me")
        relaunch_id = await here.started(process)
        await here.store.beat("other", until=here.clock.now() + 3600.0)
        await asyncio.sleep(300)
        assert (await here.store.load(relaunch_id)).owner == "other"
        assert here.platform.launches() == []
        await process.close()

    run_virtual(main())


def test_what_nobody_here_began_keeps_nothing_of_ours_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "AT_ONCE", 4)

    async def main() -> None:
        here = Setting()
        for number in range(30):
            run = new_run(f"other-{number}", 1002, Policy(), {}, here.clock.now() - 60.0)
            await here.store.create(run, at=here.clock.now() - 60.0)
        process = here.process("me")
        relaunch_id = await here.started(process)
        async with asyncio.timeout(100):
            assert (await process.outcome(relaunch_id)).outcome == "launched"
        await process.close()

    run_virtual(main())


def test_a_superseded_run_does_not_end_before_its_last_step() -> None:
    async def main() -> None:
        store = MemoryRunStore()
        clock = VirtualClock()
        run = new_run("ann", 1001, Policy(), {}, clock.now())
        stored = await begun(store, run)
        await store.append(next_step(stored, State.SURVEYING))
        other = new_run("ann", 1002, Policy(), {}, clock.now())
        await start(store, other, at=clock.now() - 5.0, on_conflict="supersede")
        times = [e.progress.at for e in await store.journal(run.relaunch_id)]
        assert len(times) == 2
        assert times == sorted(times)

    run_virtual(main())
