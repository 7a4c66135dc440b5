"""The sandbox as an ASGI application, and what uvicorn needs to break a connection for real.

Besides the emulated API there are ``GET /_sandbox/state`` and ``GET /_sandbox/ledger`` for demos
and tests, and the pages that the handed-out URLs lead to.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.sandbox import pages
from orchestrator.sandbox.api import Reply, Sandbox
from orchestrator.sandbox.world import Instance

#: Where a connection's transport is found in its ASGI scope.
_TRANSPORT = "orchestrator.sandbox.transport"


class BreakableProtocol(H11Protocol):
    """uvicorn's protocol with its transport in the scope: ASGI can't break a connection."""

    def connection_made(self, transport: Any) -> None:
        """Keep hold of the transport."""
        super().connection_made(transport)
        inner, mine = self.app, transport

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, _TRANSPORT: mine}, receive, send)

        self.app = app


def create_app(sandbox: Sandbox) -> Starlette:
    """The ASGI application of a sandbox."""
    entered: set[str] = set()

    async def api(request: Request) -> Response:
        query = parse_qsl(request.url.query, keep_blank_values=True)
        if request.method == "POST":
            query += parse_qsl((await request.body()).decode(), keep_blank_values=True)
        reply = sandbox.handle(
            request.method, request.url.path, query, dict(request.headers.items())
        )
        return await _carry_out(reply, request)

    async def state(request: Request) -> Response:
        with sandbox.lock:
            sandbox.world.settle()
            rows = [
                {
                    "instance_id": i.instance_id,
                    "user_id": i.user_id,
                    "lab_profile_id": i.profile.profile_id,
                    "lab_profile_name": i.profile.name,
                    "state": i.state,
                    "started_at": i.started_at,
                    "tag": i.tag,
                }
                for i in sandbox.world.instances.values()
            ]
        return JSONResponse({"now": sandbox.world.now(), "instances": rows})

    async def ledger(request: Request) -> Response:
        with sandbox.lock:
            effects = [dataclasses.asdict(e) for e in sandbox.ledger.effects]
            requests = [dataclasses.asdict(r) for r in sandbox.ledger.requests]
        return JSONResponse({"effects": effects, "requests": requests})

    async def page(request: Request) -> Response:
        path = request.url.path
        if path in entered and path.startswith("/access/"):
            return HTMLResponse(pages.USED, status_code=410)
        entered.add(path)
        if path.startswith("/active-labs/"):
            return HTMLResponse(pages.ACTIVE_LABS)
        instance = _instance(request)
        name = instance.profile.name if instance else "A lab of the sandbox"
        return HTMLResponse(pages.lab(name, instance.instance_id if instance else 0))

    async def lab_state(request: Request) -> Response:
        instance = _instance(request)
        return JSONResponse({"state": instance.state if instance else "Off"})

    async def lab_file(request: Request) -> Response:
        content, media_type = pages.FILES[request.url.path.rpartition("/")[2]]
        return Response(content, media_type=media_type)

    def _instance(request: Request) -> Instance | None:
        number = request.path_params["token"].partition("-")[0]
        with sandbox.lock:
            sandbox.world.settle()
            return sandbox.world.instances.get(int(number)) if number.isdecimal() else None

    routes = [
        Route("/_sandbox/state", state),
        Route("/_sandbox/ledger", ledger),
        Route("/_sandbox/lab/{token}", lab_state),
        *(Route(f"/_sandbox/{name}", lab_file, name=name) for name in pages.FILES),
        Route("/launch/{token}", page),
        Route("/access/{token}", page),
        Route("/active-labs/{token}", page),
        Route("/{path:path}", api, methods=["GET", "POST", "PUT", "DELETE"]),
    ]
    return Starlette(routes=routes)


async def _carry_out(reply: Reply, request: Request) -> Response:
    if reply.delay:
        await asyncio.sleep(reply.delay)
    if reply.connection == "hang":
        while (await request.receive())["type"] != "http.disconnect":
            pass
    if reply.connection != "answer":
        transport = request.scope.get(_TRANSPORT)
        if transport is not None:
            transport.abort()
        return Response(status_code=500)
    return Response(reply.body, reply.status, dict(reply.headers))
