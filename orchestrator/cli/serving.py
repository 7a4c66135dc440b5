"""``relaunch serve`` at work: from settings to a running service, and to a graceful end.

Stopped, it begins nothing any more, closes the event streams (their clients come again), lets calls
that are under way come to their answer, and leaves what is unfinished to whoever goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket

from fastapi import APIRouter

from orchestrator.cli.connect import Connected, connected
from orchestrator.cli.housekeeping import keep_house
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.service_access import authority_of, limits_of
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import place_of, required
from orchestrator.durable.store import RunStore
from orchestrator.service.app import create_app
from orchestrator.service.metrics import Metrics
from orchestrator.service.parts import ServiceOptions, ServiceParts
from orchestrator.service.server import origin_of, server_of, serving

_DEMO_IS_OPEN = (
    "Mind: it listens not only to this machine, and whoever reaches it can be any of its made-up "
    "learners. It is for trying out.\n"
)


async def serve(
    loaded: Loaded, listening: socket.socket, *, works: bool, demo: APIRouter | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; ``works``: as a worker of a fleet, too."""
    metrics = Metrics()
    async with connected(loaded, metrics=metrics) as made:
        store = await required(made.store)
        parts = _parts(loaded, listening, made, store, metrics)
        app = create_app(parts, extra_routers=[demo] if demo is not None else [])
        server = server_of(app, parts, proxies=loaded.settings.service.trusted_proxies)
        with cancelling() as task:
            background = [asyncio.create_task(keep_house(made, store, loaded, tell=_say))]
            if works and store.engine == "fleet":
                background.append(asyncio.create_task(made.relauncher.work()))
            try:
                async with serving(server, listening) as running:
                    _say(_greeting(loaded, parts, demo=demo is not None))
                    with contextlib.suppress(asyncio.CancelledError):
                        # All of them go on without end: whichever does not has failed.
                        done, _ = await asyncio.wait(
                            {running, *background}, return_when=asyncio.FIRST_COMPLETED
                        )
                        for one in done:
                            one.result()
                    if task.cancelling():
                        task.uncancel()
                        _say("Stopping: no new relaunch is begun, streams are closed.")
            finally:
                for one in background:
                    one.cancel()
                await asyncio.gather(*background, return_exceptions=True)
            _say("Handing over what is unfinished.")
            await made.relauncher.aclose()
            _say("Stopped.")


def _parts(
    loaded: Loaded, listening: socket.socket, made: Connected, store: RunStore, metrics: Metrics
) -> ServiceParts:
    chosen = loaded.settings.service
    return ServiceParts(
        relauncher=made.relauncher,
        platform=made.platform,
        store=store,
        authority=authority_of(loaded),
        policy=loaded.policy(),
        pace=loaded.pace(),
        knowledge=made.schedules.knowledge,
        limits=limits_of(loaded),
        metrics=metrics,
        options=ServiceOptions(
            public_url=(chosen.public_url or origin_of(listening)).rstrip("/"),
            allowed_origins=tuple(chosen.allowed_origins),
            webhook_secrets=tuple(s.get_secret_value() for s in chosen.webhook_secrets),
            heartbeat_seconds=chosen.heartbeat_seconds,
        ),
    )


def _greeting(loaded: Loaded, parts: ServiceParts, *, demo: bool) -> str:
    service, tokens = loaded.settings.service, loaded.settings.tokens
    url = parts.options.public_url
    if demo:
        warning = "" if _is_this_machine(service.host) else _DEMO_IS_OPEN
        return (
            f"Open {url}/demo in a browser: a course page with two relaunch buttons, and the "
            f"platform's own view beside them.\n{warning}Ctrl-C stops it; nothing is kept."
        )
    learners = tokens.secret is not None or tokens.jwks is not None
    lines = [
        f"Service of the API consumer {parts.store.consumer} at {url}; "
        f"relaunches are kept in {place_of(loaded)}.",
        f"Let in: {len(service.keys)} service keys, "
        f"{'learners with a token' if learners else 'no learner tokens (set tokens.secret)'}, "
        f"{'webhooks' if service.webhook_secrets else 'no webhooks (relaunch webhook-setup)'}.",
        f"Pages that may embed the button: {', '.join(service.allowed_origins) or 'none yet'} "
        "(service.allowed_origins).",
        f"The snippet for a page: {url}/button/snippet.html",
        "Ctrl-C hands over and stops.",
    ]
    if parts.limits.most_streams < service.most_streams:
        lines.append(
            f"Only {parts.limits.most_streams} event streams fit, not {service.most_streams} "
            "(service.most_streams): the process may not open more files (ulimit -Hn)."
        )
    if parts.store.engine == "fleet":
        lines.insert(1, "Relaunches are driven by the fleet: relaunch worker, or --worker here.")
    return "\n".join(lines)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say(text: str) -> None:
    print(text, flush=True)
