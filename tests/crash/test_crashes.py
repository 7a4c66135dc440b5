"""Killed at every point, gone on with by the same command or by another process: one lab, once."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

from orchestrator.durable.store import Filter
from orchestrator.sandbox import Sandbox
from orchestrator.sandbox.server import SandboxServer
from tests.crash.child import Orders, carry_out, consumer_of, open_store
from tests.world import NEW_LAB, OLD_LAB

#: Calls that change nothing that matters to anybody else.
HARMLESS = ("survey", "inspect", "claim")
#: How many processes at a time.
AT_ONCE = 6


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Where processes come from: one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.child"])
    return context


@pytest.fixture
def platform() -> Iterator[SandboxServer]:
    """The platform, over real HTTP."""
    with SandboxServer(Sandbox(teardown="fixed:0.5")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store of each kind is."""
    if request.param == "sqlite":
        return str(tmp_path / "relaunch.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


def run_all(processes: ForkServerContext, orders: Iterable[Orders]) -> list[int | None]:
    """Carry all of them out, some at a time; how each process ended."""
    waiting, ended = list(orders), list[ForkServerProcess]()
    running: list[ForkServerProcess] = []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            running.append(processes.Process(target=carry_out, args=(waiting.pop(0),)))
            running[-1].start()
        multiprocessing.connection.wait([p.sentinel for p in running])
        ended += [p for p in running if p.exitcode is not None]
        running = [p for p in running if p.exitcode is None]
    return [process.exitcode for process in ended]


def points_of(processes: ForkServerContext, orders: Orders, folder: Path) -> list[str]:
    """Every point of a relaunch that nobody disturbs."""
    passed = folder / "passed"
    assert run_all(processes, [replace(orders, passed=passed)]) == [0]
    return passed.read_text().split()


@pytest.mark.timeout(120)  # dozens of processes are killed, and gone on with
@pytest.mark.parametrize("goes_on", ["the_same_command", "another_process"])
def test_killed_at_any_point_it_ends_with_one_lab(
    goes_on: str, where: str, platform: SandboxServer, processes: ForkServerContext, tmp_path: Path
) -> None:
    world, ledger = platform.sandbox.world, platform.sandbox.ledger
    first = Orders(store=where, platform=platform.base_url, learners=("undisturbed",))
    world.give("undisturbed", OLD_LAB)
    points = points_of(processes, first, tmp_path)
    assert len(points) > 30
    is_fleet = "://" in where
    if is_fleet:
        # Slower: the journal and the effects, each gone on with in one of the two ways, in turn.
        points = [point for point in points if point.split(":")[0] not in HARMLESS]
        first_one = 0 if goes_on == "the_same_command" else 1
        points = [point for n, point in enumerate(points) if n // 2 % 2 == first_one]
    with platform.sandbox.lock:
        old = {point: world.give(point, OLD_LAB).instance_id for point in points}

    killed = run_all(processes, (replace(first, learners=(p,), point=p) for p in points))
    assert set(killed) == {-signal.SIGKILL}
    if goes_on == "another_process":
        # A request that had not been stored when its process died was never accepted.
        points = [point for point in points if point != "create:1:before"]
    rest = [(point,) for point in points] if is_fleet else [tuple(points)]
    works = goes_on == "another_process"
    orders = [replace(first, learners=learners, works=works) for learners in rest]
    assert set(run_all(processes, orders)) == {0}

    assert asyncio.run(unfinished(where, points)) == 0
    with platform.sandbox.lock:
        for point in points:
            (new,) = ledger.launches(point)
            assert ledger.cancels(point) == [old[point]]
            holding = [i for i in world.of_user(point) if i.holds_slot]
            assert [(i.instance_id, i.profile.profile_id) for i in holding] == [(new, NEW_LAB)]


async def unfinished(where: str, learners: Iterable[str]) -> int:
    """How many runs of the store have not ended."""
    found = 0
    for consumer in {consumer_of(where, learner) for learner in learners}:
        store = open_store(where, consumer)
        await store.open()
        found += len(await store.history(Filter(unfinished=True)))
        await store.close()
    return found
