"""A relaunch's events: complete, once each, from any point, from any replica, and to the end."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.store import Entry
from orchestrator.errors import StoreUnavailable
from orchestrator.service.access.limits import CallerLimits
from orchestrator.testing.virtual import run_virtual
from tests.service.world import NEW, OLD, Within, bearer, events_in, learner, on_ports, service_on

Events = list[tuple[str, int, dict[str, Any]]]


async def _begin(service: Within, client: Any, user_id: str = "ada") -> str:
    service.platform.add_running(user_id, OLD)
    asked = {"user_id": user_id, "lab_profile_id": NEW}
    made = await client.post("/relaunches", json=asked, headers=bearer())
    assert made.status_code == 202
    relaunch_id: str = made.json()["relaunch_id"]
    return relaunch_id


def _tasks_of_streams() -> list[str]:
    code = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    return [c.co_name for c in code if c and "orchestrator/service/" in c.co_filename]


def test_every_step_once_and_then_the_outcome() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            async with service.following(relaunch_id) as stream:
                told = await stream.end()
                assert stream.status == 200
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert stream.headers["x-accel-buffering"] == "no"
                assert "no-transform" in stream.headers["cache-control"]
                assert stream.text.startswith("retry: 1000\n")
                await asyncio.sleep(0)
                assert not _tasks_of_streams(), "it has ended, and nothing of it is left"
            assert [name for name, _, _ in told] == ["progress"] * (len(told) - 1) + ["outcome"]
            assert [number for _, number, _ in told] == list(range(1, len(told) + 1))
            steps = [data for name, _, data in told if name == "progress"]
            assert all(data["sequence"] == number for _, number, data in told)
            assert {"surveying", "tearing_down", "launching"} <= {s["phase"] for s in steps}
            assert all(s["now"] >= s["at"] for s in steps)
            answer = await client.get(f"/relaunches/{relaunch_id}", headers=bearer())
            outcome = told[-1][2]
            assert outcome["outcome"] == "launched"
            assert outcome | {"now": 0} == answer.json() | {"now": 0}

    run_virtual(main())


def test_it_is_taken_up_after_any_event() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            async with service.following(relaunch_id) as stream:
                whole = _without_now(await stream.end())
            for seen in range(len(whole) + 2):
                headers = bearer() | {"Last-Event-ID": str(seen)}
                async with service.following(relaunch_id, headers) as stream:
                    rest = _without_now(await stream.end())
                # Whoever has seen the outcome, too, is told it again.
                assert rest == (whole[seen:] or whole[-1:])

    run_virtual(main())


@pytest.mark.parametrize(
    "garbage",
    ["", "-1", "x", "1.5", "9" * 19, "9" * 5000, "1; id: 7", "0x10", "1e3", "null", "\u00b2"],
    ids=range(11),
)
def test_an_id_that_is_none_is_taken_for_the_beginning(garbage: str) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            headers = bearer() | {"Last-Event-ID": garbage}
            async with service.following(relaunch_id, headers) as stream:
                told = await stream.end()
            assert stream.status == 200
            assert told[0][1] == 1

    run_virtual(main())


def test_an_id_from_elsewhere_gets_the_outcome_all_the_same() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            headers = bearer() | {"Last-Event-ID": "9" * 18}
            async with service.following(relaunch_id, headers) as stream:
                told = await stream.end()
            assert [name for name, _, _ in told] == ["outcome"]

    run_virtual(main())


def test_one_who_comes_and_goes_misses_nothing() -> None:
    async def main() -> None:
        service = Within(survey_takes=2.0)
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            got: Events = []
            while not got or got[-1][0] != "outcome":
                headers = bearer() | {"Last-Event-ID": str(got[-1][1] if got else 0)}
                async with service.following(relaunch_id, headers) as stream:
                    await stream.until("\nid: ")
                    got += events_in(stream.text)
            assert [number for _, number, _ in got] == list(range(1, got[-1][1] + 1))

    run_virtual(main())


def test_a_silent_stream_gives_signs() -> None:
    async def main() -> None:
        service = Within(teardown=10_000.0, heartbeat_seconds=15.0)
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            async with service.following(relaunch_id) as stream:
                await stream.until("tearing_down")
                assert ": still here" not in stream.text
                # Looks of the relaunch are events as well; without them nothing comes.
                await service.relauncher.aclose()
                before = stream.text.count(": still here")
                await asyncio.sleep(15 * 8 + 1)
                assert stream.text.count(": still here") - before == 8

    run_virtual(main())


def test_a_stream_ends_with_its_token_and_goes_on_with_another() -> None:
    async def main() -> None:
        service = Within(teardown=700.0)
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            began = service.clock.now()
            async with service.following(relaunch_id, learner()) as stream:
                told = await stream.end()
            lasted = service.clock.now() - began
            # The leeway for clocks that differ counts for streams, too.
            assert 600 <= lasted <= 700
            assert told[-1][0] == "progress"
            headers = bearer() | {"Last-Event-ID": str(told[-1][1])}
            async with service.following(relaunch_id, headers) as stream:
                rest = await stream.end()
            assert rest[0][1] == told[-1][1] + 1
            assert rest[-1][2]["outcome"] == "launched"

    run_virtual(main())


def test_draining_ends_every_stream_and_those_that_come_then() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            async with (
                service.following(relaunch_id) as one,
                service.following(relaunch_id) as other,
            ):
                await one.until("tearing_down")
                await other.until("tearing_down")
                assert len(service.parts.streams) == 2
                began = service.clock.now()
                service.parts.drain()
                for stream in (one, other):
                    assert (await stream.end())[-1][0] == "progress"
                assert service.clock.now() == began
            async with service.following(relaunch_id) as late:
                await late.end()
                assert service.clock.now() == began
                assert late.text.startswith("retry: 1000")
                # And not all of them at the same moment.
                hints = [int(ms) for ms in re.findall(r"retry: (\d+)", late.text)]
                assert len(hints) == 2
                assert 1000 <= hints[1] <= 3000
            assert len(service.parts.streams) == service.parts.limits.open_streams == 0

    run_virtual(main())


@pytest.mark.parametrize("stalled", [False, True], ids=["idle", "in-the-middle-of-sending"])
def test_a_client_that_vanishes_gives_its_place_back(stalled: bool) -> None:
    async def main() -> None:
        limits = CallerLimits(most_streams_each=2)
        service = Within(limits=limits, teardown=10_000.0)
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            for _ in range(5):
                async with (
                    service.following(relaunch_id, learner()) as one,
                    service.following(relaunch_id, learner()) as other,
                ):
                    await one.until("tearing_down")
                    await other.until("tearing_down")
                    one.stalled = stalled
                    await asyncio.sleep(30)
                    async with service.following(relaunch_id, learner()) as third:
                        await third.end()
                        assert third.status == 429
                        assert third.headers["retry-after"] == "10"
                    assert limits.open_streams == 2
                assert limits.open_streams == len(service.parts.streams) == 0
            running = {str(task.get_coro()) for task in asyncio.all_tasks()}
            assert not [name for name in running if "Stream._next" in name]

    run_virtual(main())


def test_a_stream_that_is_refused_takes_no_place() -> None:
    async def main() -> None:
        service = Within(limits=CallerLimits(most_streams=1))
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            for headers in (learner("bob"), {}, bearer("lrk_wrong")):
                async with service.following(relaunch_id, headers) as stream:
                    await stream.end()
                    assert stream.status in (401, 404)
                assert service.parts.limits.open_streams == 0
            async with service.following(relaunch_id) as stream:
                assert (await stream.end())[-1][0] == "outcome"

    run_virtual(main())


class _BreaksOff(MemoryRunStore):
    """A store that is away from the second look at a journal on, until told otherwise."""

    looks = 0
    away = True

    async def journal(self, relaunch_id: str, *, after: int = 0) -> tuple[Entry, ...]:
        self.looks += 1
        if self.looks > 1 and self.away:
            raise StoreUnavailable("The store cannot be reached.")
        return await super().journal(relaunch_id, after=after)


def test_a_store_that_goes_away_breaks_the_stream_and_nothing_else() -> None:
    async def main() -> None:
        store = _BreaksOff()
        service = Within(store=store)
        async with service.client() as client:
            relaunch_id = await _begin(service, client)
            async with service.following(relaunch_id) as stream:
                before = await stream.end()
            assert all(name == "progress" for name, _, _ in before)
            store.away = False
            headers = bearer() | {"Last-Event-ID": str(before[-1][1] if before else 0)}
            async with service.following(relaunch_id, headers) as stream:
                rest = await stream.end()
            numbers = [number for _, number, _ in before + rest]
            assert numbers == list(range(1, len(numbers) + 1))
            assert rest[-1][2]["outcome"] == "launched"

    run_virtual(main())


def test_two_relaunches_are_not_mixed_up() -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            ids = [await _begin(service, client, f"user-{n}") for n in range(30)]

            async def follow(relaunch_id: str, user_id: str) -> None:
                async with service.following(relaunch_id, learner(user_id)) as stream:
                    told = await stream.end()
                assert told[-1][2]["relaunch_id"] == relaunch_id
                assert told[-1][2]["user_id"] == user_id

            await asyncio.gather(*(follow(i, f"user-{n}") for n, i in enumerate(ids)))

    run_virtual(main())


def test_another_replica_replays_and_goes_on(tmp_path: Path) -> None:
    with on_ports(tmp_path, teardown="fixed:0.6") as here:
        here.sandbox.world.give("ada", OLD)
        begun = here.begin()
        with service_on(here.sandbox_url, here.path) as other:
            there = here.follow(begun["relaunch_id"], learner(), other.base_url)
        own = here.follow(begun["relaunch_id"])
        assert _without_now(there) == _without_now(own)
        assert own[-1][2]["outcome"] == "launched"
        assert len(here.sandbox.ledger.launches("ada")) == 1


def _without_now(events: Events) -> Events:
    return [(name, number, data | {"now": 0}) for name, number, data in events]
