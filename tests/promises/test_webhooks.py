"""Webhooks from end to end: a real sandbox sends them, a real server takes them, a hint wakes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from orchestrator import Relauncher, Schedules
from orchestrator.sandbox import Sandbox, Webhook
from orchestrator.sandbox.server import SandboxServer
from orchestrator.skillable import SkillableClient, SkillablePlatform, parse_webhook
from orchestrator.waiting import FixedSchedule


@contextmanager
def listening(take: Callable[[str, bytes], object]) -> Iterator[str]:
    """An operator's web server that hands each webhook over."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            take(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hooks/torn-down"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "shape",
    [
        {"url": ""},
        {"url": "/{id}", "with_body": False},
        {"url": "", "with_body": False, "appended_query": True},
    ],
    ids=["body", "path", "query"],
)
def test_a_webhook_in_each_shape_ends_the_wait(shape: dict[str, Any]) -> None:
    sandbox = Sandbox(teardown="fixed:0.4")
    taken: list[int] = []
    relauncher: Relauncher

    def take(url: str, body: bytes) -> None:
        taken.append(parse_webhook(url, body).lab_instance_id)
        relauncher.hint(taken[-1])

    with listening(take) as place:
        hook = Webhook(event="Torn Down", **(shape | {"url": place + shape["url"]}))
        with SandboxServer(sandbox, webhooks=[hook]) as server:
            old = sandbox.world.give("ann", 1001)
            with SkillableClient("sandbox-key", base_url=server.base_url) as client:
                # Without the webhook, the first look would come after ten minutes.
                relauncher = Relauncher(
                    SkillablePlatform(client), schedules=Schedules(teardown=FixedSchedule(600))
                )
                outcome = relauncher.relaunch("ann", 1002)
    assert outcome.outcome == "launched"
    assert outcome.cancelled_instance_ids == (old.instance_id,)
    assert taken[0] == old.instance_id
    assert outcome.waited_seconds < 15
    assert [e.phase for e in outcome.events].count("looking") == 0
