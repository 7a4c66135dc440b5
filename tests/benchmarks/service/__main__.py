"""What the service costs: ``python -m tests.benchmarks.service`` measures it, beside others.

Event streams of relaunches that wait, on ours and on the two usual ways to serve them with FastAPI,
over the same relaunches; and whole relaunches, over HTTP and by the library, on the same store.
Each measurement has a process of its own; clients are in another. sse-starlette is in no extra, and
left out with a word where it is missing: ``pip install sse-starlette``.

Six minutes on two cores. ``quick`` as an argument takes one, and writes no ``results.md``.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.service.descriptors import most_streams
from tests.benchmarks.markdown import table
from tests.benchmarks.service import following, pressing
from tests.benchmarks.service.kinds import KINDS, NAMES

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many, and how long (seconds) streams rest: at least two heartbeats."""

    relaunches: int
    streams: int
    rest: float
    presses: int
    rounds: int


FULL = Plan(relaunches=1000, streams=5000, rest=31.0, presses=300, rounds=3)
QUICK = Plan(relaunches=50, streams=200, rest=2.0, presses=30, rounds=1)


def results(
    streams: dict[str, following.Found],
    presses: dict[str, list[pressing.Found]],
    circumstances: str,
    plan: Plan,
) -> str:
    """The page. Ratios are to ours: what another needs, in times of what ours needs."""
    ours = streams["ours"]
    rows = [
        [
            NAMES[kind],
            f"{found.memory / 1000:.1f} ({found.memory / ours.memory:.2f} x)",
            f"{found.opening:.2f} ({found.opening / ours.opening:.2f} x)",
            f"{found.idle:.1f} ({found.idle / ours.idle:.2f} x)",
            f"{found.ending:.2f} ({found.ending / ours.ending:.2f} x)",
            f"{found.told_within:.1f}",
        ]
        for kind, found in streams.items()
    ]
    heads = [
        "event streams by",
        "kB of memory each",
        "CPU ms to open one",
        "CPU % of all at rest",
        "CPU ms to end one",
        "s until the last one knows",
    ]
    cpu = {how: statistics.median(f.cpu for f in found) for how, found in presses.items()}
    memory = {how: max(f.memory for f in found) for how, found in presses.items()}
    pressed = [
        [
            "over HTTP: the press, and the stream to its end"
            if how == "service"
            else "by the library: begun, and followed to its end",
            f"{cpu[how]:.2f} ({cpu[how] / cpu['library']:.2f} x)",
            f"{memory[how] / 1e6:.0f}",
        ]
        for how in ("library", "service")
    ]
    left_out = [NAMES[kind] for kind in KINDS if kind not in streams]
    word = f"Left out, since it is not installed: {', '.join(left_out)}.\n\n" if left_out else ""
    return (
        "# What the service costs\n\n"
        f"Made by `python -m tests.benchmarks.service`. {circumstances}\n\n"
        f"## {plan.streams:,} event streams on {plan.relaunches:,} relaunches that wait\n\n"
        "Ours knows its callers, has the service's limits and headers, and ends with the whole "
        "relaunch; the others are bare applications. A heartbeat is sent every 15 s by each but "
        "uvicorn alone, which sends nothing and does not read what happens. At the end every "
        f"relaunch is aborted.\n\n{word}{table(heads, rows)}\n"
        f"## {plan.presses} whole relaunches, begun at once\n\n"
        "The platform is in the same process, so none of its calls is in it. Medians of "
        f"{plan.rounds} rounds, and the most memory of any.\n\n"
        + table(["a relaunch", "CPU ms", "MB of memory at most, for all"], pressed)
    )


def main(plan: Plan, *, write: bool) -> None:
    """Measure, tell, and write."""
    most_streams(plan.streams)
    loads = [os.getloadavg()[0]]
    streams = {}
    for kind in KINDS:
        if kind == "sse-starlette" and importlib.util.find_spec("sse_starlette") is None:
            continue
        streams[kind] = following.follow(kind, plan.relaunches, plan.streams, plan.rest)
        print(kind, streams[kind], file=sys.stderr)
        loads.append(os.getloadavg()[0])
    presses: dict[str, list[pressing.Found]] = {"library": [], "service": []}
    for _ in range(plan.rounds):
        for how, measured in presses.items():
            measured.append(pressing.measure(how, plan.presses))
            print(how, measured[-1], file=sys.stderr)
            loads.append(os.getloadavg()[0])
    circumstances = (
        f"Python {platform.python_version()} on {os.cpu_count()} cores, load of the machine "
        f"{min(loads):.1f} to {max(loads):.1f} (the benchmark's own included)."
    )
    text = results(streams, presses, circumstances, plan)
    if write:
        (HERE / "results.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    quick = sys.argv[1:] == ["quick"]
    main(QUICK if quick else FULL, write=not quick)
