"""The sandbox straight behind an httpx client: no socket, no thread, any clock.

A broken connection becomes ``httpx.ReadError``, a hanging or late one ``httpx.ReadTimeout`` when
the request's own time-out would have passed; time passes by the injected ``pass_time``.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

import httpx

from orchestrator.sandbox.api import Sandbox


class SandboxTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """For ``httpx.Client(transport=...)`` and ``httpx.AsyncClient(transport=...)`` alike."""

    def __init__(
        self, sandbox: Sandbox, pass_time: Callable[[float], object] = lambda seconds: None
    ) -> None:
        self.sandbox = sandbox
        self._pass_time = pass_time

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or raise what a real network would."""
        query = parse_qsl(request.url.query.decode(), keep_blank_values=True)
        reply = self.sandbox.handle(
            request.method, request.url.path, query, dict(request.headers.items())
        )
        patience = (request.extensions.get("timeout") or {}).get("read") or 3600.0
        if reply.connection == "hang" or reply.delay > patience:
            self._pass_time(patience)
            raise httpx.ReadTimeout("no answer in time", request=request)
        self._pass_time(reply.delay)
        if reply.connection == "break":
            raise httpx.ReadError("the connection broke", request=request)
        return httpx.Response(
            reply.status, headers=dict(reply.headers), content=reply.body, request=request
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The same for the async client."""
        return self.handle_request(request)
