"""Options that several commands share, and how option texts become values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orchestrator.cli.durations import per_minute_of, seconds_of
from orchestrator.durable.batches import OnError

#: Base of what the argument parser raises. Some versions of typer bring their own copy of click, so
#: the class is taken from typer's public one rather than imported.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A settings file (TOML).", exists=True, dir_okay=False),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where relaunches are kept: auto, none, a path, sqlite:///PATH or postgresql://...",
    ),
]
RelaunchArgument = Annotated[str, typer.Argument(metavar="ID", help="The relaunch's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DeadlineOption = Annotated[
    float | None, typer.Option("--deadline", metavar="S", help="End by then (seconds).")
]
BatchArgument = Annotated[str, typer.Argument(metavar="ID", help="The batch's id.")]
ReportOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="A report: .csv, .json or .html. Repeatable.",
    ),
]
_PACE = "How fast, and when it stops"
ConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        "--concurrency", metavar="N", help="So many learners at a time.", rich_help_panel=_PACE
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="N",
        help="Learners begun a minute at most: 30, 30/min, 2/s.",
        rich_help_panel=_PACE,
    ),
]
BatchWaitOption = Annotated[
    str | None,
    typer.Option(
        "--batch-wait",
        metavar="TIME",
        help="Stop after that, with what is in flight left as it stands: 90s, 30m, 2h.",
        rich_help_panel=_PACE,
    ),
]
OnErrorOption = Annotated[
    Literal["continue", "stop"] | None,
    typer.Option("--on-error", help="When a learner's relaunch fails.", rich_help_panel=_PACE),
]


def pace_given(
    concurrency: int | None, rate: str | None, batch_wait: str | None, on_error: OnError | None
) -> dict[str, Any]:
    """What was given of a batch's pace, by the names of its fields."""
    given = {
        "concurrency": concurrency,
        "per_minute": None if rate is None else per_minute_of("--rate", rate),
        "wait_seconds": None if batch_wait is None else seconds_of("--batch-wait", batch_wait),
        "on_error": on_error,
    }
    return {name: value for name, value in given.items() if value is not None}


def variables(texts: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--variable: {text!r} is not NAME=VALUE.")
        found[name] = value
    return found
