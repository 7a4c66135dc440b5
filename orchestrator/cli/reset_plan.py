"""The plan of a batch for people: a table on a terminal, plain lines elsewhere.

All of it goes to stderr. Of a long class the first and the last learners are shown; what stands
for all of them (how many, how long, what is left alone and why) is told in full below.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from orchestrator.batch.estimate import Estimate
from orchestrator.batch.plain_plans import SKIPPED
from orchestrator.batch.planning import Plan, PlannedRow
from orchestrator.cli.batch_words import learners
from orchestrator.cli.durations import roughly
from orchestrator.cli.lines import Lines, printable

#: So many learners are shown from the beginning and from the end of a long class.
FIRST, LAST = 20, 3
#: So many of those who are left alone are named, for each reason.
NAMED = 10
#: The widest that a cell of the plain lines is made.
WIDEST = 60

_PROTECTED = {
    "protected_exam": "an exam",
    "protected_scoring": "being scored",
    "protected_submitted": "submitted for grading",
}
_HEADS = ("learner", "lab", "would be ended", "left alone", "launched", "remark")


def show_plan(plan: Plan, *, whole: bool = False) -> None:
    """Show it on stderr; ``whole``: every learner, however many."""
    if sys.stderr.isatty():
        _table(plan, whole=whole)
    else:
        lines = Lines(sys.stderr)
        for text in (*aligned(plan, whole=whole), *summary(plan)):
            lines.write(text)


def _table(plan: Plan, *, whole: bool) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    if plan.rows:
        table = Table(box=SIMPLE)
        for head in _heads(plan):
            table.add_column(head, overflow="fold")
        for cells in _shown(plan, whole=whole):
            # As text: a user id in brackets is no markup.
            table.add_row(*(Text(printable(cell)) for cell in cells))
        console.print(table)
    for text in summary(plan):
        console.print(Text(printable(text)), soft_wrap=True)


def aligned(plan: Plan, *, whole: bool = False) -> Iterator[str]:
    """The table without a terminal: one line for each learner, in columns."""
    if not plan.rows:
        return
    rows = [_heads(plan), *_shown(plan, whole=whole)]
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)]
    for cells in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield "  ".join(padded).rstrip()


def summary(plan: Plan) -> Iterator[str]:
    """What stands for all of them."""
    if plan.description is not None:
        yield f"Selected: {plan.description}."
    yield _counted(plan)
    yield from _left_alone(plan)
    if plan.to_carry_out:
        yield estimated(plan.estimate)
        waits = plan.pace.wait_seconds
        if waits is not None and waits < plan.estimate.seconds_low:
            yield f"The {roughly(waits)} of --batch-wait are shorter: the rest will be left."
    yield from plan.notes


def estimated(told: Estimate) -> str:
    """How long, and how many calls."""
    seconds = _between(roughly(told.seconds_low), roughly(told.seconds_high))
    calls = _between(f"{told.api_calls_low:,}", f"{told.api_calls_high:,}")
    how = (
        "from what was learned of these labs' teardowns"
        if told.learned
        else "a wide guess, since little is known yet of some of these labs' teardowns"
    )
    return f"Estimated: {seconds}, and {calls} API calls; {how}."


def _between(low: str, high: str) -> str:
    return f"about {low}" if low == high else f"{low} to {high}"


def _counted(plan: Plan) -> str:
    rows = [row for row in plan.rows if not plan.is_left_alone(row)]
    users = len({row.row.user_id for row in rows})
    verb = {"cancel": "ended", "save": "saved"}[plan.policy.displace]
    ends: Counter[str] = Counter()
    for row in rows:
        ends[row.certainty] += len(row.would_end) or (row.certainty == "unknown")
    parts = []
    if ends["surely"]:
        parts.append(f"{labs(ends['surely'])} {verb}")
    if ends["if_needed"]:
        parts.append(f"{labs(ends['if_needed'])} {verb} only if the platform allows no lab more")
    if ends["unknown"]:
        parts.append(f"whatever runs {verb} where it must")
    told = f"{learners(users)}: {', '.join(parts) or f'no lab {verb}'}"
    if plan.policy.launch:
        launches = Counter(row.launches for row in rows)
        told += f"; {labs(launches['yes'])} launched"
        told += f", {launches['maybe']:,} more if it can be" if launches["maybe"] else ""
    return f"{told}."


def labs(count: int) -> str:
    """So many labs."""
    return f"{count:,} lab{'' if count == 1 else 's'}"


def _left_alone(plan: Plan) -> Iterator[str]:
    """What is protected, and who is skipped, by reason; the first ones by name."""
    protected: dict[str, list[str]] = defaultdict(list)
    for row in plan.rows:
        if row.protected is not None:
            protected[row.protected].append(row.row.user_id)
    for code, users in protected.items():
        yield f"Protected, {_PROTECTED.get(code, code)}: {_names(users)}."
    skipped: dict[str, list[str]] = defaultdict(list)
    for skip in plan.skipped:
        skipped[skip.reason].append(skip.user_id or f"lab instance {skip.instance_id}")
    for reason, users in skipped.items():
        yield f"Skipped, {SKIPPED.get(reason, reason)}: {_names(users)}."


def _names(users: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(users))
    more = len(distinct) - NAMED
    told = ", ".join(distinct[:NAMED])
    return f"{told} and {more:,} more" if more > 0 else told


def _heads(plan: Plan) -> tuple[str, ...]:
    return _HEADS if plan.policy.launch else tuple(h for h in _HEADS if h != "launched")


def _shown(plan: Plan, *, whole: bool) -> Iterator[tuple[str, ...]]:
    """The cells of each row that is shown."""
    hidden = 0 if whole else len(plan.rows) - FIRST - LAST
    if hidden <= 1:
        yield from (_cells(plan, row) for row in plan.rows)
        return
    yield from (_cells(plan, row) for row in plan.rows[:FIRST])
    yield (f"... {hidden:,} more", *[""] * (len(_heads(plan)) - 1))
    yield from (_cells(plan, row) for row in plan.rows[-LAST:])


def _cells(plan: Plan, row: PlannedRow) -> tuple[str, ...]:
    lab = row.row.lab_profile_id
    ended = ", ".join(
        str(entry.instance_id)
        if entry.lab_profile_id == lab
        else f"{entry.instance_id} ({_lab(plan, entry.lab_profile_id)})"
        for entry in row.would_end
    )
    if row.certainty == "if_needed":
        ended = f"if it must: {ended}"
    if row.certainty == "unknown":
        ended = "whatever must"
    left_alone = "" if row.protected is None else _PROTECTED.get(row.protected, row.protected)
    cells = [row.row.user_id, _lab(plan, lab), ended, left_alone]
    if plan.policy.launch:
        cells.append(row.launches)
    return (*cells, row.note or "")


def _lab(plan: Plan, lab_profile_id: int | None) -> str:
    if lab_profile_id is None:
        return "lab unknown"
    return " ".join(filter(None, (str(lab_profile_id), plan.lab_names.get(lab_profile_id))))
