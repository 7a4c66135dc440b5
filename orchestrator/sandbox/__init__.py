"""A faithful emulator of the Skillable Lab API, for demos and for tests (yours included).

``Sandbox`` is the emulator without any I/O, ``SandboxTransport`` puts it behind an httpx client,
and ``orchestrator.sandbox.server.SandboxServer`` on a port (that one needs the extra ``cli``). It
shares no code with the client or the orchestrator: no misreading can hide on both sides.
"""

from orchestrator.sandbox.api import Reply, Sandbox
from orchestrator.sandbox.faults import FAULTS, Fault, parse_faults
from orchestrator.sandbox.ledger import Effect, Ledger
from orchestrator.sandbox.readings import Readings
from orchestrator.sandbox.shapes import SANDBOX_PASSWORD
from orchestrator.sandbox.teardown import Bimodal, Fixed, LogNormal, Never, parse_teardown
from orchestrator.sandbox.transport import SandboxTransport
from orchestrator.sandbox.webhooks import Webhook
from orchestrator.sandbox.world import Consumer, Instance, Profile, World

__all__ = [
    "FAULTS",
    "SANDBOX_PASSWORD",
    "Bimodal",
    "Consumer",
    "Effect",
    "Fault",
    "Fixed",
    "Instance",
    "Ledger",
    "LogNormal",
    "Never",
    "Profile",
    "Readings",
    "Reply",
    "Sandbox",
    "SandboxTransport",
    "Webhook",
    "World",
    "parse_faults",
    "parse_teardown",
]
