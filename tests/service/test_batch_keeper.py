"""Who carries the service's batches out: one replica at a time, and another where that is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.durable.batches import Batch
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.memory_batches import MemoryBatchStore
from orchestrator.errors import StoreUnavailable
from orchestrator.service.access.callers import Scope
from orchestrator.service.access.service_keys import new_key
from orchestrator.service.batches.keeper import LOOK
from orchestrator.testing.virtual import run_virtual
from tests.cli.processes import IMPATIENT, await_line, durable, running
from tests.cli.test_cli import serving
from tests.service.batches import asked, at_work, begun, give, learners_of, looked_at, names
from tests.service.world import KEYS, OLD, Within, bearer

#: Seconds for which a holder that has fallen silent is waited for, and until somebody looks.
SILENT = 5.0 + LOOK + 1.0


def _each_once(service: Within, count: int) -> None:
    assert len(service.platform.launches()) == len(service.platform.cancels()) == count
    alive = [i for i in service.platform.instances.values() if i.gone_at > service.clock.now()]
    assert sorted(i.user_id for i in alive) == sorted(names(count))


class _Forgetful(MemoryBatchStore):
    """A store of which nobody takes leave: whoever is gone, is as if it was killed."""

    async def let_go(self, batch_id: str, holder: str) -> None:
        """Nothing."""


@pytest.mark.parametrize("farewell", [True, False], ids=["drained", "killed"])
def test_what_a_replica_leaves_another_goes_on_with(farewell: bool) -> None:
    async def main() -> None:
        store = MemoryRunStore()
        if not farewell:
            store.batches = _Forgetful()
        first = Within(store=store)
        second = first.replica()
        give(first, 10)
        async with second.client() as client:
            async with at_work(first) as gone:
                batch_id = await begun(gone, asked(10, concurrency=4))
                await asyncio.sleep(10)
            left = await looked_at(client, batch_id)
            assert (left["state"], left["in_flight"], left["waiting"]) == ("running", 4, 6)
            async with at_work(second):
                await asyncio.sleep(LOOK + 1 if farewell else SILENT)
                assert (await looked_at(client, batch_id))["phases"] == {"tearing_down": 4}
                await asyncio.sleep(200)
                told = await looked_at(client, batch_id)
                assert (told["state"], told["ended"]) == ("ended", {"launched": 10})
                _each_once(second, 10)
                attempts = {o["attempt"] for o in (await learners_of(client, batch_id)).values()}
                assert attempts == {1}

    run_virtual(main())


def test_two_replicas_do_not_both_carry_it_out() -> None:
    async def main() -> None:
        first = Within()
        second = first.replica()
        give(first, 6)
        async with at_work(first) as one, at_work(second) as other:
            ids = [await begun(one, asked(6, batch_id="a")), await begun(other, asked(2), 202)]
            await asyncio.sleep(20)
            for batch_id in ids:
                phases = [bool((await looked_at(c, batch_id))["phases"]) for c in (one, other)]
                assert sorted(phases) == [False, True]
            await asyncio.sleep(200)
            for batch_id in ids:
                assert (await looked_at(one, batch_id))["state"] == "ended"

    run_virtual(main())


def test_one_that_nobody_holds_is_taken_by_one_of_two_that_look_at_once() -> None:
    async def main() -> None:
        store = MemoryRunStore()
        first = Within(store=store)
        second = first.replica()
        give(first, 6)
        async with first.client() as client:
            batch_id = await begun(client, asked(6, concurrency=2))
        # Both begin at the same moment; the relaunchers are opened anew.
        first, second = first.replica(), first.replica()
        async with at_work(first) as one, at_work(second) as other:
            await asyncio.sleep(300)
            assert (await looked_at(one, batch_id))["ended"] == {"launched": 6}
            _each_once(first, 6)
            counted = [
                (await c.get("/metrics", headers=bearer(KEYS[Scope.READ]))).text
                for c in (one, other)
            ]
            found = [
                float(line.rpartition(" ")[2])
                for text in counted
                for line in text.splitlines()
                if line.startswith("lab_relaunch_batch_items_total{")
            ]
            assert sum(found) == 6, "each is counted once"
            assert all("lab_relaunch_batches 0.0" in text for text in counted)

    run_virtual(main())


class _Stale(MemoryBatchStore):
    """A store in which each may see a batch before anybody held it; notes who asks to hold it."""

    stale = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    async def history(self, **which: Any) -> tuple[Batch, ...]:
        found = await super().history(**which)
        return tuple(replace(one, holder=None) for one in found) if self.stale else found

    async def hold(self, batch_id: str, holder: str, **more: Any) -> Batch:
        self.asked.add(holder)
        return await super().hold(batch_id, holder, **more)


@pytest.mark.parametrize("stale", [True, False])
def test_whoever_comes_second_leaves_it(stale: bool) -> None:
    async def main() -> None:
        store = MemoryRunStore()
        store.batches = batches = _Stale()
        batches.stale = stale
        first = Within(store=store)
        second = first.replica()
        give(first, 2)
        async with at_work(first) as one, at_work(second):
            batch_id = await begun(one, asked(2))
            await asyncio.sleep(20)
            keepers = (first.app.state.keeper, second.app.state.keeper)
            assert sorted(keeper.carried_out for keeper in keepers) == [0, 1]
            assert (len(batches.asked) == 1) != stale, "only what seems free is asked for"
            await asyncio.sleep(100)
            assert (await looked_at(one, batch_id))["ended"] == {"launched": 2}

    run_virtual(main())


@pytest.mark.parametrize("verb", ["stop", "abort"])
def test_another_replica_s_word_is_heard_within_a_second(verb: str) -> None:
    async def main() -> None:
        first = Within()
        second = first.replica()
        give(first, 20)
        async with at_work(first) as one, second.client() as other:
            batch_id = await begun(one, asked(20, concurrency=4))
            await asyncio.sleep(45)
            place = f"/batches/{batch_id}"
            if verb == "stop":
                await other.post(f"{place}/stop", headers=bearer())
            else:
                await other.delete(place, headers=bearer())
            # The four in flight end at 50 s: nobody follows them.
            await asyncio.sleep(100)
            told = await looked_at(one, batch_id)
            assert (told["waiting"], told["in_flight"]) == (16, 0)
            assert len(first.platform.cancels()) == 4
            assert len(first.platform.launches()) == (4 if verb == "stop" else 0)

    run_virtual(main())


def test_a_service_that_drains_begins_nobody_any_more() -> None:
    async def main() -> None:
        service = Within()
        give(service, 10)
        async with at_work(service) as client:
            batch_id = await begun(client, asked(10, concurrency=2))
            await asyncio.sleep(10)
            service.parts.drain()
            await asyncio.sleep(200)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["waiting"]) == ("running", 8)
            assert service.app.state.keeper.carried_out == 0
            batch = await service.store.batches.load(batch_id)
            assert batch.holder is None
            # What is in flight is a relaunch like any other.
            assert len(service.platform.launches()) == 2

    run_virtual(main())


def test_who_is_in_flight_when_it_drains_is_found_to_have_ended() -> None:
    async def main() -> None:
        first = Within()
        give(first, 4)
        async with at_work(first) as client:
            batch_id = await begun(client, asked(4, concurrency=2))
            await asyncio.sleep(10)
            first.parts.drain()
            await asyncio.sleep(100)
            assert (await looked_at(client, batch_id))["in_flight"] == 2
        second = first.replica()
        async with at_work(second) as client:
            await asyncio.sleep(100)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["ended"]) == ("ended", {"launched": 4})
            _each_once(second, 4)

    run_virtual(main())


def test_resumed_while_the_last_are_in_flight_it_goes_on_and_tries_again_who_failed() -> None:
    async def main() -> None:
        service = Within()
        exam = give(service, 8)[2]
        service.platform.instances[exam].is_exam = True
        async with at_work(service) as client:
            batch_id = await begun(client, asked(8, concurrency=3, on_error="stop"))
            await asyncio.sleep(20)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["reason"]) == ("stopped", "on_error")
            assert told["in_flight"] == 2
            service.platform.instances[exam].is_exam = False
            answer = await client.post(f"/batches/{batch_id}/resume", headers=bearer())
            assert answer.json()["state"] == "running"
            await asyncio.sleep(3)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["in_flight"]) == ("running", 3)
            await asyncio.sleep(300)
            told = await looked_at(client, batch_id)
            assert (told["state"], told["ended"]) == ("ended", {"launched": 8})
            _each_once(service, 8)
            found = await learners_of(client, batch_id)
            assert [found[user]["attempt"] for user in names(8)] == [1, 1, 2, *[1] * 5]

    run_virtual(main())


class _Moody(MemoryBatchStore):
    """A store that is away when told so."""

    away: type[Exception] | None = None

    async def history(self, **which: Any) -> tuple[Batch, ...]:
        if self.away is not None:
            raise self.away("no")
        return await super().history(**which)

    async def hold(self, *args: Any, **more: Any) -> Batch:
        if self.away is not None:
            raise self.away("no")
        return await super().hold(*args, **more)


@pytest.mark.parametrize("error", [StoreUnavailable, ValueError])
def test_while_the_store_is_away_it_looks_on(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = MemoryRunStore()
        store.batches = batches = _Moody()
        service = Within(store=store)
        async with at_work(service) as client:
            batches.away = error
            batch_id = await begun(client, asked(3))
            await asyncio.sleep(30)
            assert (await looked_at(client, batch_id))["waiting"] == 3
            batches.away = None
            await asyncio.sleep(10)
            assert (await looked_at(client, batch_id))["ended"] == {"launched": 3}

    run_virtual(main())
    assert "batches_not_seen" in caplog.text
    assert all(user not in caplog.text for user in names(3))


def test_a_slow_store_does_not_keep_the_others_waiting() -> None:
    """A batch that the store does not answer about is retried; others go on."""

    async def main() -> None:
        service = Within(teardown=10_000.0)
        give(service, 1)
        async with at_work(service) as client:
            stuck = await begun(client, asked(1, policy={"deadline_seconds": 5000}))
            learners = [{"user_id": "quick"}]
            quick = await begun(client, asked(0, learners=learners, batch_id="quick"))
            await asyncio.sleep(10)
            assert (await looked_at(client, quick))["state"] == "ended"
            assert (await looked_at(client, stuck))["in_flight"] == 1

    run_virtual(main())


KEY, _KEPT = new_key("lms", [Scope.START])
COUNT = 24


@contextmanager
def _served(env: dict[str, str]) -> Iterator[tuple[Any, str]]:
    with running(env, "serve", "--port", "0") as process:
        line = await_line(process, "Service of", out=True)
        yield process, line.partition(" at ")[2].partition(";")[0]


def _until(url: str, batch_id: str, what: str, at_least: int) -> dict[str, Any]:
    """Look until so many learners are that far."""
    until = time.monotonic() + 45
    while time.monotonic() < until:
        answer = httpx.get(f"{url}/batches/{batch_id}", headers=bearer(KEY), timeout=10)
        told: dict[str, Any] = answer.json()
        if told[what] >= at_least:
            return told
        time.sleep(0.05)
    raise AssertionError(f"it stayed at {told}")


@pytest.mark.timeout(120)  # two processes of the service, one after the other
def test_killed_and_started_again_it_goes_on_and_nobody_is_relaunched_twice(
    tmp_path: Path,
) -> None:
    users = names(COUNT)
    with serving(teardown="lognormal:0.6,0.5") as (sandbox, env):
        for user in users:
            sandbox.world.give(user, OLD)
        env = durable(env, tmp_path) | {"RELAUNCH_SERVICE__KEYS": _KEPT.entry}
        body = asked(COUNT, batch_id="monday", concurrency=8)
        with _served(env) as (process, url):
            made = httpx.post(f"{url}/batches", json=body, headers=bearer(KEY), timeout=20)
            assert made.status_code == 202, made.text
            _until(url, "monday", "ok", 5)
            process.kill()
            process.wait()
        with _served(env) as (_, url):
            again = httpx.post(f"{url}/batches", json=body, headers=bearer(KEY), timeout=20)
            assert again.status_code == 200, again.text
            told = _until(url, "monday", "ok", COUNT)
            assert told["ended"] == {"launched": COUNT}
            place = f"{url}/batches/monday"
            events = httpx.get(f"{place}/events", headers=bearer(KEY), timeout=20).text
            assert events.count("event: learner") == COUNT
            assert events.count("event: ended") == 1
            table = httpx.get(f"{place}/report.csv", headers=bearer(KEY), timeout=20).text
            assert all(f",{user}," in table for user in users)
        for user in users:
            assert len(sandbox.ledger.launches(user)) == 1, user
            assert sandbox.ledger.max_alive(user) == 1
        assert len(sandbox.ledger.cancels()) == COUNT


@pytest.mark.timeout(120)  # a worker and two processes of the service, on a database of their own
def test_a_fleet_s_services_feed_and_its_workers_drive(postgres_url: str) -> None:
    users = names(COUNT)
    with serving(teardown="lognormal:0.6,0.5") as (sandbox, env):
        for user in users:
            sandbox.world.give(user, OLD)
        env |= IMPATIENT | {
            "RELAUNCH_STORE__URL": postgres_url,
            "RELAUNCH_SERVICE__KEYS": _KEPT.entry,
        }
        body = asked(COUNT, batch_id="monday", concurrency=8)
        with _served(env) as (one, url), running(env, "worker"), _served(env) as (_, other):
            made = httpx.post(f"{url}/batches", json=body, headers=bearer(KEY), timeout=20)
            assert made.status_code == 202, made.text
            _until(other, "monday", "ok", 5)
            one.kill()
            one.wait()
            told = _until(other, "monday", "ok", COUNT)
            assert told["ended"] == {"launched": COUNT}
            place = f"{other}/batches/monday/events"
            events = httpx.get(place, headers=bearer(KEY), timeout=20).text
            assert events.count("event: learner") == COUNT
        for user in users:
            assert len(sandbox.ledger.launches(user)) == 1, user
            assert sandbox.ledger.max_alive(user) == 1
