"""A batch's events: no learner's end is missed, from any point, at any replica, and to the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator import Policy
from orchestrator.batch.requests import Row, batch_of
from orchestrator.batch.resetting import stop
from orchestrator.durable.batches import ItemResult, StoredItem
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.memory_batches import MemoryBatchStore
from orchestrator.errors import StoreUnavailable
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.batches.events import OVERLAP, PAGE, Ends
from orchestrator.testing.virtual import run_virtual
from tests.service.batches import (
    Told,
    asked,
    at_work,
    begun,
    ends_in,
    following,
    give,
    last_id,
    looked_at,
    names,
    told_in,
)
from tests.service.world import NEW, OLD, Within, bearer, learner


async def _whole(service: Within, batch_id: str, last: str | None = None) -> Told:
    async with following(service, batch_id, last) as stream:
        await stream.task
        assert stream.status == 200
        return told_in(stream.text)


def test_every_learner_once_and_then_the_end() -> None:
    async def main() -> None:
        service = Within()
        give(service, 5)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(10, concurrency=4))
            async with following(service, batch_id) as stream:
                await stream.task
                told = told_in(stream.text)
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert stream.headers["x-accel-buffering"] == "no"
                assert stream.text.startswith("retry: 1000\n")
            assert sorted(ends_in(told)) == sorted((user, 1) for user in names(10))
            assert [name for name, _, _ in told].count("ended") == 1
            name, place, ended = told[-1]
            assert (name, place) == ("ended", None)
            known = await looked_at(client, batch_id)
            assert ended | {"at": 0} == known | {"at": 0}
            standings = [data for name, _, data in told if name == "standing"]
            assert [one["ok"] for one in standings] == sorted(one["ok"] for one in standings)
            times = [one["at"] for one in standings]
            assert all(b - a > 0.999 for a, b in itertools.pairwise(times))
            assert any(one["phases"] == {"tearing_down": 4} for one in standings)
            ids = [int(place) for _, place, _ in told if place is not None]
            assert ids == sorted(ids)
            assert all("url" not in data for _, _, data in told)

    run_virtual(main())


def test_it_is_taken_up_after_any_event_and_nobody_is_missed() -> None:
    async def main() -> None:
        service = Within()
        give(service, 3)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(30, per_minute=20))
            whole = await _whole(service, batch_id)
            everybody = set(ends_in(whole))
            assert len(everybody) == 30
            for seen in range(len(whole) + 1):
                before = whole[:seen]
                rest = await _whole(service, batch_id, last_id(before))
                assert set(ends_in(before)) | set(ends_in(rest)) == everybody
                assert len(ends_in(rest)) == len(set(ends_in(rest)))
                assert [name for name, _, _ in rest if name == "ended"] == ["ended"]
            # Not all is told again: only what ended within the overlap.
            ends = [data["ended_at"] for name, _, data in whole if name == "learner"]
            late = [at for at in ends if at >= max(ends) - OVERLAP]
            assert len(ends_in(await _whole(service, batch_id, last_id(whole)))) == len(late) < 30

    run_virtual(main())


def test_one_who_comes_and_goes_misses_nobody() -> None:
    async def main() -> None:
        service = Within()
        give(service, 5)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(20, per_minute=60))
            got: Told = []
            while not got or got[-1][0] != "ended":
                async with following(service, batch_id, last_id(got)) as stream:
                    # The standing is what comes last of a look.
                    seen = asyncio.create_task(stream.until('"obstacle":null}\n\n'))
                    await asyncio.wait({seen, stream.task}, return_when="FIRST_COMPLETED")
                    seen.cancel()
                    await asyncio.sleep(0.7)
                    got += told_in(stream.text)
            assert {user for user, _ in ends_in(got)} == set(names(20))

    run_virtual(main())


def test_one_who_leaves_in_the_middle_of_many_is_told_all_of_them_again() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            batch_id = await begun(client, asked(700, batch_id="many"))
            await asyncio.sleep(60)
            async with following(service, batch_id) as stream:
                await stream.task
                text = stream.text
            whole = told_in(text)
            assert len(ends_in(whole)) == 700
            # Wherever it breaks off, what the client says then leads to the rest.
            half = told_in(text[: len(text) // 2].rpartition("\n\n")[0] + "\n\n")
            assert 0 < len(ends_in(half)) < 700
            rest = await _whole(service, batch_id, last_id(half))
            assert set(ends_in(half)) | set(ends_in(rest)) == set(ends_in(whole))

    run_virtual(main())


@pytest.mark.parametrize(
    "garbage",
    ["", "-1", "x", "1.5", "9" * 19, "9" * 5000, "1; id: 7", "0x10", "1e3", "null", "²"],
    ids=range(11),
)
def test_an_id_that_is_none_is_taken_for_the_beginning(garbage: str) -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            batch_id = await begun(client, asked(2))
            assert len(ends_in(await _whole(service, batch_id, garbage))) == 2

    run_virtual(main())


def test_an_id_from_elsewhere_gets_the_end_all_the_same() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            batch_id = await begun(client, asked(2))
            await asyncio.sleep(10)
            told = await _whole(service, batch_id, "9" * 18)
            assert [name for name, _, _ in told] == ["ended"]

    run_virtual(main())


def test_another_replica_tells_the_same() -> None:
    async def main() -> None:
        service = Within()
        give(service, 4)
        async with at_work(service) as client:
            other = service.replica()
            batch_id = await begun(client, asked(20, per_minute=30))
            there, here = await asyncio.gather(_whole(other, batch_id), _whole(service, batch_id))
            assert sorted(ends_in(there)) == sorted(ends_in(here))
            assert there[-1][0] == here[-1][0] == "ended"
            standings = [data for name, _, data in there if name == "standing"]
            assert all(one["phases"] == {} for one in standings)
            assert any(one["eta_seconds"] for one in standings), "it measures for itself"

    run_virtual(main())


def test_a_batch_that_is_stopped_ends_its_stream_when_nobody_is_in_flight() -> None:
    async def main() -> None:
        service = Within()
        give(service, 6)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(6, concurrency=2))
            async with following(service, batch_id) as stream:
                await stream.until('"in_flight":2')
                await client.post(f"/batches/{batch_id}/stop", headers=bearer())
                await stream.task
                told = told_in(stream.text)
            assert len(ends_in(told)) == 2
            assert (told[-1][0], told[-1][2]["in_flight"]) == ("stopped", 0)
            assert any(n == "standing" and d["state"] == "stopped" for n, _, d in told)
            # Whoever comes later is told so again, and the rest once it is resumed.
            assert [name for name, _, _ in await _whole(service, batch_id, last_id(told))][-1] == (
                "stopped"
            )
            await client.post(f"/batches/{batch_id}/resume", headers=bearer())
            rest = await _whole(service, batch_id, last_id(told))
            assert rest[-1][0] == "ended"
            assert {u for u, _ in ends_in(told) + ends_in(rest)} == set(names(6))

    run_virtual(main())


def test_a_batch_that_was_stopped_while_nobody_carried_it_out() -> None:
    async def main() -> None:
        service = Within()
        give(service, 2)
        async with service.client() as client:
            batch_id = await begun(client, asked(2))
            await stop(service.store, batch_id, at=service.clock.now())
            told = await _whole(service, batch_id)
            assert [name for name, _, _ in told] == ["stopped"]
            await client.delete(f"/batches/{batch_id}", headers=bearer())
            told = await _whole(service, batch_id)
            assert [name for name, _, _ in told] == ["aborted"]

    run_virtual(main())


def test_who_is_tried_again_is_told_again() -> None:
    async def main() -> None:
        service = Within()
        give(service, 1)
        exam = service.platform.add_running("learner-2", OLD, is_exam=True)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(3))
            first = await _whole(service, batch_id)
            assert len(ends_in(first)) == 3
            service.platform.instances[exam].is_exam = False
            await begun(client, asked(3), 200)
            second = await _whole(service, batch_id, last_id(first))
            assert ("learner-2", 2) in ends_in(second)
            assert second[-1][2]["ok"] == 3

    run_virtual(main())


def test_a_silent_stream_gives_signs_and_ends_when_the_service_drains() -> None:
    async def main() -> None:
        service = Within(teardown=10_000.0)
        give(service, 1)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(1, policy={"deadline_seconds": 5000}))
            async with following(service, batch_id) as stream:
                await stream.until("tearing_down")
                before = stream.text.count(": still here")
                await asyncio.sleep(15 * 8 + 2)
                assert stream.text.count(": still here") - before == 8
                service.parts.drain()
                await stream.task
                assert told_in(stream.text)[-1][0] == "standing"
                assert stream.text.rstrip().rpartition("\n")[2].startswith("retry: ")
            assert len(service.parts.streams) == service.parts.limits.open_streams == 0

    run_virtual(main())


def test_a_client_that_vanishes_gives_its_place_back() -> None:
    async def main() -> None:
        service = Within(limits=CallerLimits(most_streams=1), teardown=10_000.0)
        give(service, 1)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(1))
            for _ in range(3):
                async with following(service, batch_id) as stream:
                    await stream.until("standing")
                    async with following(service, batch_id) as second:
                        await second.task
                        assert second.status == 429
                assert service.parts.limits.open_streams == len(service.parts.streams) == 0
            for headers, status in (({}, 401), (learner(), 404)):
                async with following(service, batch_id, headers=headers) as stream:
                    await stream.task
                    assert stream.status == status
            running = {str(task.get_coro()) for task in asyncio.all_tasks()}
            assert not [name for name in running if "Stream._next" in name]

    run_virtual(main())


class _BreaksOff(MemoryBatchStore):
    """A store that is away from the second look at the items on, until told otherwise."""

    looks = 0
    away = True

    async def items(self, batch_id: str, **which: Any) -> tuple[StoredItem, ...]:
        if which.get("ended") and which.get("limit"):
            self.looks += 1
            if self.looks > 1 and self.away:
                raise StoreUnavailable("The store cannot be reached.")
        return await super().items(batch_id, **which)


def test_a_store_that_goes_away_breaks_the_stream_and_nothing_else() -> None:
    async def main() -> None:
        store = MemoryRunStore()
        batches = _BreaksOff()
        store.batches = batches
        service = Within(store=store)
        give(service, 1)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(2))
            before = await _whole(service, batch_id)
            assert "ended" not in [name for name, _, _ in before]
            batches.away = False
            rest = await _whole(service, batch_id, last_id(before))
            assert {u for u, _ in ends_in(before) + ends_in(rest)} == set(names(2))
            assert rest[-1][0] == "ended"

    run_virtual(main())


async def _ended(times: Sequence[float]) -> MemoryRunStore:
    """A store with a batch whose learners came to their ends at these times."""
    store = MemoryRunStore()
    rows = [Row(user_id=user, lab_profile_id=NEW) for user in names(len(times))]
    batch, items = batch_of(rows, policy=Policy(), consumer="c", at=0.0, batch_id="b")
    await store.batches.create(batch, items)
    for number, at in enumerate(times, 1):
        await _end(store, number, at)
    return store


async def _end(
    store: MemoryRunStore, number: int, at: float, *, outcome: str = "launched", attempt: int = 1
) -> None:
    result = ItemResult(outcome=outcome, reason=None, message="")
    if at:
        name = f"r{number}-{attempt}"
        await store.batches.begin("b", number, attempt=attempt, relaunch_id=name, at=at)
        await store.batches.finish("b", number, result, attempt=attempt, at=at)


async def _told(
    ends: Ends, started_at: float = 0.0, *, all_over: bool = False
) -> list[tuple[int, int | None]]:
    new = ends.new(started_at, all_over=all_over)
    return [(stored.item.number, place) async for stored, place in new]


def test_whatever_the_order_of_their_ends_no_id_leads_past_somebody() -> None:
    async def main() -> None:
        count = 2 * PAGE + 100
        # The last in the list was the first to end.
        store = await _ended([1000.0 + 10 * (count - number) for number in range(count)])
        whole = await _told(Ends(store, "b", 0.0))
        assert sorted(number for number, _ in whole) == list(range(1, count + 1))
        for seen in range(0, count + 1, 37):
            before = whole[:seen]
            last = next((place for _, place in reversed(before) if place is not None), 0)
            rest = await _told(Ends(store, "b", last / 1000))
            assert {number for number, _ in before + rest} == set(range(1, count + 1))

    run_virtual(main())


def test_who_was_stored_later_than_they_ended_is_told_to_one_who_comes_again() -> None:
    async def main() -> None:
        store = await _ended([1000.0, 0.0, 1100.0])
        ends = Ends(store, "b", 0.0)
        assert await _told(ends) == [(1, 1_000_000), (3, 1_100_000)]
        await _end(store, 2, 1100.0 - OVERLAP + 1)
        assert await _told(ends) == [(2, 1_100_000)]
        assert {n for n, _ in await _told(Ends(store, "b", 1100.0))} == {2, 3}

    run_virtual(main())


def test_who_failed_before_it_was_resumed_may_come_to_another_end() -> None:
    async def main() -> None:
        store = await _ended([0.0, 1001.0, 1002.0])
        await _end(store, 1, 1000.0, outcome="failed")
        ends = Ends(store, "b", 0.0)
        assert len(await _told(ends, 1010.0)) == 3
        await _end(store, 1, 1020.0, attempt=2)
        assert await _told(ends, 1010.0) == [(1, 1_020_000)]

    run_virtual(main())


def test_at_the_end_everybody_is_looked_at_once_more() -> None:
    async def main() -> None:
        # By the clock of whoever has resumed it, this failure came later.
        store = await _ended([0.0, 1001.0, 1002.0])
        await _end(store, 1, 1011.0, outcome="failed")
        ends = Ends(store, "b", 0.0)
        assert len(await _told(ends, 1010.0)) == 3
        await _end(store, 1, 1020.0, attempt=2)
        assert await _told(ends, 1010.0) == []
        assert await _told(ends, 1010.0, all_over=True) == [(1, 1_020_000)]

    run_virtual(main())


def test_little_is_read_over_and_over() -> None:
    async def main() -> None:
        service = Within()
        async with at_work(service) as client:
            batch_id = await begun(client, asked(50))
            await asyncio.sleep(30)
            ends = Ends(service.store, batch_id, 0.0)
            assert len([stored async for stored, _ in ends.new(0.0)]) == 50
            asks: list[int] = []
            items = service.store.batches.items

            async def counted(batch_id: str, **which: Any) -> Any:
                asks.append(which["after"])
                return await items(batch_id, **which)

            service.store.batches.items = counted
            assert [stored async for stored, _ in ends.new(0.0)] == []
            assert asks == [50]

    run_virtual(main())
