"""``relaunch runs abort`` and ``resume``: what changes a relaunch that is kept."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from typing import Annotated

import typer

from orchestrator.cli import exits
from orchestrator.cli.connect import connected, settings_for
from orchestrator.cli.display import summary
from orchestrator.cli.exits import exit_code
from orchestrator.cli.following import follow_durable, left, say
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.options import ConfigOption, JsonOption, RelaunchArgument, StoreOption
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import required
from orchestrator.durable.handle import AsyncDurableRelaunch
from orchestrator.durable.runtime import outcome_so_far
from orchestrator.plain import to_plain
from orchestrator.progress import Outcome


def abort(
    relaunch_id: RelaunchArgument,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> int:
    """End a relaunch at its next step; the labs stay as they are then.

    The wish is stored. Whoever drives the relaunch carries it out, and if nobody does, this
    command. Exit code 0 when it has ended.
    """
    loaded = settings_for(config, {"store.url": store})
    # A lab that it has ended with all the same is the learner's, and so is the way in.
    outcome = dataclasses.replace(asyncio.run(_abort(loaded, relaunch_id)), url=None)
    print(json.dumps(to_plain(outcome)) if as_json else outcome.message)
    return exits.INTERRUPTED if outcome.outcome == "interrupted" else 0


def resume(
    relaunch_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Its id.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are unfinished.")] = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> int:
    """Go on with a relaunch, or with all that are unfinished, to the end.

    What somebody else drives is followed. A fleet's relaunches are driven by its workers alone.
    """
    if everything == (relaunch_id is not None):
        raise typer.BadParameter("give either the id of a relaunch or --all.")
    loaded = settings_for(config, {"store.url": store})
    if relaunch_id is not None:
        outcome = asyncio.run(_resume(loaded, relaunch_id))
        print(json.dumps(to_plain(outcome)) if as_json else summary(outcome))
        return exit_code(outcome.outcome, outcome.reason)
    outcomes = asyncio.run(_resume_all(loaded))
    if as_json:
        print(json.dumps({"relaunches": to_plain(outcomes)}))
    else:
        for outcome in outcomes:
            print(f"{outcome.relaunch_id}: {outcome.message}")
        print(f"{len(outcomes)} relaunch{'' if len(outcomes) == 1 else 'es'}.")
    codes = {exit_code(outcome.outcome, outcome.reason) for outcome in outcomes} - {0}
    if exits.INTERRUPTED in codes:
        return exits.INTERRUPTED
    return codes.pop() if len(codes) == 1 else exits.FAILED if codes else 0


async def _abort(loaded: Loaded, relaunch_id: str) -> Outcome:
    async with connected(loaded) as parts:
        store = await required(parts.store)
        # Stored first, so that whoever takes the relaunch up finds it before anything is called.
        if not await store.request_abort(relaunch_id, at=time.time()):
            say(f"Relaunch {relaunch_id} has ended already; nothing was changed.")
            return await outcome_so_far(store, await store.load(relaunch_id))
        with cancelling() as task:
            try:
                handle = await parts.relauncher.attach(relaunch_id)
                return await handle.result()
            except asyncio.CancelledError:
                task.uncancel()
        await parts.relauncher.aclose(grace=0)
        say("The wish to abort is stored; whoever drives the relaunch carries it out.")
        return await left(store, relaunch_id)


async def _resume(loaded: Loaded, relaunch_id: str) -> Outcome:
    async with connected(loaded) as parts:
        store = await required(parts.store)
        stored = await store.load(relaunch_id)
        if stored.finished_at is not None:
            say(f"Relaunch {relaunch_id} has ended already; nothing was changed.")
            # Its URL was handed out when it ended, and is single use.
            return dataclasses.replace(await outcome_so_far(store, stored), url=None)
        with cancelling() as task:
            handle = await parts.relauncher.attach(relaunch_id)
            return await follow_durable(parts, store, handle, task, requested=False)


async def _resume_all(loaded: Loaded) -> tuple[Outcome, ...]:
    async with connected(loaded) as parts:
        store = await required(parts.store)
        with cancelling() as task:
            handles = await parts.relauncher.resume_all()
            say(f"{len(handles)} unfinished relaunches.")
            try:
                outcomes = await asyncio.gather(*(_end_of(handle) for handle in handles))
                # Others that have come meanwhile are being driven here as well.
                await parts.relauncher.aclose()
                return tuple(outcomes)
            except asyncio.CancelledError:
                task.uncancel()
        await parts.relauncher.aclose(grace=0)
        return tuple([await left(store, handle.relaunch_id) for handle in handles])


async def _end_of(handle: AsyncDurableRelaunch) -> Outcome:
    async for progress in handle.events():
        print(
            f"{handle.relaunch_id}  {progress.elapsed_seconds:7.1f} s  {progress.message}",
            file=sys.stderr,
        )
    return await handle.result()
