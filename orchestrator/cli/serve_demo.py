"""What ``relaunch serve --demo`` serves: the sandbox in place of the platform, and the course page.

Whoever can reach it can be any of its made-up learners; nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from fastapi import APIRouter

from orchestrator.cli.connect import settings_for
from orchestrator.cli.settings import Loaded
from orchestrator.sandbox import Sandbox, Webhook
from orchestrator.sandbox.server import SandboxServer
from orchestrator.service.access.learner_tokens import minted
from orchestrator.service.demo.routes import demo_router
from orchestrator.service.server import origin_of

#: The learners of the page; each has a lab at the beginning.
LEARNERS = ("ada", "grace", "linus")
#: The labs that the demo's learners may launch.
LABS = (1001, 1002)
_TOKEN_SECONDS = 600.0
_STARTUP_SECONDS = 3.0


@contextlib.contextmanager
def demo(
    listening: socket.socket, config: Path | None, flags: Mapping[str, Any], *, teardown: str
) -> Iterator[tuple[Loaded, APIRouter]]:
    """The settings of a service over a sandbox of its own, and the demo's routes."""
    signing, hook = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    try:
        sandbox = Sandbox(teardown=teardown, startup_seconds=_STARTUP_SECONDS)
    except ValueError as error:
        raise typer.BadParameter(f"--teardown: {error}") from None
    for learner in LEARNERS:
        sandbox.world.give(learner, LABS[0])
    torn_down = Webhook(
        event="Torn Down",
        url=f"{origin_of(listening)}/webhooks/skillable/torn-down/{{id}}",
        headers={"Authorization": hook},
    )

    with (
        tempfile.TemporaryDirectory(prefix="relaunch-demo-") as folder,
        SandboxServer(sandbox, webhooks=[torn_down]) as server,
    ):
        settings = settings_for(
            config,
            {
                **flags,
                "platform.base_url": server.base_url,
                "platform.api_key": "sandbox-key",
                "knowledge.file": "none",
                "store.url": str(Path(folder) / "relaunch.db"),
                # Its page alone: whoever may ask for tokens here can be anybody.
                "service.allowed_origins": [],
                "service.webhook_secrets": [hook],
                "tokens.secret": signing,
            },
        )
        # What else the settings want of tokens may be what the real service wants.
        chosen = settings.settings.tokens

        def mint(learner: str) -> str:
            return minted(
                signing,
                user_id=learner,
                labs=list(LABS),
                seconds=min(_TOKEN_SECONDS, chosen.longest_seconds),
                audience=chosen.audience,
                issuer=chosen.issuer,
            )

        yield settings, demo_router(mint=mint, platform_view=lambda who: _view(sandbox, who))


def _view(sandbox: Sandbox, learner: str) -> dict[str, Any]:
    """What the platform itself would show of a learner."""
    with sandbox.lock:
        world = sandbox.world
        world.settle()
        theirs = [i for i in world.instances.values() if i.user_id == learner]
        return {
            "now": world.now(),
            "instances": [
                {
                    "lab_instance_id": i.instance_id,
                    "lab_profile_id": i.profile.profile_id,
                    "lab_profile_name": i.profile.name,
                    "state": i.state,
                    "started_at": i.started_at,
                    "ended_at": i.ended_at,
                }
                for i in theirs
            ],
        }
