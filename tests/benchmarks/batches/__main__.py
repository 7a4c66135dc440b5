"""What resetting a class costs: ``python -m tests.benchmarks.batches`` measures it, beside others.

Five thousand learners on the sandbox in virtual time, and a thousand over HTTP in real time: by a
batch, once learning the platform's limit and once told it, and by what people would run instead.
Each measurement has a process of its own, on a platform of its own.

Half an hour on two cores. ``quick`` as an argument takes three minutes, and writes no
``results.md``; the name of a part (``virtual``, ``real``, ``weights``) measures that part only, and
the page keeps what was found of the others.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.batches.measuring import Found, Task, measured
from tests.benchmarks.batches.report import Weights, page
from tests.benchmarks.batches.school import Account
from tests.benchmarks.batches.server import served
from tests.benchmarks.batches.waiting import weighed

HERE = Path(__file__).parent
VIRTUAL, REAL = "In virtual time", "Over HTTP, in real time"
#: In flight where what is not waiting is weighed.
FEW = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A class in virtual and one in real time (of the first contestant), and of the loop alone how
    many learners."""

    virtual: Task
    virtual_loop: int
    real: Task
    real_loop: int
    weighed: int


FULL = Plan(
    virtual=Task(
        contestant="taught",
        learners=5000,
        at_a_time=1500,
        rate=100,
        teardown="lognormal:60,0.5",
        sleep=60.0,
    ),
    virtual_loop=100,
    # Five thousand of them would be an hour for all contestants, and tell the same.
    real=Task(
        contestant="taught",
        learners=1000,
        at_a_time=200,
        rate=100,
        teardown="lognormal:8,0.4",
        sleep=8.0,
    ),
    real_loop=12,
    weighed=5000,
)
QUICK = Plan(
    virtual=dataclasses.replace(FULL.virtual, learners=300, at_a_time=300, rate=30),
    virtual_loop=10,
    real=dataclasses.replace(FULL.real, learners=100, at_a_time=50, rate=30),
    real_loop=1,
    weighed=300,
)


def everybody(task: Task, loop: int) -> list[Task]:
    """The same class for each, but a part of it for the loop."""
    same = [
        dataclasses.replace(task, contestant=name)
        for name in ("taught", "configured", "tenacity", "sleep")
    ]
    return [*same, dataclasses.replace(task, contestant="loop", learners=loop, at_a_time=1)]


def compete(tasks: list[Task], *, real: bool) -> dict[str, tuple[Task, Found]]:
    """Each in turn, on a platform of its own."""
    found = {}
    for task in tasks:
        if real:
            with served(task.learners, task.rate, task.teardown) as base_url:
                found[task.contestant] = (
                    task,
                    measured(dataclasses.replace(task, base_url=base_url)),
                )
        else:
            found[task.contestant] = (task, measured(task))
        print(found[task.contestant], file=sys.stderr, flush=True)
    return found


def weigh(learners: int) -> Weights:
    """What a learner who waits weighs: many of them beside few."""
    few = weighed(FEW, FEW)
    unbegun = weighed(learners, FEW)
    waiting = weighed(learners, learners)
    return Weights(
        learners=learners,
        waiting=(waiting - unbegun) / (learners - FEW),
        unbegun=(unbegun - few) / (learners - FEW),
    )


def main(plan: Plan, parts: list[str], *, file: Path | None) -> None:
    """Measure, tell, and keep."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file and file.exists() else {}
    load = os.getloadavg()[0]
    if "virtual" in parts:
        kept[VIRTUAL] = plain(compete(everybody(plan.virtual, plan.virtual_loop), real=False))
    if "real" in parts:
        kept[REAL] = plain(compete(everybody(plan.real, plan.real_loop), real=True))
    if "weights" in parts:
        kept["weights"] = dataclasses.asdict(weigh(plan.weighed))
    kept["circumstances"] = (
        f"Python {platform.python_version()} on {os.cpu_count()} cores, load of the machine "
        f"{load:.1f} before the last part."
    )
    weights = Weights(**kept["weights"]) if "weights" in kept else None
    text = page(
        {title: found_of(kept[title]) for title in (VIRTUAL, REAL) if title in kept},
        weights,
        kept["circumstances"],
    )
    if file is not None:
        file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        file.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def plain(found: Mapping[str, tuple[Task, Found]]) -> dict[str, Any]:
    """As JSON has it."""
    return {
        name: [dataclasses.asdict(task), dataclasses.asdict(one)]
        for name, (task, one) in found.items()
    }


def found_of(kept: Mapping[str, Any]) -> dict[str, tuple[Task, Found]]:
    """From what JSON has."""
    return {
        name: (Task(**task), Found(**(one | {"account": Account(**one["account"])})))
        for name, (task, one) in kept.items()
    }


if __name__ == "__main__":
    everything = ["virtual", "real", "weights"]
    if sys.argv[1:2] == ["quick"]:
        main(QUICK, sys.argv[2:] or everything, file=None)
    else:
        main(FULL, sys.argv[1:] or everything, file=HERE / "results.json")
