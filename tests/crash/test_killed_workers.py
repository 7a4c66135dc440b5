"""Two workers, many learners, one worker killed every few seconds: the sandbox's ledger judges.

``RELAUNCH_CRASH_LEARNERS=1000`` and ``RELAUNCH_CRASH_SEED`` ask for another campaign; ``-n 0 -s``
shows what happened in it.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from orchestrator.durable.store import RunStore
from orchestrator.machine.vocabulary import State
from tests.crash.campaign import Campaign, Platform, a_platform, everything, unfinished
from tests.crash.killed_worker import store_at
from tests.crash.lenient_sandbox import NEW_LAB, in_exam, learner
from tests.postgres import OurServer, PostgresServer

LEARNERS = int(os.environ.get("RELAUNCH_CRASH_LEARNERS", "200"))
SEED = int(os.environ.get("RELAUNCH_CRASH_SEED", "1"))

NEEDS_FLEET = "needs the extra: pip install lab-relaunch[fleet]"


def nothing_was_doubled(effects: list[dict[str, Any]], learners: int) -> dict[str, int]:
    """Hold the ledger to it; the new lab of each learner."""
    of_user: defaultdict[str, dict[str, list[dict[str, Any]]]]
    of_user = defaultdict(lambda: defaultdict(list))
    for effect in effects:
        of_user[effect["user_id"]][effect["what"]].append(effect)
    assert sorted(of_user) == sorted(learner(number) for number in range(learners))
    tags = Counter(e["tag"] for e in effects if e["what"] == "launched")
    assert max(tags.values()) == 1, "a relaunch that launched twice"
    new_labs = {}
    for number in range(learners):
        user = learner(number)
        (old,) = of_user[user]["given"]
        cancelled = [e["instance_id"] for e in of_user[user]["cancelled"]]
        launched = [(e["lab_profile_id"], e["instance_id"]) for e in of_user[user]["launched"]]
        if in_exam(number):
            assert (cancelled, launched) == ([], []), "an exam is left alone"
            continue
        assert cancelled == [old["instance_id"]]
        ((profile, new_labs[user]),) = launched
        assert profile == NEW_LAB
    return new_labs


async def nothing_was_lost(store: RunStore, learners: int, new_labs: dict[str, int]) -> None:
    """Hold the store to it: all have ended as the ledger says, and their journals are whole."""
    assert await unfinished(store) == ()
    runs = {stored.run.user_id: stored for stored in await everything(store)}
    assert len(runs) == learners
    for number in range(learners):
        stored = runs[learner(number)]
        run = stored.run
        if in_exam(number):
            assert (run.state, run.reason) == (State.REFUSED, "protected_exam")
        else:
            assert (run.state, run.new_instance_id) == (State.LAUNCHED, new_labs[run.user_id])
        journal = await store.journal(run.relaunch_id)
        assert [e.progress.sequence for e in journal] == list(range(1, stored.version + 1))


async def every_orphan_was_taken_over(store: RunStore, campaign: Campaign) -> None:
    """The kills hit something, and others went on with it."""
    assert campaign.orphans or campaign.learners < LEARNERS
    epochs = {s.run.relaunch_id: s.epoch for s in await everything(store)}
    for relaunch_id, epoch in campaign.orphans:
        assert epochs[relaunch_id] > epoch


def tell(campaign: Campaign) -> None:
    """Say what happened."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"\n{campaign.learners} learners, seed {campaign.seed}: {campaign.seconds:.1f} s, "
        f"{campaign.kills} kills, {len(campaign.orphans)} runs orphaned, "
        f"{campaign.at_an_effect} of them at an effect, {campaign.followed} followed, "
        f"{spent.ru_utime + spent.ru_stime:.1f} s CPU of the workers"
    )


def carry_out(campaign: Campaign) -> None:
    """A whole campaign, and its judgement."""

    async def scenario(platform: Platform) -> None:
        store = store_at(campaign.place)
        await store.open()
        try:
            await campaign.run(platform, store)
            tell(campaign)
            new_labs = nothing_was_doubled(platform.effects(), campaign.learners)
            await nothing_was_lost(store, campaign.learners, new_labs)
            await every_orphan_was_taken_over(store, campaign)
        finally:
            await store.close()

    with a_platform(campaign.learners, campaign.seed) as platform:
        asyncio.run(scenario(platform))
    assert "Traceback" not in campaign.log.read_text()
    assert "driver_failed" not in campaign.log.read_text()


@pytest.mark.timeout(240)  # workers that are killed every few seconds need that time by nature
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_nothing_is_lost_or_doubled_while_workers_are_killed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "postgres":
        pytest.importorskip("procrastinate", reason=NEEDS_FLEET)
        place = request.getfixturevalue("postgres_url")
    else:
        place = str(tmp_path / "relaunch.db")
    carry_out(Campaign(place, LEARNERS, SEED, tmp_path / "workers.log"))


@pytest.mark.timeout(240)  # likewise
def test_nor_while_the_database_is_restarted_meanwhile(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    pytest.importorskip("procrastinate", reason=NEEDS_FLEET)
    if not isinstance(postgres_server, OurServer):
        pytest.skip("this server is not ours to stop")

    async def restart() -> None:
        await asyncio.to_thread(postgres_server.stop)
        await asyncio.sleep(2.0)
        await asyncio.to_thread(postgres_server.start)

    log = tmp_path / "workers.log"
    carry_out(Campaign(postgres_url, LEARNERS // 4, SEED, log, disturb=restart))
