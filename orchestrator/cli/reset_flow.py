"""What ``relaunch reset`` does: find the batch again or plan a new one, ask once, carry it out.

The same command again goes on with its batch: whoever has succeeded is let be. What depends on what
is running (a selection, or a list that names no labs) is found again while it is unfinished; after
that the same request is a new batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.batch.listing import ListedRow
from orchestrator.batch.plain_plans import plain_plan
from orchestrator.batch.planning import Plan, plan
from orchestrator.batch.requests import Row, batch_of, fingerprint_of
from orchestrator.batch.resetting import begin, is_done, resume, unfinished_selection
from orchestrator.batch.selection import Criteria, Selection, describe, select
from orchestrator.cli import exits
from orchestrator.cli.batch_driving import Telling, carry_out, items_of
from orchestrator.cli.batch_words import Account, learners
from orchestrator.cli.confirming import confirmed
from orchestrator.cli.connect import Connected, connected
from orchestrator.cli.following import say
from orchestrator.cli.lines import Lines
from orchestrator.cli.reset_plan import show_plan
from orchestrator.cli.settings import Loaded
from orchestrator.cli.stores import prune, required
from orchestrator.durable.batches import Batch, BatchState, Counts, Item, Pace
from orchestrator.durable.store import RunStore
from orchestrator.errors import InvalidRequest, PlatformError, UnknownBatch
from orchestrator.machine.run import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command was asked for: ``who`` is a list, or what selects."""

    who: Sequence[ListedRow] | Criteria
    policy: Policy
    pace: Pace
    batch_id: str | None
    note: str | None
    dry_run: bool
    yes: bool
    telling: Telling

    def listed(self) -> Sequence[ListedRow]:
        """The list; empty if there is none."""
        return () if isinstance(self.who, Criteria) else self.who

    @property
    def selection(self) -> str | None:
        """In plain words by what the labs are chosen; ``None`` if a list names them all."""
        if isinstance(self.who, Criteria):
            return describe(self.who)
        if all(row.lab_profile_id is not None for row in self.who):
            return None
        # The same list has the same words, and another one never does.
        told = repr([(r.user_id, r.lab_profile_id, r.displace_instance_id) for r in self.who])
        digest = hashlib.sha256(told.encode()).hexdigest()[:8]
        return f"running labs of the {learners(len(self.who))} of list {digest}"


async def reset_batch(loaded: Loaded, wanted: Wanted) -> int:
    """Carry it out, or show what it would be; the exit code."""
    async with connected(loaded) as parts:
        store = await required(parts.store)
        reset = _Reset(parts, store, loaded, wanted)
        try:
            return await reset.go()
        except PlatformError as error:
            # What a relaunch meets is its outcome: this was a question before the beginning.
            say(f"relaunch: {error} That was only a question, and nothing was changed.")
            return exits.STOPPED


