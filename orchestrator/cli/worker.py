"""``relaunch worker``: drive the relaunches of a store, whoever began them, until told to stop.

On SQLite it is one more process that shares the file; on PostgreSQL one more of the fleet. Stopped,
it lets calls that are under way come to their answer and hands its relaunches over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import worker_metrics
from orchestrator.cli.connect import connected, settings_for
from orchestrator.cli.housekeeping import keep_house
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.options import ConfigOption, StoreOption
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import place_of, required
from orchestrator.durable.store import Filter, RunStore
from orchestrator.errors import StoreError
from orchestrator.machine.vocabulary import State

if TYPE_CHECKING:
    from orchestrator.service.metrics import Metrics


def worker(
    config: ConfigOption = None,
    store: StoreOption = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing of what it does; only logs.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Serve its metrics there; 0 picks a free port."
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to serve them on.")
    ] = "127.0.0.1",
) -> int:
    """Drive the relaunches of a store until SIGTERM or Ctrl-C; a second one leaves at once."""
    loaded = settings_for(config, {"store.url": store})
    lines = _Lines(quiet=quiet)
    if metrics_port is None:
        asyncio.run(_work(loaded, lines, None))
        return 0
    with worker_metrics.serving(metrics_host, metrics_port) as (metrics, place):
        lines.say(f"Metrics at {place}")
        asyncio.run(_work(loaded, lines, metrics))
    return 0


class _Lines(logging.Handler):
    """A line for each relaunch that this process begins with, and one for each that ends here.

    Made of the log of the relaunches that this process drives, so it tells nothing that may not
    be in a log, and whatever the log's level is.
    """

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(logging.INFO)
        self._quiet = quiet
        self._seen: set[str] = set()

    def attach(self) -> None:
        """Begin to tell."""
        if not self._quiet:
            logger = logging.getLogger("orchestrator.relaunch")
            logger.setLevel(logging.INFO)
            logger.addHandler(self)

    def say(self, text: str) -> None:
        """A line of the worker's own."""
        if not self._quiet:
            print(text, flush=True)

    def keep_only(self, unfinished: set[str]) -> None:
        """Forget those that others have brought to their end."""
        self._seen &= unfinished

    def emit(self, record: logging.LogRecord) -> None:
        """Take one step of a relaunch."""
        told = record.__dict__
        relaunch_id, phase = told.get("relaunch_id"), told.get("phase")
        if relaunch_id is None or phase is None:
            return
        if relaunch_id not in self._seen:
            self._seen.add(relaunch_id)
            who = f"user {told.get('user_id')}, lab {told.get('lab_profile_id')}"
            self.say(f"{relaunch_id}  took up: {who}, {phase}")
        if State(phase).is_terminal:
            self._seen.discard(relaunch_id)
            reason = told.get("reason")
            why = f" ({reason})" if reason else ""
            self.say(f"{relaunch_id}  ended: {phase}{why}, {told.get('elapsed_seconds'):.1f} s")


async def _work(loaded: Loaded, lines: _Lines, metrics: Metrics | None) -> None:
    async with connected(loaded, metrics=metrics) as parts:
        store = await required(parts.store)
        with cancelling() as task:
            house = keep_house(
                parts, store, loaded, tell=lines.say, also=lambda: _forget_ended(store, lines)
            )
            keeping = [asyncio.create_task(house)]
            if metrics is not None:
                keeping.append(asyncio.create_task(worker_metrics.keep_looking(metrics, store)))
            try:
                waiting = len(await store.history(Filter(unfinished=True, limit=1_000_000)))
                lines.say(
                    f"Worker of the API consumer {store.consumer} at {place_of(loaded)}: "
                    f"{waiting} unfinished relaunches. Ctrl-C hands over and stops."
                )
                lines.attach()
                await parts.relauncher.work()
            except asyncio.CancelledError:
                task.uncancel()
            finally:
                for task_beside in keeping:
                    task_beside.cancel()
            lines.say("Stopping: handing over what is unfinished.")
            await parts.relauncher.aclose()
            lines.say("Stopped.")


async def _forget_ended(store: RunStore, lines: _Lines) -> None:
    with contextlib.suppress(StoreError):
        unfinished = await store.history(Filter(unfinished=True, limit=1_000_000))
        lines.keep_only({stored.run.relaunch_id for stored in unfinished})
