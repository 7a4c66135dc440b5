"""Everything a learner's browser meets: the sandbox, the service, an LMS with the button in it.

Each on a port of its own, so that the page and the service are of different origins. Teardowns end
when a test says so, or at once.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from fastapi import FastAPI

from orchestrator import AsyncRelauncher, Schedules
from orchestrator.durable import SQLiteRunStore
from orchestrator.sandbox import Sandbox
from orchestrator.sandbox.server import SandboxServer
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.learner_tokens import LearnerTokens
from orchestrator.service.app import create_app
from orchestrator.service.demo.routes import demo_router
from orchestrator.service.parts import ServiceOptions, ServiceParts
from orchestrator.service.server import ServiceServer
from orchestrator.skillable import AsyncSkillableClient, AsyncSkillablePlatform
from orchestrator.waiting import FixedSchedule
from tests.service.signing import SECRET, claims, signed

LEARNER = "ada"

_PAGE = """<!doctype html>
<html lang="en" {html}>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>A course</title>
<link rel="icon" href="data:,">
<style>:root {{ color-scheme: light dark; background: light-dark(#fff, #12171d);
  color: light-dark(#111, #eee) }}</style>
<script type="module" src="{service}/button/relaunch-button.js" crossorigin></script>
<main><h1>A course</h1>
<relaunch-button lab="{lab}" {attributes}></relaunch-button></main>
</html>"""


def token(learner: str = LEARNER, **changed: Any) -> str:
    """A learner token, with changed claims."""
    return signed(claims(sub=learner, jti=str(time.monotonic_ns()), **changed))


class School:
    """See the module's docstring; a context manager."""

    def __init__(self, folder: Path, *, teardown: str = "never") -> None:
        self.sandbox = Sandbox(teardown=teardown)
        self._platform = SandboxServer(self.sandbox)
        self._store = folder / "relaunch.db"
        self._lms = _Lms()
        self.service: ServiceServer | None = None
        #: What the LMS's token URL gives, in this order; the last one again and again.
        self.tokens: list[Callable[[], str]] = [token]
        self.tokens_given = 0

    def __enter__(self) -> Self:
        self._platform.__enter__()
        self._lms.pages["/token"] = self._token
        self._lms.__enter__()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._lms.__exit__()
        self._platform.__exit__()

    def start(self, port: int = 0) -> None:
        """Start the service."""
        self.service = ServiceServer(self._make, port=port)
        self.service.__enter__()

    def stop(self) -> int:
        """Stop the service; its port, to start it again."""
        assert self.service is not None
        self.service.__exit__()
        return int(self.url.rpartition(":")[2])

    @property
    def url(self) -> str:
        """Where the service is."""
        assert self.service is not None
        return self.service.base_url

    @property
    def demo(self) -> str:
        """Where the demo's course page is."""
        return f"{self.url}/demo"

    def course(
        self, attributes: str = 'token-url="/token"', *, lab: int = 1001, html: str = ""
    ) -> str:
        """A page of the LMS with the button on it."""
        content = _PAGE.format(service=self.url, attributes=attributes, lab=lab, html=html)
        return self.page("/course", content)

    def page(self, path: str, content: str) -> str:
        """Any page of the LMS."""
        self._lms.pages[path] = lambda: ("text/html; charset=utf-8", content)
        return self._lms.origin + path

    @property
    def elsewhere(self) -> str:
        """The LMS's origin by another name: another site to a browser."""
        return self._lms.origin.replace("127.0.0.1", "localhost")

    def give(self, profile: int = 1001, learner: str = LEARNER) -> int:
        """Let the learner have a lab."""
        with self.sandbox.lock:
            return self.sandbox.world.give(learner, profile).instance_id

    def finish_teardowns(self) -> None:
        """Whatever is tearing down is gone now."""
        with self.sandbox.lock:
            for instance in self.sandbox.world.instances.values():
                if instance.state == "Tearing Down":
                    instance.changes_at = self.sandbox.world.now()
            self.sandbox.world.settle()

    def end(self, instance_id: int) -> None:
        """The learner ends a lab in its window."""
        with self.sandbox.lock:
            self.sandbox.world.tear_down(self.sandbox.world.instances[instance_id], "finished")
        self.finish_teardowns()

    @property
    def launched(self) -> list[int]:
        """The labs that launches have created."""
        return self.sandbox.ledger.launches()

    @property
    def cancelled(self) -> list[int]:
        """The labs that cancels have ended."""
        return self.sandbox.ledger.cancels()

    def _token(self) -> tuple[str, str]:
        self.tokens_given += 1
        make = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        return "application/json", json.dumps({"token": make()})

    @contextlib.asynccontextmanager
    async def _make(self, origin: str) -> AsyncIterator[tuple[FastAPI, ServiceParts]]:
        store = SQLiteRunStore(self._store)
        async with AsyncSkillableClient("sandbox-key", base_url=self._platform.base_url) as client:
            platform = AsyncSkillablePlatform(client)
            async with AsyncRelauncher(
                platform, store=store, schedules=Schedules(teardown=FixedSchedule(0.2))
            ) as relauncher:
                parts = ServiceParts(
                    relauncher=relauncher,
                    platform=platform,
                    store=store,
                    authority=Authority(tokens=LearnerTokens(secret=SECRET, leeway_seconds=0)),
                    options=ServiceOptions(
                        public_url=origin,
                        allowed_origins=(self._lms.origin, self.elsewhere),
                    ),
                )
                yield create_app(parts, extra_routers=[self._demo()]), parts
        await store.close()

    def _demo(self) -> Any:
        return demo_router(mint=token, platform_view=self._view)

    def _view(self, learner: str) -> dict[str, Any]:
        with self.sandbox.lock:
            self.sandbox.world.settle()
            rows = [
                {
                    "lab_instance_id": i.instance_id,
                    "lab_profile_name": i.profile.name,
                    "state": i.state,
                    "started_at": i.started_at,
                    "ended_at": i.ended_at,
                }
                for i in self.sandbox.world.of_user(learner)
            ]
        return {"now": self.sandbox.world.now(), "instances": rows}


class _Lms:
    """The LMS's own server: pages by path."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[], tuple[str, str]]] = {}
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                made = pages.get(self.path.partition("?")[0])
                media_type, content = made() if made else ("text/plain", "")
                self.send_response(200 if made else 404)
                self.send_header("Content-Type", media_type)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content.encode())

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join(timeout=5)
        self._server.server_close()
