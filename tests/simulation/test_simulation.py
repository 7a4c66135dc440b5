"""Some seeds of the simulation; ``python -m tests.simulation`` runs as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.judge import fingerprint, verdict
from tests.simulation.world import Simulation, sqlite_store

#: In how many parts, and how many seeds in each.
PARTS, SEEDS = 8, 6


@pytest.mark.parametrize("part", range(PARTS))
def test_the_promises_hold_whatever_happens(part: int) -> None:
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        simulation = Simulation(seed)
        simulation.run()
        found = verdict(simulation)
        assert not found, f"python -m tests.simulation --first {seed} --seeds 1 -v"


def test_the_promises_hold_in_a_file(tmp_path: Path) -> None:
    simulation = Simulation(74, sqlite_store(tmp_path, 74))
    simulation.run()
    assert verdict(simulation) == []


def test_a_seed_says_the_same_each_time() -> None:
    said = []
    for _ in range(2):
        simulation = Simulation(31)
        simulation.run()
        assert simulation.sandbox.ledger.launches()
        said.append(fingerprint(simulation))
    assert said[0] == said[1]


def test_the_judge_is_not_content_with_everything() -> None:
    """A lab too many and a run that is forgotten are found."""
    simulation = Simulation(74)
    simulation.run()
    assert verdict(simulation) == []
    relaunch_id = next(i for i, s in simulation.runs.items() if s.run.new_is_ours)
    world = simulation.sandbox.world
    new = world.instances[world.ledger.launches(tag_part=f"relaunch={relaunch_id}")[0]]
    world.create(new.user_id, new.profile, new.consumer, new.started_at, new.tag)
    del simulation.database.ended_at[relaunch_id]
    found = "\n".join(verdict(simulation))
    assert f"{relaunch_id}: two labs from one request" in found
    assert f"{relaunch_id}: has not ended" in found
