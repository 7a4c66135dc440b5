"""Who records a relaunch's last step tells of it, once; nobody else does."""

from __future__ import annotations

import asyncio
import time

from orchestrator import AsyncRelauncher, Schedules
from orchestrator.durable import embedded
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.store import Signals, Step
from orchestrator.errors import StoreUnavailable
from orchestrator.testing import Async, InMemoryPlatform, NeverTearsDown
from orchestrator.testing.virtual import run_virtual
from orchestrator.waiting import FixedSchedule
from tests.durable.test_durable_relaunch import Setting


class LosesTheAnswerToTheLastStep(MemoryRunStore):
    """Stores each step, and loses the first answer to each that is a run's last."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    async def append(self, step: Step) -> Signals:
        signals = await super().append(step)
        relaunch_id = step.run.relaunch_id
        if step.run.state.is_terminal and relaunch_id not in self.lost:
            self.lost.add(relaunch_id)
            raise StoreUnavailable("the answer got lost")
        return signals


def test_each_end_is_told_once_though_the_answer_got_lost() -> None:
    async def main() -> None:
        here = Setting(store=LosesTheAnswerToTheLastStep(), teardown_seconds=50)
        ends: list[str] = []
        async with here.relauncher(on_end=ends.append) as relauncher:
            first = await relauncher.relaunch("ann", 1002)
            second = await relauncher.relaunch("bob", 1002)
        assert first.ok
        assert ends == [first.relaunch_id, second.relaunch_id]
        assert here.store.lost == set(ends)

    run_virtual(main())


def test_after_a_takeover_only_the_one_who_drove_the_end_tells() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        ends: dict[str, list[str]] = {"first": [], "second": [], "onlooker": []}
        first, second, onlooker = (here.relauncher(on_end=told.append) for told in ends.values())
        relaunch = first.start("ann", 1002)
        await asyncio.sleep(10)
        await first.aclose()
        await second.resume_all()
        outcome = await (await onlooker.attach(relaunch.relaunch_id))
        await second.aclose()
        await onlooker.aclose()
        assert outcome.ok
        drove = "second" if ends["second"] else "onlooker"
        assert ends == {"first": [], "second": [], "onlooker": []} | {drove: [relaunch.relaunch_id]}

    run_virtual(main())


def test_a_silent_process_that_lost_its_lease_tells_nothing() -> None:
    async def main() -> None:
        here = Setting(teardown_seconds=50)
        ends: dict[str, list[str]] = {"first": [], "second": []}
        first, second = (here.relauncher(on_end=told.append) for told in ends.values())
        relaunch = first.start("ann", 1002)
        async for progress in relaunch.events():
            if progress.phase == "tearing_down":
                break
        here.silence(first)
        await asyncio.sleep(embedded.LEASE + 1)
        await second.resume_all()
        await relaunch
        await asyncio.sleep(60)  # whatever the first one was at is over by now
        assert ends == {"first": [], "second": [relaunch.relaunch_id]}
        await first.aclose()
        await second.aclose()

    run_virtual(main())


def test_a_superseded_one_is_told_of_by_the_process_that_ended_it() -> None:
    async def main() -> None:
        here = Setting(NeverTearsDown)
        driver: list[str] = []
        ender: list[str] = []
        async with (
            here.relauncher(on_end=driver.append, most_in_flight=1) as one,
            here.relauncher(on_end=ender.append, most_in_flight=1) as other,
        ):
            await one.start("ann", 1002).accepted()
            await asyncio.sleep(embedded.BEAT)
            standing_in_line = one.start("bob", 1001)
            await asyncio.sleep(embedded.BEAT)
            other.start("bob", 1002, on_conflict="supersede")
            ended = await standing_in_line
            assert (ended.outcome, ended.reason) == ("aborted", "superseded")
            assert (driver, ender) == ([], [ended.relaunch_id])

    run_virtual(main())


def test_in_a_fleet_the_worker_tells_and_not_who_asked(postgres_url: str) -> None:
    from orchestrator.durable.postgres import PostgresRunStore

    async def main() -> None:
        ends: dict[str, list[str]] = {"worker": [], "asker": []}
        platform = InMemoryPlatform(time.time, teardown_seconds=0.2)
        platform.add_running("ann", 1001)
        stores = [PostgresRunStore(postgres_url) for _ in ends]
        worker, asker = (
            AsyncRelauncher(
                Async(platform),
                store=store,
                schedules=Schedules(teardown=FixedSchedule(0.3)),
                on_end=told.append,
            )
            for store, told in zip(stores, ends.values(), strict=True)
        )
        working = asyncio.create_task(worker.work())
        try:
            outcome = await asker.relaunch("ann", 1002)
            assert outcome.ok
        finally:
            working.cancel()
            await asyncio.wait({working})
            for relauncher, store in zip((worker, asker), stores, strict=True):
                await relauncher.aclose()
                await store.close()
        assert ends == {"worker": [outcome.relaunch_id], "asker": []}

    asyncio.run(main())
