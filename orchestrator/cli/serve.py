"""``relaunch serve``: the HTTP service for relaunch buttons, until told to stop."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from orchestrator.cli.connect import settings_for
from orchestrator.cli.options import ConfigOption, StoreOption
from orchestrator.cli.service_access import missing_extra


def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; a setting otherwise.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 picks a free one; a setting otherwise.")
    ] = None,
    store: StoreOption = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="On PostgreSQL, be a worker of the fleet as well.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="With the sandbox, and a course page at /demo.")
    ] = False,
    teardown: Annotated[
        str, typer.Option(help="With --demo: the sandbox's teardowns; see relaunch sandbox.")
    ] = "lognormal:15,0.3",
) -> int:
    """Serve relaunch buttons until SIGTERM or Ctrl-C; a second one leaves at once."""
    flags = {"service.host": host, "service.port": port, "store.url": store}
    loaded = settings_for(config, flags)
    try:
        from orchestrator.cli import serving
        from orchestrator.service.server import listen
    except ImportError as error:
        raise missing_extra(error) from None
    chosen = loaded.settings.service
    try:
        listening = listen(chosen.host, chosen.port)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen on {chosen.host}:{chosen.port}: {error.strerror or error}. Nothing was "
            "started; choose another --port (0 picks a free one)."
        ) from None
    with listening:
        if not demo:
            asyncio.run(serving.serve(loaded, listening, works=worker))
            return 0
        from orchestrator.cli import serve_demo

        with serve_demo.demo(listening, config, flags, teardown=teardown) as (settings, router):
            asyncio.run(serving.serve(settings, listening, works=worker, demo=router))
    return 0
