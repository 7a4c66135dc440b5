"""The page of the benchmark of batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.benchmarks.batches.measuring import Found, Task
from tests.benchmarks.batches.school import EXAMS, HOPELESS, LOST, VOLLEY
from tests.benchmarks.markdown import table

NAMES = {
    "taught": "ours, the limit learned",
    "configured": "ours, the limit configured",
    "tenacity": "asyncio.gather over a tenacity loop",
    "sleep": "asyncio.gather, a fixed sleep",
    "loop": "a shell loop over `relaunch run`",
}
#: Goals: the share of what the platform allows, 429s after the first volley, bytes of a learner.
USED, LATER, BYTES = 0.95, 0, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Bytes of a learner who waits for a teardown, and of one who waits to be begun."""

    learners: int
    waiting: float
    unbegun: float


def section(title: str, measured: Mapping[str, tuple[Task, Found]]) -> str:
    """What a class cost, ours and others'. Ratios are to ours that learned the limit."""
    task, ours = measured["taught"]
    scale = {name: task.learners / t.learners for name, (t, _) in measured.items()}

    def times(name: str, value: float, own: float) -> str:
        return f"{value * scale[name] / own:.2f} x" if own else "-"

    rows = []
    for name, (_, found) in measured.items():
        told, by = found.account, scale[name]
        failed = told.without + told.for_nothing + told.exams + told.doubled
        rows.append(
            [
                NAMES[name] + (f" ({told.learners} learners, scaled)" if by > 1 else ""),
                f"{told.seconds * by:,.0f} ({times(name, told.seconds, ours.account.seconds)})",
                f"{told.calls * by:,.0f} ({times(name, told.calls, ours.account.calls)})",
                f"{told.turned_away * by:,.0f}",
                f"{told.later * by:,.0f}",
                f"{told.used:.1%}",
                f"{failed * by:,.0f}",
                f"{told.without * by:,.0f}",
                f"{told.for_nothing * by:,.0f}",
                f"{told.exams * by:,.0f}",
                f"{told.doubled * by:,.0f}",
                f"{found.cpu / told.learners * 1000:.1f}",
                f"{found.memory / 1e6:.0f}",
            ]
        )
    heads = [
        "", "seconds", "API calls", "429s", "after the first volley", "of the limit used",
        "learners ill served", "left without a lab", "their lab ended for nothing", "exams ended",
        "two labs", "CPU ms a learner", "MB at most",
    ]  # fmt: skip
    words = (
        f"{task.learners:,} learners, {task.at_a_time:,} at a time; the platform serves "
        f"{task.rate} calls in any second; teardowns take {task.teardown} s (median, sigma)."
    )
    return f"## {title}\n\n{words}\n\n{table(heads, rows)}"


def weights(found: Weights) -> str:
    """What a learner who waits weighs."""
    rows = [
        ["waits for a teardown", f"{found.waiting:,.0f}"],
        ["waits to be begun", f"{found.unbegun:,.0f}"],
    ]
    return (
        f"## A learner who waits, of {found.learners:,}\n\nMemory that only the process has, "
        f"beyond that of a batch of a few.\n\n{table(['', 'bytes each'], rows)}"
    )


def goals(measured: Mapping[str, Mapping[str, tuple[Task, Found]]], found: Weights | None) -> str:
    """Which goals are met."""
    rows = []
    for title, contestants in measured.items():
        for name in ("taught", "configured"):
            if name in contestants:
                told = contestants[name][1].account
                who = f"{title}: {NAMES[name]}"
                rows.append(
                    [
                        f"{who}: share of the limit used",
                        f"at least {USED:.0%}",
                        f"{told.used:.1%}",
                        _verdict(told.used >= USED),
                    ]
                )
                rows.append(
                    [
                        f"{who}: 429s after the first volley",
                        f"{LATER}",
                        f"{told.later}",
                        _verdict(told.later <= LATER),
                    ]
                )
    if found is not None:
        for what, bytes_each in (("a teardown", found.waiting), ("its beginning", found.unbegun)):
            rows.append(
                [
                    f"memory of a learner who waits for {what}",
                    f"under {BYTES:,} bytes",
                    f"{bytes_each:,.0f}",
                    _verdict(bytes_each < BYTES),
                ]
            )
    return f"## Goals\n\n{table(['goal', '', 'found', ''], rows)}"


def _verdict(met: bool) -> str:
    return "met" if met else "not met"


def page(
    measured: Mapping[str, Mapping[str, tuple[Task, Found]]],
    found: Weights | None,
    circumstances: str,
) -> str:
    """The page."""
    intro = (
        "# A class, reset\n\n"
        f"Made by `python -m tests.benchmarks.batches`. {circumstances}\n\n"
        f"One learner in {EXAMS} is in an exam, which must not be ended; one in {HOPELESS} is to "
        "have a lab whose launches are used up, so that ending the old one would be for nothing; "
        f"the answer of one launch in {LOST} is lost. A user may have one lab. What came of it is "
        'read off the platform\'s ledger. "Used" is the share of the calls that the platform '
        "would have served, from the first call until the last learner was begun; the first "
        f"volley are the 429s within {VOLLEY:g} s of the first one."
    )
    parts = [intro, *(section(title, contestants) for title, contestants in measured.items())]
    if found is not None:
        parts.append(weights(found))
    return "\n\n".join([*parts, goals(measured, found)])
