"""``relaunch batches`` and ``relaunch batch show|resume|abort``: the batches that are kept."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from typing import Annotated, Any, NamedTuple

import typer

from orchestrator.batch import resetting
from orchestrator.batch.aborting import end_in_flight
from orchestrator.cli import exits
from orchestrator.cli.batch_driving import (
    Telling,
    account_of,
    carry_out,
    where_flags,
    write_files,
)
from orchestrator.cli.batch_reports import places_of
from orchestrator.cli.batch_story import print_table, row, story, told
from orchestrator.cli.batch_words import NAMED, Account, bad_lines, learners
from orchestrator.cli.connect import connected, settings_for
from orchestrator.cli.following import say
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.lines import Lines
from orchestrator.cli.options import (
    BatchArgument,
    BatchWaitOption,
    ConcurrencyOption,
    ConfigOption,
    JsonOption,
    OnErrorOption,
    RateOption,
    ReportOption,
    StoreOption,
    pace_given,
)
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import opened_store, required
from orchestrator.durable.batches import Batch, BatchState, Counts
from orchestrator.durable.store import RunStore
from orchestrator.relauncher import AsyncRelauncher

app = typer.Typer(
    help="One batch of relaunches: look at it, go on with it, end it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class _Aborted(NamedTuple):
    """What became of a batch that was aborted; ``in_flight``: how many were, before."""

    account: Account
    in_flight: int
    is_new: bool
    has_ended: bool


def batches(
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Those that are running or stopped only.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 100,
) -> int:
    """List the batches that are kept, newest first."""
    loaded = settings_for(config, {"store.url": store})
    consumer, found = asyncio.run(_history(loaded, unfinished or None, limit))
    if as_json:
        _print(json.dumps({"batches": [row(batch, counts) for batch, counts in found]}))
    elif found:
        print_table(found, time.time())
    else:
        _print(f"No batch of the API consumer {consumer} fits.")
    return 0


@app.command("show")
def show(
    batch_id: BatchArgument,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="All learners without success, and only them.")
    ] = False,
    report: ReportOption = None,
) -> int:
    """Show one batch: how it stands, who has no success and why, and how to go on."""
    telling = Telling(
        as_json=as_json, reports=places_of(report or ()), where=where_flags(config, store)
    )
    loaded = settings_for(config, {"store.url": store})
    account, written = asyncio.run(_look(loaded, batch_id, telling))
    if as_json:
        _print(json.dumps(told(account)))
    elif failed:
        _print("\n".join(bad_lines(account)) or "No learner has ended without success.")
    else:
        _print(story(account, most=NAMED))
    return 0 if written else exits.FAILED


@app.command("resume", epilog=exits.exits_help(exits.BATCH_EXITS))
def resume(
    batch_id: BatchArgument,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each learner, on stdout.")
    ] = False,
    report: ReportOption = None,
    concurrency: ConcurrencyOption = None,
    rate: RateOption = None,
    batch_wait: BatchWaitOption = None,
    on_error: OnErrorOption = None,
    allow_exam: Annotated[
        bool,
        typer.Option("--allow-exam", help="Leave to end exams; of those tried from now on."),
    ] = False,
) -> int:
    """Go on with a batch: those not begun, and once more those without success.

    Nobody who has what was asked for is touched. What another process carries out is followed.
    """
    telling = Telling(
        as_json=as_json, reports=places_of(report or ()), where=where_flags(config, store)
    )
    pace = pace_given(concurrency, rate, batch_wait, on_error)
    loaded = settings_for(config, {"store.url": store})
    return asyncio.run(_resume(loaded, batch_id, telling, pace, allow_exam))


@app.command("abort")
def abort(
    batch_id: BatchArgument,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> int:
    """End a batch for good: nobody new is begun, and what is in flight ends at its next step.

    The labs stay as they are then; nothing is undone.
    """
    loaded = settings_for(config, {"store.url": store})
    telling = Telling(as_json=as_json, where=where_flags(config, store))
    aborted = asyncio.run(_abort(loaded, batch_id, telling))
    _print(json.dumps(told(aborted.account)) if as_json else _abort_word(aborted))
    return 0 if aborted.has_ended else exits.INTERRUPTED


async def _history(
    loaded: Loaded, unfinished: bool | None, limit: int
) -> tuple[str, list[tuple[Batch, Counts]]]:
    async with opened_store(loaded) as store:
        found = await store.batches.history(unfinished=unfinished, limit=limit)
        return store.consumer, [(b, await store.batches.counts(b.batch_id)) for b in found]


async def _look(loaded: Loaded, batch_id: str, telling: Telling) -> tuple[Account, bool]:
    at = time.time()
    async with opened_store(loaded) as store:
        account = await account_of(store, batch_id, telling, at=at)
        return account, await write_files(store, batch_id, telling, at=at)


async def _resume(
    loaded: Loaded, batch_id: str, telling: Telling, pace: dict[str, Any], allow_exam: bool
) -> int:
    async with connected(loaded) as parts:
        store = await required(parts.store)
        batch, counts = await _found(store, batch_id)
        if counts.ok == batch.total:
            say(f"Batch {batch_id}: all {learners(batch.total)} have succeeded; nothing to do.")
            return exits.ALL_WELL
        policy = dataclasses.replace(batch.policy, allow_exam=True) if allow_exam else None
        batch = await resetting.resume(
            store,
            batch_id,
            at=parts.relauncher.clock.now(),
            pace=dataclasses.replace(batch.pace, **pace) if pace else None,
            policy=policy,
        )
        say(f"Batch {batch_id} goes on: {counts.ok:,} of {learners(batch.total)} are done.")
        return await carry_out(parts.relauncher, batch, telling)


async def _abort(loaded: Loaded, batch_id: str, telling: Telling) -> _Aborted:
    async with connected(loaded) as parts:
        store = await required(parts.store)
        before, counts = await _found(store, batch_id)
        batch = await resetting.abort(parts.relauncher, batch_id)
        is_new = before.state is not batch.state and batch.state is BatchState.ABORTED
        has_ended = True
        if batch.state is BatchState.ABORTED and counts.in_flight:
            say(f"Waiting for {learners(counts.in_flight)} in flight to take their last step.")
            has_ended = await _ends(parts.relauncher, batch_id)
        account = await account_of(store, batch_id, telling, at=parts.relauncher.clock.now())
        return _Aborted(account, counts.in_flight, is_new, has_ended)


async def _ends(relauncher: AsyncRelauncher, batch_id: str) -> bool:
    """Wait for the end of what is in flight; ``False`` if somebody would not."""
    with cancelling() as task:
        try:
            await end_in_flight(relauncher, batch_id)
        except asyncio.CancelledError:
            task.uncancel()
            return False
    return True


async def _found(store: RunStore, batch_id: str) -> tuple[Batch, Counts]:
    return await store.batches.load(batch_id), await store.batches.counts(batch_id)


def _abort_word(aborted: _Aborted) -> str:
    batch, counts = aborted.account.batch, aborted.account.counts
    if not aborted.is_new:
        before = "ended" if batch.state is BatchState.ENDED else "been aborted"
        return f"Batch {batch.batch_id} had {before} before."
    ended = "ended with the labs as they were" if aborted.has_ended else "end at their next step"
    return (
        f"Batch {batch.batch_id} is aborted: {learners(counts.waiting)} will not be begun, and "
        f"nothing of theirs was touched. {learners(aborted.in_flight)} were in flight: their "
        f"relaunches {ended}. {counts.ok:,} of {batch.total:,} have succeeded, which stays so."
    )


def _print(text: str) -> None:
    Lines(sys.stdout).write(text)
