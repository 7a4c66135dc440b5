"""``relaunch runs``: look at the relaunches of a store, and forget old ones."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated

import typer

from orchestrator.cli import exits, run_driving
from orchestrator.cli.connect import settings_for
from orchestrator.cli.durations import seconds_of
from orchestrator.cli.options import ConfigOption, JsonOption, RelaunchArgument, StoreOption
from orchestrator.cli.run_events import entries, json_line, line
from orchestrator.cli.run_story import story, told
from orchestrator.cli.run_table import print_table, row
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import forget, is_driven, opened_store
from orchestrator.durable.store import Filter, StoredRun
from orchestrator.machine.vocabulary import State

app = typer.Typer(
    help="The relaunches that are kept: look at them, end them, go on with them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("abort", epilog=exits.exits_help())(run_driving.abort)
app.command("resume", epilog=exits.exits_help())(run_driving.resume)


@app.command("list")
def list_(
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    user: Annotated[str | None, typer.Option(help="This learner's only.")] = None,
    state: Annotated[str | None, typer.Option(help="In this state only.")] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Those that have not ended only.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="Begun so long ago or later: 90s, 12h, 7d.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 100,
) -> int:
    """List relaunches, newest first."""
    if state is not None and state not in set(State):
        raise typer.BadParameter(f"--state: {state!r} is none of {', '.join(State)}.")
    now = time.time()
    which = Filter(
        user_id=user,
        state=state,
        unfinished=unfinished or None,
        created_since=None if since is None else now - seconds_of("--since", since),
        limit=limit,
    )
    consumer, found = asyncio.run(_history(settings_for(config, {"store.url": store}), which))
    if as_json:
        print(json.dumps({"relaunches": [row(stored) for stored in found]}))
    elif found:
        print_table(found, now)
    else:
        print(f"No relaunch of the API consumer {consumer} fits.")
    return 0


@app.command("show")
def show(
    relaunch_id: RelaunchArgument,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show one relaunch: where it stands, who drives it, what it has done and what is left."""
    loaded = settings_for(config, {"store.url": store})
    stored, driven = asyncio.run(_one(loaded, relaunch_id))
    if as_json:
        print(json.dumps(told(stored, driven=driven)))
    else:
        print(story(stored, driven=driven, now=time.time()))
    return 0


@app.command("events")
def events(
    relaunch_id: RelaunchArgument,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the relaunch has ended.")
    ] = False,
) -> int:
    """Show the time line of one relaunch, each step with the call that it announced."""
    loaded = settings_for(config, {"store.url": store})
    asyncio.run(_print_events(loaded, relaunch_id, follow=follow, as_json=as_json))
    return 0


@app.command("prune")
def prune(
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Those that ended longer ago: 90s, 12h, 30d.")
    ],
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> int:
    """Forget relaunches and batches that ended long ago, with all personal data of theirs."""
    age = seconds_of("--older-than", older_than)
    loaded = settings_for(config, {"store.url": store})
    gone, batches = asyncio.run(_prune(loaded, time.time() - age))
    if as_json:
        print(json.dumps({"pruned": gone, "batches": batches}))
        return 0
    said = f"{gone} {'relaunch' if gone == 1 else 'relaunches'}"
    if batches:
        said += f" and {batches} {'batch' if batches == 1 else 'batches'}"
    print(f"Forgot {said} that ended more than {older_than} ago.")
    return 0


async def _history(loaded: Loaded, which: Filter) -> tuple[str, tuple[StoredRun, ...]]:
    async with opened_store(loaded) as store:
        return store.consumer, await store.history(which)


async def _one(loaded: Loaded, relaunch_id: str) -> tuple[StoredRun, bool]:
    async with opened_store(loaded) as store:
        stored = await store.load(relaunch_id)
        return stored, await is_driven(store, stored)


async def _print_events(loaded: Loaded, relaunch_id: str, *, follow: bool, as_json: bool) -> None:
    async with opened_store(loaded) as store:
        async for entry in entries(store, relaunch_id, follow=follow):
            print(json_line(entry) if as_json else line(entry), flush=follow)


async def _prune(loaded: Loaded, before: float) -> tuple[int, int]:
    async with opened_store(loaded) as store:
        return await forget(store, before=before)
