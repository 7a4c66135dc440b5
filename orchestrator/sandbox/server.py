"""The sandbox on a real port, under uvicorn: in a thread for tests and demos, or as a program."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterable
from typing import Self

import uvicorn

from orchestrator.sandbox.api import Sandbox
from orchestrator.sandbox.app import BreakableProtocol, create_app
from orchestrator.sandbox.webhooks import Sender, Webhook

#: How often (seconds) the world is brought up to now when nobody asks, so that webhooks go out.
_TICK = 0.05


class SandboxServer:
    """A running sandbox; a context manager. ``base_url`` is what a client is to be given."""

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        webhooks: Iterable[Webhook] = (),
    ) -> None:
        self.sandbox = sandbox
        self.webhooks = list(webhooks)
        self._socket = _listen(host, port)
        self._origin = f"http://{host}:{self._socket.getsockname()[1]}"
        sandbox.base_url = self._origin
        self._server = uvicorn.Server(_config(sandbox))
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._started = threading.Event()
        self._sender: Sender | None = None

    @property
    def base_url(self) -> str:
        """The base URL of the emulated API."""
        return f"{self._origin}/api/v3"

    def __enter__(self) -> Self:
        if self.webhooks:
            self._sender = Sender(self.sandbox, self.webhooks)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the sandbox did not start within 10 s")
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(timeout=5)
        if self._sender is not None:
            self._sender.close()
        self._socket.close()

    def serve_forever(self) -> None:
        """Serve in this thread until interrupted."""
        if self.webhooks:
            self._sender = Sender(self.sandbox, self.webhooks)
        try:
            asyncio.run(self._main())
        finally:
            if self._sender is not None:
                self._sender.close()
            self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        ticking = asyncio.create_task(self._tick())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            ticking.cancel()

    async def _tick(self) -> None:
        while True:
            if self._server.started:
                self._started.set()
            with self.sandbox.lock:
                self.sandbox.world.settle()
            await asyncio.sleep(_TICK)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends at once (TCP_NODELAY) only where it is: an answer is head and body.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


def _config(sandbox: Sandbox) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(sandbox),
        http=BreakableProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
