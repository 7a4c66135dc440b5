"""The typer application: its commands, and what becomes of errors before a command runs.

Expected errors are one plain sentence on stderr and an exit code from the table; with ``--json``
they are a JSON object on stdout as well, so that a script never has to parse prose.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli import (
    batches,
    cancel,
    config,
    demo,
    doctor,
    exits,
    key,
    labs,
    relaunch,
    reset,
    runs,
    sandbox,
    serve,
    teardowns,
    token,
    webhook_setup,
    worker,
)
from orchestrator.cli.failures import no_relaunch
from orchestrator.cli.options import UsageProblem
from orchestrator.errors import RelaunchError, StoreUnavailable

app = typer.Typer(
    name="relaunch",
    help="Relaunch a learner's hands-on lab: end the old one, wait, launch again. Once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run", epilog=exits.exits_help())(relaunch.run)
app.command("demo")(demo.demo)
app.command("reset", epilog=exits.exits_help(exits.BATCH_EXITS))(reset.reset)
app.command("batches")(batches.batches)
app.add_typer(batches.app, name="batch")
app.command("labs")(labs.labs)
app.command("cancel", epilog=exits.exits_help())(cancel.cancel)
app.add_typer(runs.app, name="runs")
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("doctor")(doctor.doctor)
app.add_typer(teardowns.app, name="teardowns")
app.command("sandbox")(sandbox.sandbox)
app.command("key")(key.key)
app.command("token")(token.token)
app.command("webhook-setup")(webhook_setup.webhook_setup)
app.command("config")(config.config)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("lab-relaunch"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """See the help text of the application."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    wants_json = "--json" in arguments
    try:
        code = app(args=list(arguments), standalone_mode=False, prog_name="relaunch")
    except typer.Exit as leave:
        return leave.exit_code
    except (typer.Abort, KeyboardInterrupt, asyncio.CancelledError):
        print("Interrupted.", file=sys.stderr)
        return exits.INTERRUPTED
    except UsageProblem as error:
        return _told("usage", error.format_message(), wants_json)  # type: ignore[attr-defined]  # see UsageProblem
    except RelaunchError as error:
        return _told(error.code, str(error), wants_json)
    return code if isinstance(code, int) else 0


def _told(reason: str, message: str, wants_json: bool) -> int:
    # Called without a command, the parser's message is the whole help text.
    prefix = "" if message.startswith("Usage:") else "relaunch: "
    print(f"{prefix}{message}", file=sys.stderr)
    if wants_json:
        print(json.dumps(no_relaunch("failed", reason, message)))
    return exits.FAILED if reason == StoreUnavailable.code else exits.USAGE
