"""``relaunch demo``: a whole relaunch against the built-in sandbox, over real HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orchestrator.cli import relaunch as command
from orchestrator.cli.connect import settings_for
from orchestrator.cli.display import time_line
from orchestrator.cli.exits import exit_code

_USER, _LAB = "ada", 1001


def demo(
    teardown: Annotated[
        float, typer.Option(metavar="S", min=0.0, max=600.0, help="The teardown's length.")
    ] = 8.0,
) -> int:
    """Watch a lab being relaunched: sandbox, teardown and all, on this machine only."""
    from orchestrator.sandbox import Sandbox
    from orchestrator.sandbox.server import SandboxServer

    sandbox = Sandbox(teardown=f"fixed:{teardown}")
    with SandboxServer(sandbox) as server:
        old = sandbox.world.give(_USER, _LAB)
        print(f"Sandbox at {server.base_url}; one active lab per learner.")
        print(f"Learner {_USER} has lab instance {old.instance_id} of lab {_LAB} running.")
        print(f"Relaunching it; its teardown takes {teardown:g} s.", flush=True)
        flags = {
            "platform.base_url": server.base_url,
            "platform.api_key": "sandbox-key",
            "knowledge.file": "none",
            "store.url": "none",
        }
        outcome, _ = asyncio.run(
            command.relaunch(settings_for(None, flags), _USER, _LAB, {}, teardown_seconds=teardown)
        )
        print("\nWhat happened:")
        print(time_line(outcome))
        most = sandbox.ledger.max_alive(_USER)
        print(f"\n{outcome.message}")
        print(f"Never more than {most} lab alive at once; {outcome.api_calls} API calls.")
        print(f"New lab: {outcome.url}")
    return exit_code(outcome.outcome, outcome.reason)
