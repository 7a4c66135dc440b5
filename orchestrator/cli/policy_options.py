"""What a relaunch may do, as options of the command line: the same for one and for many."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

#: The panel of ``--help`` that they stand in.
POLICY = "What may be done"

IfRunningOption = Annotated[
    Literal["replace", "reuse", "refuse"] | None,
    typer.Option(help="When this lab is running already.", rich_help_panel=POLICY),
]
OverlapOption = Annotated[
    bool | None,
    typer.Option(
        "--overlap/--no-overlap", help="New lab first, then end the old.", rich_help_panel=POLICY
    ),
]
AllowExamOption = Annotated[
    bool | None,
    typer.Option(
        "--allow-exam/--no-allow-exam", help="Leave to end exams.", rich_help_panel=POLICY
    ),
]
ProbeOption = Annotated[
    bool | None,
    typer.Option(
        "--probe/--no-probe", help="Try the launch before any harm.", rich_help_panel=POLICY
    ),
]
OnSavedOption = Annotated[
    Literal["refuse", "resume", "delete"] | None,
    typer.Option(help="When a saved copy is in the way.", rich_help_panel=POLICY),
]
DetectOption = Annotated[
    Literal["details", "listing", "launch"] | None,
    typer.Option(help="What a look during the teardown is.", rich_help_panel=POLICY),
]
