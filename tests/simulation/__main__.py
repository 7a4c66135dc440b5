"""The long campaign: ``python -m tests.simulation --seeds 2000``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from orchestrator.durable.memory import MemoryRunStore
from tests.simulation.judge import verdict
from tests.simulation.world import Simulation, sqlite_store


def simulate(seed: int, store: str, folder: Path) -> tuple[Simulation, list[str]]:
    """Run a seed; the simulation, and what it violated."""
    kept = MemoryRunStore() if store == "memory" else sqlite_store(folder, seed)
    simulation = Simulation(seed, kept)
    try:
        simulation.run()
    except Exception as error:
        return simulation, [f"{type(error).__name__}: {error}"]
    return simulation, verdict(simulation)


def main() -> int:
    """Run the seeds; how many failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--store", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the time lines")
    options = parser.parse_args()
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
    began, failed, ends = time.perf_counter(), 0, Counter[str]()
    takeovers = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.first, options.first + options.seeds):
            simulation, violations = simulate(seed, options.store, Path(folder))
            ends.update(f"{s.run.state} {s.run.reason}" for s in simulation.runs.values())
            takeovers += simulation.database.takeovers
            if options.verbose:
                for told in simulation.told:
                    print(f"{told.at:8.2f} {told.who:11} {told.relaunch_id:5} {told.what}")
            if violations:
                failed += 1
                print(f"seed {seed} failed:", *violations, sep="\n    ")
                print(
                    f"    python -m tests.simulation --first {seed} --seeds 1"
                    f" --store {options.store} -v"
                )
    seconds = time.perf_counter() - began
    print(f"{options.seeds} seeds in {seconds:.0f} s, {failed} failed")
    print(f"{takeovers} takeovers; runs ended: {dict(ends.most_common())}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
