"""A worker's metrics on a port of its own: a worker has no service that could show them.

They hold no ids and no secrets, and whoever reaches the port may read them; so it is this machine's
unless said otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.cli.service_access import missing_extra
from orchestrator.durable.store import RunStore
from orchestrator.errors import ConfigurationError

if TYPE_CHECKING:
    from orchestrator.service.metrics import Metrics

#: Seconds between two times that the store is asked what only it knows: nobody tells of scrapes.
_EVERY = 10.0


@contextlib.contextmanager
def serving(host: str, port: int) -> Iterator[tuple[Metrics, str]]:
    """Metrics that are served meanwhile, and where."""
    try:
        from prometheus_client import start_http_server

        from orchestrator.service.metrics import Metrics
    except ImportError as error:
        raise missing_extra(error) from None
    metrics = Metrics()
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ConfigurationError(
            f"--metrics-port: nothing can be served at {host}, port {port} "
            f"({error.strerror or error}); nothing was done. Choose another one."
        ) from None
    shown = f"[{host}]" if ":" in host else host
    try:
        yield metrics, f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def keep_looking(metrics: Metrics, store: RunStore) -> None:
    """Keep what only the store knows up to date, until cancelled."""
    while True:
        await metrics.look(store)
        await asyncio.sleep(_EVERY)
