"""A batch carried out by a command: shown, told to programs, interrupted in two stages, reported.

Progress goes to stderr, what is a result to stdout: with ``--json`` an object for each learner as
its relaunch ends, else the last word on the whole. Whoever stops to read stops nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.batch.carrying_out import BatchRun
from orchestrator.batch.outcomes import plain_outcome
from orchestrator.cli.batch_reports import Place, write_reports
from orchestrator.cli.batch_words import Account, is_bad, last_word, learners, resume_command
from orchestrator.cli.exits import ALL_WELL, SOME_FAILED, batch_exit_code
from orchestrator.cli.interrupts import two_stages
from orchestrator.cli.lines import Lines
from orchestrator.cli.reset_display import TICK, BatchDisplay, batch_display
from orchestrator.cli.store_url import shown
from orchestrator.durable.batches import Batch, StoredItem
from orchestrator.durable.store import RunStore
from orchestrator.machine.vocabulary import State
from orchestrator.relauncher import AsyncRelauncher

#: Seconds after which a fleet that has begun nobody is asked about.
_NO_WORKER = 5.0
#: Items are read so many at a time.
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """How a batch is told. ``where``: the flags that lead another command to the same store."""

    as_json: bool = False
    reports: tuple[Place, ...] = ()
    where: str = ""


def where_flags(config: Path | None, store: str | None) -> str:
    """The flags that a command was given to find its settings and its store, for another one."""
    given = [] if config is None else ["--config", str(config)]
    if store is not None:
        given += ["--store", shown(store)]
    return f" {shlex.join(given)}" if given else ""


async def carry_out(relauncher: AsyncRelauncher, batch: Batch, telling: Telling) -> int:
    """Carry a batch out, or follow whoever does, to its end; the exit code."""
    run = BatchRun(relauncher, batch)
    with batch_display(each=not telling.as_json) as display:
        leaving = _Leaving(run, display, telling)
        out = Lines(sys.stdout, gone=leaving.unread)
        write = display.say if display.covers_stdout else out.write
        with two_stages(leaving.first, leaving.last):
            ticking = asyncio.create_task(_tick(run, display, relauncher))
            try:
                async for outcome in run.outcomes():
                    if telling.as_json:
                        write(json.dumps(plain_outcome(outcome)))
                    display.ended(outcome)
            finally:
                ticking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ticking
    return await tell_the_end(relauncher.store, batch.batch_id, telling, at=relauncher.clock.now())


async def tell_the_end(store: RunStore, batch_id: str, telling: Telling, *, at: float) -> int:
    """The last word, and the reports; the exit code."""
    account = await account_of(store, batch_id, telling, at=at)
    Lines(sys.stderr if telling.as_json else sys.stdout).write(last_word(account))
    code = batch_exit_code(account.batch, account.counts.ended)
    written = await write_files(store, batch_id, telling, at=at)
    return code if written or code != ALL_WELL else SOME_FAILED


async def account_of(store: RunStore, batch_id: str, telling: Telling, *, at: float) -> Account:
    """How a batch stands by its store."""
    batch = await store.batches.load(batch_id)
    counts = await store.batches.counts(batch_id)
    bad = []
    if counts.not_ok:
        bad = [s async for s in items_of(store, batch_id, ended=True) if is_bad(s)]
    return Account(batch=batch, counts=counts, bad=bad, at=at, where=telling.where)


async def write_files(store: RunStore, batch_id: str, telling: Telling, *, at: float) -> bool:
    """Write the reports; whether all could be written."""
    return await write_reports(telling.reports, store.batches, batch_id, at=at, where=telling.where)


async def items_of(
    store: RunStore, batch_id: str, *, ended: bool | None = None
) -> AsyncIterator[StoredItem]:
    """The items, read a page at a time."""
    after = 0
    while page := await store.batches.items(batch_id, after=after, limit=_PAGE, ended=ended):
        for stored in page:
            yield stored
        after = page[-1].item.number


async def _tick(run: BatchRun, display: BatchDisplay, relauncher: AsyncRelauncher) -> None:
    clock = relauncher.clock
    began = clock.now()
    may_lack_workers = relauncher.store.engine == "fleet"
    while True:
        standing = run.standing()
        display.tick(standing)
        if may_lack_workers and clock.now() - began > _NO_WORKER:
            may_lack_workers = False
            if standing.phases.keys() == {State.NEW}:
                display.say(
                    "No worker has begun with anybody yet; the relaunches are stored, and begin "
                    "when one has room. (Is one running? `relaunch worker` is one.)"
                )
        await clock.wait(TICK, asyncio.Event())


class _Leaving:
    """What is done and said when somebody stops the command, or stops reading it."""

    def __init__(self, run: BatchRun, display: BatchDisplay, telling: Telling) -> None:
        self._run = run
        self._display = display
        self._resume = resume_command(run.batch.batch_id, telling.where)

    def first(self) -> None:
        """Begin nobody any more."""
        self._run.stop("interrupted")
        flying = self._run.standing().in_flight
        self._display.say(
            f"Interrupted: no new learner is begun. {learners(flying)} in flight come to their "
            f"end; once more leaves at once, and keeps them. To go on: `{self._resume}`"
        )

    def last(self) -> None:
        """Say how to go on, before this process is gone."""
        self._display.leave()
        Lines(sys.stderr).write(
            f"Left at once: what is in flight is kept as it stands. To go on: `{self._resume}`"
        )

    def unread(self) -> None:
        """Nobody reads what is written any more."""
        self._display.say(
            "Nobody reads the output any more; the batch goes on all the same. Ctrl-C stops it."
        )
