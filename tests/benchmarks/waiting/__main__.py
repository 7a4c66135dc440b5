"""Measure all schedules on all families: ``python -m tests.benchmarks.waiting``.

Virtual time, seeded, so the same figures each time; about a minute on two cores. Writes
``results.md`` and ``results.png`` beside this file. ``speed`` as an argument times decisions and
observations instead, beside a tenacity strategy in the same process.
"""

from __future__ import annotations

import functools
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from tenacity.wait import wait_exponential_jitter

from orchestrator.ports import Schedule
from orchestrator.waiting import LearnedSchedule, TenacitySchedule
from tests.benchmarks.markdown import table
from tests.benchmarks.waiting import measure
from tests.benchmarks.waiting.families import families
from tests.benchmarks.waiting.measure import COSTS, OBSERVED, SEEDS, Job
from tests.benchmarks.waiting.peers import PEERS
from tests.benchmarks.waiting.simulator import wait

HERE = Path(__file__).parent
NAMES = [law.name for law in families(1)]
GOALS = (1.75, 1.26, 1.12, 1.07, 1.05, 1.03)


def jobs(names: Iterable[str] = NAMES, costs: Sequence[float] = COSTS) -> list[Job]:
    """Every seed, family and cost of a look."""
    return list(itertools.product(SEEDS, [NAMES.index(name) for name in names], costs))


def geometric(values: Iterable[float]) -> float:
    """The geometric mean."""
    return float(np.exp(np.mean(np.log(list(values)))))


def main() -> None:
    """Measure and write."""
    with Pool() as pool:
        learned = pool.map(measure.learning, jobs(), chunksize=2)
        others = pool.map(measure.peers, jobs(), chunksize=2)
        newcomers = pool.map(measure.siblings, jobs(), chunksize=2)
        drifting = {
            kind: pool.map(functools.partial(measure.drift, kind=kind), jobs(measure.DRIFTING))
            for kind in measure.DRIFTS
        }
        announced = {
            lost: pool.map(
                functools.partial(measure.webhooks, lost=lost), jobs(measure.ANNOUNCED, (2.0,))
            )
            for lost in (0.0, 0.1)
        }
        dead = pool.map(measure.dead_webhooks, jobs(measure.ANNOUNCED, (2.0,)))
    parts = [
        "# When to look: the learned schedule beside the optimum and beside others\n",
        "Made by `python -m tests.benchmarks.waiting`, in virtual time: the same figures each "
        "time. A cost is E[idle seconds + c x looks], relative to the optimum of Barlow and "
        f"Proschan that knows the true law; geometric means over {len(SEEDS)} seeds of "
        f"{len(NAMES)} families and c in {COSTS} s. ![idle seconds against looks](results.png)\n",
        "## By the number of observations\n",
        _learning(learned),
        "\n## By family\n",
        _by_family(learned),
        "\n## Beside the schedules that others use, after 50 observations\n",
        _peers(learned, others),
        "\n## Siblings, drift, webhooks\n",
        _rest(newcomers, drifting, announced, dead),
    ]
    (HERE / "results.md").write_text("\n".join(parts), encoding="utf-8")
    _picture(learned, others)
    print("\n".join(parts))


def _learning(learned: list[Any]) -> str:
    rows = []
    for k, number in enumerate(OBSERVED):
        by_cost = [geometric(r[2][k] for r in learned if r[1] == c) for c in COSTS]
        rows.append(
            [str(number), f"{geometric(r[2][k] for r in learned):.3f}", f"{GOALS[k]:.2f}"]
            + [f"{ratio:.3f}" for ratio in by_cost]
        )
    return table(["observations", "cost", "goal", *(f"c = {c:g}" for c in COSTS)], rows)


def _by_family(learned: list[Any]) -> str:
    rows = [
        [name, *(f"{geometric(r[2][k] for r in learned if r[0] == name):.3f}" for k in range(6))]
        for name in NAMES
    ]
    return table(["family", *(f"n = {number}" for number in OBSERVED)], rows)


def _peers(learned: list[Any], others: list[Any]) -> str:
    k = OBSERVED.index(50)
    ours = {c: geometric(r[2][k] for r in learned if r[1] == c) for c in COSTS}
    rows = [["**learned**", *(f"{ours[c]:.2f} (1.0 x)" for c in COSTS), ""]]
    family = {
        (name, c): geometric(r[2][k] for r in learned if r[:2] == (name, c))
        for name in NAMES
        for c in COSTS
    }
    for peer in PEERS:
        means = {c: geometric(o[2][peer][0] for o in others if o[1] == c) for c in COSTS}
        on = {
            (name, c): geometric(o[2][peer][0] for o in others if o[:2] == (name, c)) / mine
            for (name, c), mine in family.items()
        }
        (name, c), least = min(on.items(), key=lambda item: item[1])
        shown = [f"{means[c]:.2f} ({means[c] / ours[c]:.1f} x)" for c in COSTS]
        rows.append([peer, *shown, f"{least:.2f} x, {name}, c = {c:g}"])
    return table(["schedule", *(f"c = {c:g}" for c in COSTS), "its best against ours"], rows)


