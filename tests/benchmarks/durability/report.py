"""What was found, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from tests.benchmarks.durability.measuring import ENGINES, Found
from tests.benchmarks.markdown import table

#: (engine, what was measured, how many relaunches) and what each round has found.
Rounds = Mapping[tuple[str, str, int], Sequence[Found]]

NAMES = {
    "bare": "bare asyncio, nothing kept",
    "sqlite": "SQLite, embedded",
    "postgres": "PostgreSQL + procrastinate",
    "dbos": "DBOS on PostgreSQL",
    "restate": "Restate",
}
#: What is aimed at: milliseconds of CPU a relaunch more than bare, and to a hint's launch; bytes
#: for a waiting relaunch; percent of CPU of 10,000 that wait.
EXTRA = {"sqlite": 2.0, "postgres": 6.0}
LATENCY = 50.0
WAITING = 10_000
IDLE = 2.0


def results(found: Rounds, left_out: Mapping[str, str], circumstances: str) -> str:
    """The whole page."""
    parts = [
        "# What durability costs\n",
        f"Made by `python -m tests.benchmarks.durability`. {circumstances} Milliseconds of CPU are "
        "those of one relaunch of 8 steps and 7 calls of a platform in the same process; the "
        "server's are those of all its processes. Medians of the rounds; a goal is on what a "
        "relaunch costs more than the bare one of the same round.\n",
        *(f"{NAMES[engine]} is left out: {word}.\n" for engine, word in left_out.items()),
        "## A relaunch, where many are begun at once\n",
        _costs(found, "burst"),
        "\n## A relaunch, where 20 a second are begun one by one\n",
        _costs(found, "stream"),
        "\n## From the hint to the launch\n",
        _hints(found),
        "\n## What is kept of a relaunch that has ended\n",
        _kept(found),
        "\n## Relaunches that wait\n",
        _waiting(found),
        "\n## Goals\n",
        _goals(found),
    ]
    return "\n".join(parts)


def _of(found: Rounds, engine: str, what: str) -> list[Found]:
    return [f for (e, w, _), rounds in found.items() if (e, w) == (engine, what) for f in rounds]


def _total(one: Found) -> float:
    return float(one["client"] + one["server"])


def _extra(found: Rounds, engine: str, what: str) -> float | None:
    pairs = zip(_of(found, engine, what), _of(found, "bare", what), strict=False)
    extras = [_total(one) - _total(bare) for one, bare in pairs]
    return median(extras) if extras else None


def _costs(found: Rounds, what: str) -> str:
    rows = []
    bare = median(_total(one) for one in _of(found, "bare", what))
    for engine in ENGINES:
        rounds = _of(found, engine, what)
        if not rounds:
            continue
        total = median(_total(one) for one in rounds)
        extra = _extra(found, engine, what)
        row = [
            NAMES[engine],
            f"{median(one['client'] for one in rounds):.2f}",
            f"{median(one['server'] for one in rounds):.2f}",
            f"{total:.2f} ({total / bare:.1f} x)",
            "" if engine == "bare" or extra is None else f"{extra:.2f}",
            f"{EXTRA[engine]:g}" if engine in EXTRA else "",
        ]
        if what == "burst":
            row.append(f"{median(one['rate'] for one in rounds):.0f}")
        rows.append(row)
    heads = ["engine", "CPU ms here", "the server's", "together", "more than bare", "goal"]
    return table([*heads, "relaunches/s"] if what == "burst" else heads, rows)


def _latencies(found: Rounds, engine: str, where: str) -> list[float]:
    return [ms for one in _of(found, engine, "hints") for ms in one.get(where, ())]


def _hints(found: Rounds) -> str:
    rows = []
    for engine in ENGINES:
        for where in ("here", "elsewhere"):
            latencies = _latencies(found, engine, where)
            if latencies:
                place = "the same process" if where == "here" else "another process"
                p95 = quantiles(latencies, n=20)[-1]
                goal = f"{LATENCY:g}" if engine in EXTRA else ""
                row = [NAMES[engine], place, f"{median(latencies):.1f}", f"{p95:.1f}", goal]
                rows.append([*row, str(len(latencies))])
    heads = ["engine", "the hint came to", "median ms", "95 % ms", "goal (median)", "hints"]
    return table(heads, rows)


def _kept(found: Rounds) -> str:
    rows = []
    for engine in ENGINES:
        rounds = _of(found, engine, "burst")
        for what in rounds[0]["kept"] if rounds else ():
            size, number = (median(one["kept"][what][n] for one in rounds) for n in (0, 1))
            shown = f"{number:.1f}" if number else "0" if what != "the folder" else "?"
            rows.append([NAMES[engine], what, f"{size:.0f}", shown])
    return table(["engine", "in", "bytes", "rows"], rows)


def _waiting(found: Rounds) -> str:
    rows = [
        [
            NAMES[engine],
            f"{number:,}",
            f"{one['memory']:.0f}",
            f"{one['client']:.2f}",
            f"{one['server']:.2f}",
        ]
        for (engine, what, number), rounds in found.items()
        if what == "waiting"
        for one in rounds
    ]
    heads = ["engine", "waiting", "bytes of memory each", "CPU % here", "CPU % of the server"]
    return table(heads, rows)


def _goals(found: Rounds) -> str:
    rows: list[list[str]] = []

    def judge(goal: str, limit: float, value: float | None, unit: str) -> None:
        if value is not None:
            met = "met" if value <= limit else f"{value / limit:.1f} x the goal"
            rows.append([goal, f"{limit:g} {unit}", f"{value:.2f} {unit}", met])

    for engine, limit in EXTRA.items():
        for what, how in (("burst", "at once"), ("stream", "one by one")):
            goal = f"{NAMES[engine]}: more CPU a relaunch than bare, {how}"
            judge(goal, limit, _extra(found, engine, what), "ms")
    for engine in EXTRA:
        for where in ("here", "elsewhere"):
            latencies = _latencies(found, engine, where)
            goal = f"{NAMES[engine]}: hint to launch, {where}, median"
            judge(goal, LATENCY, median(latencies) if latencies else None, "ms")
    for engine in EXTRA:
        for (name, what, number), (one, *_) in found.items():
            if (name, what) == (engine, "waiting"):
                shown = f"{NAMES[engine]}: {number:,} waiting"
                judge(f"{shown}, memory each", WAITING, one["memory"], "bytes")
                judge(f"{shown}, CPU in rest, server included", IDLE, _total(one), "%")
    heads: Any = ["goal", "at most", "found", ""]
    return table(heads, rows)
