"""A service in a process of its own, whose relaunches wait, and the streams that follow them.

``python -m tests.benchmarks.service.streaming KIND RELAUNCHES``: tells a key and its port, and then
answers each line of standard input: ``used`` with bytes of memory and seconds of CPU, ``end`` by
aborting every relaunch. ``KIND`` is one of :data:`.kinds.KINDS`: ours, whole, with its door and
boundary; a bare application of FastAPI over the same relaunches, with FastAPI's own events or with
sse-starlette's; and ``floor``, which begins an answer and waits: what uvicorn alone needs.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from orchestrator import AsyncRelauncher, Policy, Schedules
from orchestrator.durable import SQLiteRunStore
from orchestrator.plain import to_plain
from orchestrator.service.access.authority import Authority
from orchestrator.service.access.callers import Scope as Right
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.access.service_keys import ServiceKeys, new_key
from orchestrator.service.app import create_app
from orchestrator.service.parts import ServiceParts
from orchestrator.service.server import ImpatientProtocol, listen
from orchestrator.testing import Async
from orchestrator.waiting import FixedSchedule
from tests.benchmarks.durability.platform import NEW, Platform
from tests.benchmarks.durability.usage import memory

MANY = 1_000_000


def _floor(relauncher: AsyncRelauncher) -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        handle = await relauncher.attach(scope["path"].split("/")[2])
        await handle.result()
        await send({"type": "http.response.body", "body": b"event: outcome\n\n"})

    return app


def _fastapi(relauncher: AsyncRelauncher) -> FastAPI:
    app = FastAPI()

    @app.get("/relaunches/{relaunch_id}/events", response_class=EventSourceResponse)
    async def events(relaunch_id: str) -> AsyncIterator[ServerSentEvent]:
        handle = await relauncher.attach(relaunch_id)
        async for progress in handle.events():
            data = to_plain(progress)
            yield ServerSentEvent(data=data, event="progress", id=str(progress.sequence))
        yield ServerSentEvent(data=relaunch_id, event="outcome")

    return app


def _sse_starlette(relauncher: AsyncRelauncher) -> FastAPI:
    # By its name: it is not among what the tests need, so mypy may not find it.
    peer: Any = importlib.import_module("sse_starlette")
    app = FastAPI()

    async def told(relaunch_id: str) -> AsyncIterator[dict[str, Any]]:
        handle = await relauncher.attach(relaunch_id)
        async for progress in handle.events():
            data = json.dumps(to_plain(progress))
            yield {"data": data, "event": "progress", "id": str(progress.sequence)}
        yield {"data": relaunch_id, "event": "outcome"}

    async def events(relaunch_id: str) -> Any:
        return peer.EventSourceResponse(told(relaunch_id), ping=15)

    path = "/relaunches/{relaunch_id}/events"
    app.add_api_route(path, events, response_class=peer.EventSourceResponse)
    return app


def _ours(relauncher: AsyncRelauncher, platform: Platform, store: SQLiteRunStore) -> Any:
    key, kept = new_key("benchmark", [Right.READ])
    print(key, flush=True)
    return create_app(
        ServiceParts(
            relauncher=relauncher,
            platform=Async(platform),
            store=store,
            authority=Authority(keys=ServiceKeys([kept.entry])),
            limits=CallerLimits(key_requests_per_minute=MANY, most_streams=MANY),
        )
    )


OTHERS: dict[str, Callable[[AsyncRelauncher], Any]] = {
    "floor": _floor,
    "fastapi": _fastapi,
    "sse-starlette": _sse_starlette,
}


async def serve(kind: str, relaunches: int, folder: Path) -> None:
    """See the module's docstring."""
    platform = Platform(teardown_seconds=float("inf"))
    store = SQLiteRunStore(folder / "relaunches.db")
    relauncher = AsyncRelauncher(
        Async(platform),
        store=store,
        policy=Policy(deadline_seconds=86_400),
        schedules=Schedules(teardown=FixedSchedule(3600.0)),
    )
    async with relauncher:
        ids, waiting = [], asyncio.Event()

        def cancelled(number: int) -> None:
            if number == relaunches:
                waiting.set()

        platform.cancels_begun = cancelled
        for number in range(relaunches):
            platform.give(f"user-{number}")
            ids.append(await relauncher.start(f"user-{number}", NEW).accepted())
        await waiting.wait()
        app = _ours(relauncher, platform, store) if kind == "ours" else OTHERS[kind](relauncher)
        if kind != "ours":
            print("none", flush=True)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=ImpatientProtocol,
                ws="none",
                lifespan="off",
                log_level="critical",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        listening = listen("127.0.0.1", 0)
        print(json.dumps([listening.getsockname()[1], ids]), flush=True)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        loop = asyncio.get_running_loop()
        threading.Thread(
            target=_obey, args=(loop, lambda: _end(relauncher, ids), server), daemon=True
        ).start()
        await serving
    await store.close()


async def _end(relauncher: AsyncRelauncher, ids: list[str]) -> None:
    for relaunch_id in ids:
        await (await relauncher.attach(relaunch_id)).wish_abort()


def _obey(loop: asyncio.AbstractEventLoop, end: Callable[[], Any], server: uvicorn.Server) -> None:
    for line in sys.stdin:
        if line.strip() == "end":
            asyncio.run_coroutine_threadsafe(end(), loop).result()
        print(json.dumps([memory(), time.process_time()]), flush=True)
    server.should_exit = True


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="streams") as place:
        asyncio.run(serve(sys.argv[1], int(sys.argv[2]), Path(place)))