class _Reset:
    """One command, with what it has in its hands."""

    def __init__(self, parts: Connected, store: RunStore, loaded: Loaded, wanted: Wanted) -> None:
        self._parts = parts
        self._relauncher = parts.relauncher
        self._batches = store.batches
        self._store = store
        self._loaded = loaded
        self._wanted = wanted
        self._selection = wanted.selection

    async def go(self) -> int:
        """See the module's docstring."""
        known = await self._known()
        if known is None:
            return await self._begin()
        if await is_done(self._store, known, at=self._now()):
            say(
                f"Batch {known.batch_id} has ended, and all {learners(known.total)} have what was "
                "asked for: nothing to do. To do it once more, give it another name: --batch NAME"
            )
            return exits.ALL_WELL
        counts = await self._batches.counts(known.batch_id)
        account = Account(batch=known, counts=counts, bad=(), at=self._now())
        if account.is_held and not self._wanted.dry_run:
            say(f"Another process carries batch {known.batch_id} out; it is followed from here.")
            return await self._carry_out(known)
        return await self._go_on(known, counts)

    async def _known(self) -> Batch | None:
        """The batch that this request has already and can go on with."""
        wanted, consumer = self._wanted, self._store.consumer
        if self._selection is None:
            asked, _ = self._batch_of(_rows(wanted.listed()))
            batch_id, fingerprint = asked.batch_id, asked.fingerprint
        else:
            fingerprint = fingerprint_of(self._selection, wanted.policy, consumer)
            if wanted.batch_id is None:
                return await unfinished_selection(self._store, fingerprint, at=self._now())
            batch_id = wanted.batch_id
        try:
            found = await self._batches.load(batch_id)
        except UnknownBatch:
            return None
        if found.fingerprint != fingerprint:
            raise InvalidRequest("--batch", f"another request has the name {batch_id}.")
        if found.state is BatchState.ABORTED:
            raise InvalidRequest(
                "--batch",
                f"batch {batch_id} was aborted, which is for good; give this one another name.",
            )
        return found

    async def _begin(self) -> int:
        who = self._wanted.who
        if isinstance(who, Criteria):
            clock = self._relauncher.clock
            chosen = await select(self._parts.roster, who, at=self._now(), clock=clock)
            planned = await self._plan(chosen)
        else:
            planned = await self._plan(who)
        if not planned.to_carry_out:
            self._show(planned, None, "Nothing is to be done")
            return exits.ALL_WELL
        asked, items = self._batch_of(planned.to_carry_out)
        if not self._agreed(planned, asked.batch_id, f"Batch {asked.batch_id} is new"):
            return self._declined()
        # Whoever thought about it for an hour has not used up the time of the batch.
        at = self._now()
        batch, _ = await begin(
            self._store, dataclasses.replace(asked, created_at=at, started_at=at), items
        )
        return await self._carry_out(batch)

    async def _go_on(self, known: Batch, counts: Counts) -> int:
        items = items_of(self._store, known.batch_id)
        left = [_listed(s.item) async for s in items if s.result is None or not s.result.ok]
        planned = await self._plan(left)
        if not self._agreed(planned, known.batch_id, _goes_on(known, counts)):
            return self._declined()
        batch = await resume(
            self._store,
            known.batch_id,
            at=self._now(),
            pace=self._wanted.pace,
            policy=self._wanted.policy,
        )
        return await self._carry_out(batch)

    async def _carry_out(self, batch: Batch) -> int:
        code = await carry_out(self._relauncher, batch, self._wanted.telling)
        if code != exits.INTERRUPTED:
            await prune(self._store, self._loaded)
        return code

    def _batch_of(self, rows: Sequence[Row]) -> tuple[Batch, tuple[Item, ...]]:
        return batch_of(
            rows,
            policy=self._wanted.policy,
            consumer=self._store.consumer,
            at=self._now(),
            batch_id=self._wanted.batch_id,
            note=self._wanted.note,
            pace=self._wanted.pace,
            origin="command",
            selection=self._selection,
        )

    async def _plan(self, asked: Sequence[ListedRow] | Selection) -> Plan:
        return await plan(
            asked,
            self._parts.roster,
            policy=self._wanted.policy,
            pace=self._wanted.pace,
            knowledge=self._parts.schedules.knowledge,
            calls_per_second=self._loaded.settings.traffic.calls_per_second,
            clock=self._relauncher.clock,
        )

    def _now(self) -> float:
        return self._relauncher.clock.now()

    def _agreed(self, planned: Plan, batch_id: str, head: str) -> bool:
        """Show the plan and ask, as far as that is wanted; whether to go on."""
        self._show(planned, batch_id, head)
        if self._wanted.dry_run:
            return False
        return self._wanted.yes or confirmed(f"{question(planned)} Go on?")

    def _show(self, planned: Plan, batch_id: str | None, head: str) -> None:
        if self._wanted.dry_run and self._wanted.telling.as_json:
            Lines(sys.stdout).write(json.dumps({"batch_id": batch_id, **plain_plan(planned)}))
            return
        say(f"{head}.")
        show_plan(planned, whole=self._wanted.dry_run)

    def _declined(self) -> int:
        say("A dry run: nothing was changed." if self._wanted.dry_run else "Nothing was changed.")
        return exits.ALL_WELL if self._wanted.dry_run else exits.INTERRUPTED


def question(planned: Plan) -> str:
    """What is agreed to, in one sentence."""
    carried_out = [row for row in planned.rows if not planned.is_left_alone(row)]
    users = len({row.row.user_id for row in carried_out})
    ended = sum(len(row.would_end) for row in carried_out)
    protected = sum(row.protected is not None for row in planned.rows)
    many = "lab" if len(carried_out) == 1 else "labs"
    verb = {"cancel": "ended", "save": "saved"}[planned.policy.displace]
    if planned.policy.launch:
        told = f"Relaunch {len(carried_out):,} {many} of {learners(users)}"
    else:
        told = f"Free the slots of {learners(users)}"
    if any(row.certainty == "unknown" for row in carried_out):
        told += f"; whatever runs is {verb} where it must"
    else:
        up_to = "up to " if any(row.certainty == "if_needed" for row in carried_out) else ""
        told += f"; {up_to}{ended:,} running {'lab is' if ended == 1 else 'labs are'} {verb}"
    if protected:
        told += f", {protected:,} protected {'lab is' if protected == 1 else 'labs are'} left alone"
    return f"{told}."


def _goes_on(batch: Batch, counts: Counts) -> str:
    total = learners(batch.total)
    if batch.state is BatchState.ENDED:
        return (
            f"Batch {batch.batch_id} has ended: {counts.not_ok:,} of {total} have no success, and "
            "are tried again"
        )
    return f"Batch {batch.batch_id} goes on: {counts.ok:,} of {total} are done"


def _rows(listed: Sequence[ListedRow]) -> list[Row]:
    return [
        Row(
            user_id=row.user_id,
            lab_profile_id=row.lab_profile_id or 0,
            displace_instance_id=row.displace_instance_id,
            parameters=row.parameters,
        )
        for row in listed
    ]


def _listed(item: Item) -> ListedRow:
    """An item as a row of a list again, under its own number."""
    return ListedRow(
        line=item.number,
        user_id=item.user_id,
        lab_profile_id=item.lab_profile_id,
        displace_instance_id=item.displace_instance_id,
        parameters=item.parameters,
    )