def _rest(
    newcomers: list[float],
    drifting: dict[str, list[float]],
    announced: dict[float, list[Any]],
    dead: list[Any],
) -> str:
    rows = [
        ["first wait with known siblings", f"{geometric(newcomers):.3f}", "1.30"],
        [
            "drift, mean of the three",
            f"{geometric(r for ratios in drifting.values() for r in ratios):.3f}",
            "1.07",
        ],
        *([f"drift: {kind}", f"{geometric(ratios):.3f}", ""] for kind, ratios in drifting.items()),
        [
            "webhooks, always, 1 s late: looks",
            f"{np.mean([a[2] for a in announced[0.0]]):.3f}",
            "< 1",
        ],
        [
            "webhooks, always, 1 s late: idle seconds",
            f"{np.mean([a[1] for a in announced[0.0]]):.3f}",
            "1.1",
        ],
        ["webhooks, always: cost", f"{geometric(a[0] for a in announced[0.0]):.3f}", ""],
        [
            "webhooks, one in ten lost: cost",
            f"{geometric(a[0] for a in announced[0.1]):.3f}",
            "0.36",
        ],
        ["webhooks died: the first wait", f"{geometric(d[0] for d in dead):.2f}", ""],
        ["webhooks died: waits 2 to 5", f"{geometric(d[1] for d in dead):.2f}", ""],
        ["webhooks died: waits 6 to 100", f"{geometric(d[2] for d in dead):.2f}", ""],
    ]
    return table(["measured", "cost or figure", "goal"], rows)


def _picture(learned: list[Any], others: list[Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(COSTS), figsize=(13, 5), sharey=True)
    for axis, c in zip(axes, COSTS, strict=True):
        for peer in ("optimum", *PEERS):
            idle = geometric(o[2][peer][1] + 0.1 for o in others if o[1] == c)
            looks = geometric(o[2][peer][2] for o in others if o[1] == c)
            axis.plot(looks, idle, "k*" if peer == "optimum" else "o", markersize=6)
            axis.annotate(
                peer, (looks, idle), fontsize=6, xytext=(3, 3), textcoords="offset points"
            )
        path = [
            (
                geometric(r[3][k][2] for r in learned if r[1] == c),
                geometric(r[3][k][1] + 0.1 for r in learned if r[1] == c),
            )
            for k in range(len(OBSERVED))
        ]
        axis.plot(*zip(*path, strict=True), "r.-")
        axis.annotate("learned: n = 0, 5, ... 1000", path[0], fontsize=7, color="red", ha="right")
        axis.set_title(f"a look costs {c:g} s")
        axis.set_xscale("log")
        axis.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
        axis.set_xticks([], minor=True)
        axis.set_yscale("log")
        axis.set_xlabel("looks per wait")
    axes[0].set_ylabel("idle seconds per wait")
    figure.suptitle("Geometric means over all families")
    figure.savefig(HERE / "results.png", dpi=110, bbox_inches="tight")
    pyplot.close(figure)


def speed() -> None:
    """Seconds per decision and observation, beside tenacity in the same process."""

    class Timed:
        def __init__(self, schedule: Schedule) -> None:
            self.schedule, self.decisions, self.observations = schedule, 0, 0
            self.deciding = self.observing = 0.0

        def next_delay(self, elapsed: float, attempt: int) -> float:
            began = time.perf_counter()
            delay = self.schedule.next_delay(elapsed, attempt)
            self.deciding += time.perf_counter() - began
            self.decisions += 1
            return delay

        def observe(self, low: float, high: float) -> None:
            began = time.perf_counter()
            self.schedule.observe(low, high)
            self.observing += time.perf_counter() - began
            self.observations += 1

    for number in (50, 200, 1000):
        total = {"learned": [0.0, 0.0, 0.0, 0.0], "tenacity": [0.0, 0.0, 0.0, 0.0]}
        largest = 0
        for law in families(1):
            drawn = law.draw(np.random.default_rng(5), number)
            ours, theirs = (
                LearnedSchedule(),
                TenacitySchedule(wait_exponential_jitter(initial=1, max=60)),
            )
            for name, schedule in (("learned", Timed(ours)), ("tenacity", Timed(theirs))):
                for teardown in drawn:
                    wait(schedule, float(teardown))
                figures = (
                    schedule.deciding,
                    schedule.decisions,
                    schedule.observing,
                    schedule.observations,
                )
                total[name] = [a + b for a, b in zip(total[name], figures, strict=True)]
            largest = max(largest, len(ours.to_json()))
        decision, observation = (
            total["learned"][0] / total["learned"][1],
            total["learned"][2] / total["learned"][3],
        )
        beside = total["tenacity"][0] / total["tenacity"][1]
        print(
            f"{number} waits: decision {decision * 1e6:.1f} us ({decision / beside:.1f} x "
            f"tenacity's), observation {observation * 1e6:.1f} us, state at most {largest} bytes"
        )


if __name__ == "__main__":
    speed() if sys.argv[1:] == ["speed"] else main()
