"""Many learners who press at once: the platform and the service in processes, real streams."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orchestrator.service.access.callers import Scope
from orchestrator.service.access.learner_tokens import minted
from orchestrator.service.access.service_keys import new_key
from tests.service.crowd_platform import NEW, learner

SECRET = "a secret of thirty-two characters, or of more than that"
HOOK = "what-the-platform-brings"
KEY, _KEPT = new_key("watch", [Scope.READ])
#: Seconds for one learner to get the lab, from the press to the end of the stream.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The service and the platform, as they run."""

    url: str
    platform_url: str
    process: subprocess.Popen[str]

    def ledger(self) -> dict[str, Any]:
        """What really happened on the platform."""
        origin = self.platform_url.removesuffix("/api/v3")
        found: dict[str, Any] = httpx.get(f"{origin}/_sandbox/ledger", timeout=30).json()
        return found

    def get(self, path: str) -> httpx.Response:
        """Ask the service, with a service key."""
        return httpx.get(
            f"{self.url}{path}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
        )

    def most_memory(self) -> int:
        """The bytes that the service ever had."""
        return most_memory(self.process.pid)

    def cpu_seconds(self) -> float:
        """What the service has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True, kw_only=True)
class Pressed:
    """What one learner got."""

    user_id: str
    accepted: dict[str, Any]
    #: Name, id and data of each event.
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def crowd(folder: Path, learners: int, *, teardown: str, look: float) -> Iterator[Crowd]:
    """A platform on which that many learners have a lab, and a service before it."""
    with _child(
        ["tests.service.crowd_platform", str(learners), teardown], _environment()
    ) as platform:
        assert platform.stdin is not None
        platform_url = _said(platform, "http")
        env = _environment() | {
            "SKILLABLE_API_KEY": "sandbox-key",
            "SKILLABLE_BASE_URL": platform_url,
            "RELAUNCH_KNOWLEDGE__FILE": "none",
            "RELAUNCH_STORE__URL": str(folder / "relaunch.db"),
            "RELAUNCH_SCHEDULE__TEARDOWN": f"fixed:{look}",
            "RELAUNCH_SERVICE__KEYS": _KEPT.entry,
            "RELAUNCH_SERVICE__WEBHOOK_SECRETS": HOOK,
            "RELAUNCH_TOKENS__SECRET": SECRET,
        }
        with _child(["orchestrator.cli", "serve", "--port", "0"], env) as service:
            url = _said(service, "Service of").partition(" at ")[2].partition(";")[0]
            platform.stdin.write(f"{url}/webhooks/skillable/torn-down/ {HOOK}\n")
            platform.stdin.flush()
            yield Crowd(url=url, platform_url=platform_url, process=service)
            service.terminate()
            assert service.wait(20) == 0
        platform.stdin.close()


async def all_press(url: str, learners: int) -> list[Pressed]:
    """Every learner presses at the same moment, with a token and a connection of its own."""
    return await asyncio.gather(*(press(url, learner(n)) for n in range(learners)))


async def press(url: str, user_id: str, lab: int = NEW) -> Pressed:
    """One learner presses, and follows to the end."""
    token = minted(SECRET, algorithm="HS256", user_id=user_id, labs=[lab])
    async with httpx.AsyncClient(
        # No TLS here: without this each client would read the certificates of the world.
        transport=httpx.AsyncHTTPTransport(verify=_no_tls()),
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE,
    ) as client:
        began = time.monotonic()
        answer = await client.post("/relaunches", json={"lab_profile_id": lab})
        assert answer.status_code == 202, answer.text
        got = Pressed(user_id=user_id, accepted=answer.json())
        async with client.stream("GET", f"{answer.headers['Location']}/events") as stream:
            assert stream.status_code == 200
            async for event in _events(stream):
                got.events.append(event)
        got.seconds = time.monotonic() - began
        return got


async def _events(stream: httpx.Response) -> AsyncIterator[tuple[str, int, dict[str, Any]]]:
    fields: dict[str, str] = {}
    async for line in stream.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], int(fields["id"]), json.loads(fields["data"])
            fields = {}


def _no_tls() -> Any:
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("RELAUNCH_", "SKILLABLE_"))}


@contextmanager
def _child(arguments: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(process: subprocess.Popen[str], mark: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(mark):
            return line.strip()
    raise AssertionError("it ended without a word")


def most_memory(pid: int) -> int:
    """The bytes that a process ever had; what the system tells at its end is its parent's too."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("it has none")
