"""``relaunch teardowns``: what was learned of the teardowns, and what other schedules had cost."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.connect import knowledge_file_of, schedules_of, settings_for
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.errors import ConfigurationError
from orchestrator.waiting import Knowledge, Row
from orchestrator.waiting.named import named_schedule
from orchestrator.waiting.replay import Replayed, moments, replay

app = typer.Typer(
    help="What was learned of the teardowns.", invoke_without_command=True, rich_markup_mode=None
)

LabOption = Annotated[
    str | None, typer.Option("--lab", metavar="ID", help="This lab profile only.")
]


@app.callback()
def teardowns(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    lab: LabOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw one lab's teardowns and the next wait's looks."),
    ] = None,
) -> int:
    """Show how long teardowns take, lab by lab, and what the waits have cost."""
    if context.invoked_subcommand is not None:
        return 0
    knowledge, where = _known(config)
    rows = _chosen(knowledge, lab)
    if plot is not None:
        _draw(knowledge, rows, plot)
    if as_json:
        print(json.dumps({"file": where, "teardowns": [_plain(row) for row in rows]}))
    elif rows:
        _show(rows)
    else:
        print(f"Nothing is known yet ({where}): no relaunch has waited for a teardown.")
    return 0


@app.command("simulate")
def simulate(
    schedule: Annotated[
        list[str],
        typer.Option(
            help="learned, square_root, fixed:SECONDS or exponential:LONGEST; repeatable."
        ),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    lab: LabOption = None,
    cost_per_look: Annotated[
        float | None, typer.Option(min=0.01, help="One call is worth so many seconds of waiting.")
    ] = None,
) -> int:
    """Replay the recorded teardowns under other schedules: what would they have cost?"""
    knowledge, where = _known(config)
    cost = knowledge.cost_per_look if cost_per_look is None else cost_per_look
    found: list[tuple[str, str, Replayed]] = []
    for row in _chosen(knowledge, lab):
        times = moments(knowledge.history(row.name), knowledge.learned(row.name).law)
        for name in schedule:
            other = named_schedule(name, cost_per_look=cost, deadline=knowledge.deadline)
            done = replay(times, other, cost_per_look=cost, deadline=knowledge.deadline)
            found.append((row.name, name, done))
    if as_json:
        told = [{"lab": lab, "schedule": name, **asdict(done)} for lab, name, done in found]
        print(json.dumps({"file": where, "cost_per_look": cost, "replayed": told}))
    elif found:
        _table(
            ("lab", "schedule", "waits", "looks", "idle s", f"cost s (a look is {cost:g} s)"),
            [
                (lab, name, str(d.waits), f"{d.looks:.1f}", f"{d.idle:.1f}", f"{d.cost:.1f}")
                for lab, name, d in found
            ],
        )
    else:
        print(f"Nothing is known yet ({where}): there is nothing to replay.")
    return 0


def _known(config: Path | None) -> tuple[Knowledge, str]:
    loaded = settings_for(config)
    file = knowledge_file_of(loaded)
    if file is None:
        raise ConfigurationError(
            "knowledge.file: it is set to none, so nothing is kept; nothing was read."
        )
    return schedules_of(loaded, file).knowledge, str(file.path)


def _chosen(knowledge: Knowledge, lab: str | None) -> list[Row]:
    rows = list(knowledge.rows())
    if lab is None:
        return rows
    chosen = [row for row in rows if row.name.split()[0] == lab]
    if not chosen:
        raise ConfigurationError(f"--lab: nothing is known of lab {lab}; nothing was changed.")
    return chosen


def _draw(knowledge: Knowledge, rows: list[Row], file: Path) -> None:
    from orchestrator.cli.picture import draw

    if not rows:
        raise ConfigurationError("--plot: nothing is known yet, so there is nothing to draw.")
    name = rows[0].name
    draw(name, knowledge.learned(name), knowledge.history(name), file)


def _plain(row: Row) -> dict[str, Any]:
    p50, p90 = (None if p == math.inf else p for p in (row.typical.p50, row.typical.p90))
    return {
        "lab": row.name,
        "kind": row.kind,
        "observations": row.typical.observations,
        "p50_seconds": p50,
        "p90_seconds": p90,
        "looks_per_relaunch": row.looks,
        "idle_seconds": row.idle,
        "announced": row.announced,
    }


def _show(rows: list[Row]) -> None:
    _table(
        ("lab", "kind", "observed", "p50 s", "p90 s", "looks", "idle s", "webhook"),
        [
            (
                row.name,
                row.kind or "",
                str(row.typical.observations),
                _seconds(row.typical.p50),
                _seconds(row.typical.p90),
                f"{row.looks:.1f}",
                f"{row.idle:.1f}",
                f"{row.announced:.0%}",
            )
            for row in rows
        ],
    )


def _seconds(value: float) -> str:
    return "never" if value == math.inf else f"{value:.1f}"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
