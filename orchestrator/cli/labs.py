"""``relaunch labs``: what the platform says a learner has."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any

import typer

from orchestrator.cli.connect import client_of, settings_for
from orchestrator.cli.exits import exit_code
from orchestrator.cli.options import ConfigOption, JsonOption
from orchestrator.cli.settings import Loaded
from orchestrator.errors import PlatformError
from orchestrator.labs import Labs
from orchestrator.plain import to_plain


def labs(
    user: Annotated[str, typer.Option(help="The learner's id, as your systems know it.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show what the platform says a learner has, running and saved."""
    try:
        found = asyncio.run(_ask(settings_for(config), user))
    except PlatformError as error:
        typer.echo(f"relaunch: {error}", err=True)
        if as_json:
            print(json.dumps({"user_id": user, "reason": error.code, "message": str(error)}))
        return exit_code("failed", error.code)
    if as_json:
        print(json.dumps({"user_id": user, **to_plain(found)}))
    else:
        _show(user, found)
    return 0


async def _ask(loaded: Loaded, user: str) -> Labs:
    async with client_of(loaded) as client:
        return await client.user_running_and_saved_labs(user)


def _show(user: str, found: Labs) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found.running and not found.saved:
        print(f"User {user} has no labs, running or saved.")
        return
    table = Table("state", "lab instance", "lab", "name", "since", "notes")
    for running in found.running:
        notes = "exam" if running.is_exam else ""
        table.add_row(*_row("running", running, running.started_at), notes)
    for saved in found.saved:
        flags = {
            "exam": saved.is_exam,
            "submitted for grading": saved.submitted_for_grading,
            "being saved": saved.save_in_progress,
        }
        notes = ", ".join(name for name, holds in flags.items() if holds)
        table.add_row(*_row("saved", saved, saved.saved_at), notes)
    Console().print(table)


def _row(state: str, lab: Any, since: float | None) -> tuple[str, ...]:
    when = "" if since is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(since))
    name = lab.lab_profile_name or ""
    return (state, str(lab.instance_id), str(lab.lab_profile_id or ""), name, when)
