"""The service on a port, under uvicorn: stopped gracefully, and impatient with silent connections.

* Stopping: no new relaunch is begun, event streams end (their clients come again), then what is in
  flight is left to whoever goes on with it.
* A connection on which a request's headers don't come to their end in time is closed, and so is one
  that goes on sending what was refused; uvicorn itself would wait for ever.
* Silent connections cannot take the descriptors that calls of the platform and the store need.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Self

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.service.descriptors import AT_ONCE, most_connections
from orchestrator.service.parts import ServiceParts

#: Seconds for the headers of a request, and of silence between two requests.
HEADERS_WITHIN, KEEP_ALIVE = 10.0, 30.0
#: Seconds after which a peer is gone that acknowledges nothing, or reads nothing; where the system
#: can tell. Left to itself it takes a quarter of an hour, and the stream its place for as long.
UNHEARD = 60.0
#: Seconds for requests under way once the service is to stop.
GRACE = 5.0
#: Connections that may stand in the system's line.
_IN_LINE = 2048


class ImpatientProtocol(H11Protocol):
    """uvicorn's protocol, which closes a connection on which no whole request comes."""

    _impatience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request; of too many connections the newest is closed."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.abort()
            return
        _notice_the_dead(transport.get_extra_info("socket"))
        self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Begin to wait for the rest of a request, or be content with it."""
        super().data_received(data)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._be_content()
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        if not self._has_none():
            self._be_content()
        elif self._impatience is None:
            self._impatience = self.loop.call_later(HEADERS_WITHIN, self._give_up)

    def _give_up(self) -> None:
        if self._has_none() and not self.transport.is_closing():
            self.transport.close()

    def _be_content(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _has_none(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)


def _notice_the_dead(connection: socket.socket | None) -> None:
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(UNHEARD * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class GracefulServer(uvicorn.Server):
    """A server that drains the service before it waits for its connections to end.

    It leaves signals to whoever runs it: uvicorn would raise them again before the parts are
    closed. It runs the application's lifespan itself, so that whoever runs it learns why there was
    no beginning; uvicorn would log it and leave the process.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._drain = drain
        #: Set once it listens.
        self.up = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop. Raises what keeps the application from its beginning."""
        async with self._app.router.lifespan_context(self._app):
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_IN_LINE)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then stop."""
        self._drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Not ours."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; ``OSError`` if it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends at once (TCP_NODELAY) only where it is: answers are head and body.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(_IN_LINE)
    return listening


def origin_of(listening: socket.socket) -> str:
    """The origin at which a listening socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: FastAPI, parts: ServiceParts, *, proxies: list[str]) -> GracefulServer:
    """The server of ``app``; ``proxies`` are believed about who asks."""
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=int(KEEP_ALIVE),
        timeout_graceful_shutdown=int(GRACE),
        h11_max_incomplete_event_size=32_768,
        backlog=AT_ONCE,
    )
    return GracefulServer(config, app, parts.drain)


class ServiceServer:
    """A running service in a thread with a loop of its own; a context manager, for tests and demos.

    ``make`` builds the parts and the application in that loop and closes them afterwards; it is
    told the service's origin.
    """

    def __init__(
        self,
        make: Callable[[str], contextlib.AbstractAsyncContextManager[tuple[FastAPI, ServiceParts]]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._make = make
        self._socket = listen(host, port)
        self.base_url = origin_of(self._socket)
        self._server: GracefulServer | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)
        self._failure: BaseException | None = None
        self.parts: ServiceParts | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(15) or self._failure is not None:
            raise RuntimeError("the service did not start") from self._failure
        return self

    def __exit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(timeout=15)
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # told to whoever waits for the start
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        async with self._make(self.base_url) as (app, parts):
            self.parts = parts
            self._server = server_of(app, parts, proxies=[])
            async with serving(self._server, self._socket) as task:
                self._started.set()
                await task


@contextlib.asynccontextmanager
async def serving(
    server: GracefulServer, listening: socket.socket
) -> AsyncIterator[asyncio.Task[None]]:
    """While inside, the server serves; at the end it is stopped gracefully.

    Raises what keeps it from its beginning.
    """
    task = asyncio.create_task(server.serve(sockets=[listening]))
    up = asyncio.create_task(server.up.wait())
    try:
        await asyncio.wait({task, up}, return_when=asyncio.FIRST_COMPLETED)
        if not server.started:
            await task
            raise RuntimeError("the server did not start")
        yield task
    finally:
        up.cancel()
        server.should_exit = True
        await task
