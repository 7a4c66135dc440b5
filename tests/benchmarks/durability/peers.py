"""The same relaunch written straight on other engines of durable execution: DBOS and Restate.

The same calls of the platform, the same wait: survey, try a launch, inspect, cancel, wait, look,
launch, verify. Each call is a durable step; nothing else that ours does is there (no journal of
words, no single-flight, no check after an answer that got lost). The wait is a durable sleep; where
a hint is to end it, what the engine has for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import psutil  # type: ignore[import-untyped]  # it has no types

from tests.benchmarks.durability.engines import server_of, tables_of
from tests.benchmarks.durability.platform import Platform

#: Names Restate's server if it is not on the path.
VARIABLE = "RESTATE_SERVER"


class Dbos:
    """DBOS on PostgreSQL: one workflow; a message ends a wait that a hint is to end."""

    server: psutil.Process | None = None

    def __init__(self, platform: Platform, wait: float, url: str, *, hinted: bool) -> None:
        self._platform, self._wait, self._url, self._hinted = platform, wait, url, hinted
        self._dbos: Any = None
        self._workflow: Any = None
        self._going: set[Any] = set()

    async def __aenter__(self) -> Self:
        dbos = importlib.import_module("dbos")
        self._dbos, platform = dbos.DBOS, self._platform
        step: Any = self._dbos.step
        workflow: Any = self._dbos.workflow

        @step()  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def survey(user_id: str) -> list[int]:
            return platform.listed(user_id)

        @step()  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def launch(user_id: str) -> int | None:
            return platform.tried(user_id)

        @step()  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def inspect(instance_id: int) -> str:
            return platform.phase(instance_id)

        @step()  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def cancel(instance_id: int) -> str:
            return platform.displaced(instance_id)

        @workflow()  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def relaunch(user_id: str) -> int:
            (old,) = await survey(user_id)
            new = await launch(user_id)
            if new is None:
                await inspect(old)
                await cancel(old)
                while new is None:
                    if self._hinted:
                        await self._dbos.recv_async("torn down", timeout_seconds=self._wait)
                    else:
                        await self._dbos.sleep_async(self._wait)
                        if await inspect(old) != "gone":
                            continue
                    new = await launch(user_id)
            await inspect(new)
            return int(new)

        self._workflow = relaunch
        self._dbos(
            config={
                "name": "relaunches",
                "system_database_url": self._url,
                "log_level": "CRITICAL",
                "console_log_level": "CRITICAL",
            }
        )
        await asyncio.to_thread(self._dbos.launch)
        self.server = server_of(self._url)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self._dbos.destroy, workflow_completion_timeout_sec=0)

    async def relaunch(self, user_id: str) -> None:
        """One whole relaunch."""
        handle = await self._start(user_id)
        await handle.get_result()

    async def begin(self, user_id: str) -> None:
        """Begin one, and let it go on by itself."""
        self._going.add(await self._start(user_id))

    async def hint(self, user_id: str, instance_id: int) -> None:
        """A message to the workflow."""
        await self._dbos.send_async(user_id, instance_id, "torn down")

    def kept(self) -> dict[str, tuple[int, int]]:
        """All its tables."""
        tables = tables_of(self._url, "dbos").values()
        return {"all tables": (sum(b for b, _ in tables), sum(r for _, r in tables))}

    async def _start(self, user_id: str) -> Any:
        named = importlib.import_module("dbos").SetWorkflowID
        with named(user_id):
            return await self._dbos.start_workflow_async(self._workflow, user_id)


class Restate:
    """Restate: its server as a process of ours, the workflow served from this process."""

    server: psutil.Process | None = None

    def __init__(self, platform: Platform, wait: float, folder: Path, *, hinted: bool) -> None:
        self._platform, self._wait, self._hinted = platform, wait, hinted
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._ingress, self._admin, self._node, self._port = _free_ports(4)
        self._client = httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=200))
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: ASYNC220 - before anything is measured
            [restate_server() or "restate-server", "--no-logo", "--base-dir", str(self._folder)],
            env={
                **os.environ,
                "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{self._ingress}",
                "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{self._admin}",
                "RESTATE_BIND_ADDRESS": f"127.0.0.1:{self._node}",
                "RESTATE_LISTEN_MODE": "tcp",
                "RESTATE_DISABLE_TELEMETRY": "true",
                "RESTATE_LOG_FILTER": "error",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.server = psutil.Process(self._process.pid)
        self._serving = asyncio.create_task(self._serve())
        await self._until(lambda: self._client.get(f"http://127.0.0.1:{self._admin}/health"))
        await self._until(
            lambda: self._client.post(
                f"http://127.0.0.1:{self._admin}/deployments",
                json={"uri": f"http://127.0.0.1:{self._port}"},
            )
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()
        self._stop.set()
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])

    async def relaunch(self, user_id: str) -> None:
        """One whole relaunch."""
        await self._call(user_id, "run")

    async def begin(self, user_id: str) -> None:
        """Begin one, and let it go on by itself."""
        await self._call(user_id, "run/send")

    async def hint(self, user_id: str, instance_id: int) -> None:
        """Keep the workflow's promise."""
        await self._call(user_id, "torn_down")

    def kept(self) -> dict[str, tuple[int, int]]:
        """Its folder, log and all."""
        return {
            "the folder": (sum(f.stat().st_size for f in self._folder.rglob("*") if f.is_file()), 0)
        }

    async def _call(self, user_id: str, what: str) -> None:
        url = f"http://127.0.0.1:{self._ingress}/relaunch/{user_id}/{what}"
        answer = await self._client.post(url, json=user_id)
        answer.raise_for_status()

    async def _until(self, ask: Callable[[], Awaitable[httpx.Response]]) -> None:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                if (await ask()).is_success:
                    return
            await asyncio.sleep(0.1)
        raise SystemExit("Restate's server did not come up")

    async def _serve(self) -> None:
        restate = importlib.import_module("restate")
        hypercorn = importlib.import_module("hypercorn.asyncio")
        config = importlib.import_module("hypercorn.config").Config()
        config.bind, config.loglevel = [f"127.0.0.1:{self._port}"], "CRITICAL"
        await hypercorn.serve(
            restate.app([self._workflow(restate)]), config, shutdown_trigger=self._stop.wait
        )

    def _workflow(self, restate: Any) -> Any:
        workflow, platform, wait = restate.Workflow("relaunch"), self._platform, self._wait

        @workflow.main()  # type: ignore[untyped-decorator]  # not installed where types are checked
        async def run(ctx: Any, user_id: str) -> int:
            step = ctx.run_typed
            (old,) = await step("survey", lambda: platform.listed(user_id))
            new = await step("probe", lambda: platform.tried(user_id))
            if new is None:
                await step("inspect", lambda: platform.phase(old))
                await step("cancel", lambda: platform.displaced(old))
                while new is None:
                    over = ctx.sleep(timedelta(seconds=wait))
                    if self._hinted:
                        hint = ctx.promise("torn down", type_hint=str).value()
                        await restate.select(hint=hint, over=over)
                    else:
                        await over
                        if await step("look", lambda: platform.phase(old)) != "gone":
                            continue
                    new = await step("launch", lambda: platform.tried(user_id))
            await step("verify", lambda: platform.phase(new))
            return int(new)

        @workflow.handler()  # type: ignore[untyped-decorator]  # likewise
        async def torn_down(ctx: Any, user_id: str) -> None:
            await ctx.promise("torn down", type_hint=str).resolve(user_id)

        return workflow


def has_dbos() -> bool:
    """Whether DBOS is installed."""
    return importlib.util.find_spec("dbos") is not None


def has_restate() -> bool:
    """Whether Restate is installed: server, SDK, and what serves it."""
    parts = ("restate", "hypercorn")
    return restate_server() is not None and all(map(importlib.util.find_spec, parts))


def restate_server() -> str | None:
    """Where Restate's server is."""
    return os.environ.get(VARIABLE) or shutil.which("restate-server")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
