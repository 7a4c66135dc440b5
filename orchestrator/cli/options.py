"""Options that several commands share, and how option texts become values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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


def variables(texts: list[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"--variable: {text!r} is not NAME=VALUE.")
        found[name] = value
    return found
