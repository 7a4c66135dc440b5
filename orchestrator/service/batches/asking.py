"""From a request to a batch, or to the plan of one; the platform is asked only where it must be.

* Learners who are listed are stored as they are. Labs that are to be selected are asked for, once:
  while the batch of a selection is unfinished, the same selection is that batch.
* A plan asks and changes nothing. Of a batch that is there it shows what is left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Self, TypeVar, cast

from orchestrator.batch.listing import ListedRow
from orchestrator.batch.planning import Plan, plan
from orchestrator.batch.requests import Row, batch_of, fingerprint_of
from orchestrator.batch.resetting import unfinished_selection
from orchestrator.batch.selection import (
    Criteria,
    Selection,
    describe,
    saves_what_it_launches,
    select,
)
from orchestrator.durable.batches import Batch, Item
from orchestrator.errors import InvalidBatch, InvalidRequest, UnknownBatch
from orchestrator.labs import LaunchParameters
from orchestrator.machine.run import Policy
from orchestrator.ports import AsyncRoster
from orchestrator.service.access.callers import Caller
from orchestrator.service.batches.models import BatchAsked, SelectAsked
from orchestrator.service.parts import ServiceParts
from orchestrator.service.refusals import BatchIdTaken, NothingSelected, PlatformSlow
from orchestrator.service.relaunches import check_exams, parameters_of
from orchestrator.traffic import PolitePlatform

T = TypeVar("T")

#: Learners of whom a list is a long one.
LONG = 1000
#: Seconds that the platform's answers are waited for.
WITHIN = 60.0


class Asking:
    """One request for a batch; raises ``Forbidden`` if its caller may not ask for that.

    ``policy`` and ``pace`` are the service's own, but for what the request says.
    """

    def __init__(self, asked: BatchAsked, ours: ServiceParts, caller: Caller, at: float) -> None:
        self._asked = asked
        self._ours = ours
        self._at = at
        self.policy = _policy(asked, ours.policy)
        self.pace = asked.over(ours.pace)
        check_exams(self.policy, caller, ours)
        #: What is to be selected; or those who are listed, as a batch.
        self._who = self._batch(self._rows()) if asked.select is None else _criteria(asked.select)
        if asked.select is not None and saves_what_it_launches(self.policy):
            raise InvalidRequest(
                "policy.displace",
                "saves the very labs that are to be launched again, and each launch would be "
                'refused for the saved copy: send "launch": false, or another "on_saved".',
            )

    @classmethod
    async def of(cls, asked: BatchAsked, ours: ServiceParts, caller: Caller) -> Self:
        """The request; a long list is gone through beside the loop, which has others to serve."""
        make = partial(cls, asked, ours, caller, ours.clock.now())
        if asked.learners is None or len(asked.learners) < LONG:
            return make()
        return await asyncio.to_thread(make)

    async def known(self) -> Batch | None:
        """The batch that this request has already, if it can be gone on with.

        Raises :class:`~orchestrator.service.refusals.BatchIdTaken`.
        """
        batches = self._ours.store.batches
        if isinstance(self._who, Criteria):
            batch_id = self._asked.batch_id
            told, consumer = describe(self._who), self._ours.store.consumer
            fingerprint = fingerprint_of(told, self.policy, consumer)
        else:
            batch_id, fingerprint = self._who[0].batch_id, self._who[0].fingerprint
        if batch_id is not None:
            with contextlib.suppress(UnknownBatch):
                found = await batches.load(batch_id)
                if found.fingerprint != fingerprint:
                    raise BatchIdTaken(batch_id)
                return found
        if not isinstance(self._who, Criteria):
            return None
        at = self._ours.clock.now()
        return await unfinished_selection(self._ours.store, fingerprint, at=at)

    async def new(self) -> tuple[Batch, tuple[Item, ...]]:
        """What is to be stored. Raises :class:`~orchestrator.service.refusals.NothingSelected`."""
        if not isinstance(self._who, Criteria):
            return self._who
        planned = await self._patiently(self._selected(self._who))
        rows = planned.to_carry_out
        if not rows:
            raise NothingSelected
        return self._batch(rows, selection=planned.description)

    async def plan(self, known: Batch | None) -> tuple[Plan, str | None]:
        """What would be done, and under which id, if that is certain yet."""
        if known is not None:
            listed = await self._left(known)
            return await self._patiently(self._planned(listed)), known.batch_id
        if isinstance(self._who, Criteria):
            return await self._patiently(self._selected(self._who)), self._asked.batch_id
        batch, items = self._who
        listed = [_listed(item) for item in items]
        return await self._patiently(self._planned(listed)), batch.batch_id

    def _batch(
        self, rows: Sequence[Row], *, selection: str | None = None
    ) -> tuple[Batch, tuple[Item, ...]]:
        asked, ours = self._asked, self._ours
        try:
            return batch_of(
                rows,
                policy=self.policy,
                consumer=ours.store.consumer,
                at=self._at,
                batch_id=asked.batch_id,
                note=asked.note,
                pace=self.pace,
                origin="service",
                selection=selection,
            )
        except InvalidBatch as error:
            told = [(name.replace("items[", "learners[", 1), said) for name, said in error.problems]
            raise InvalidBatch(told) from None

    def _rows(self) -> list[Row]:
        return [
            Row(
                user_id=one.user_id,
                # Nobody is without: the request would have been refused.
                lab_profile_id=one.lab_profile_id or self._asked.lab_profile_id or 0,
                displace_instance_id=one.displace_instance_id,
                parameters=LaunchParameters()
                if one.parameters is None
                else parameters_of(one.parameters),
            )
            for one in self._asked.learners or ()
        ]

    async def _left(self, batch: Batch) -> list[ListedRow]:
        stored = await self._ours.store.batches.items(batch.batch_id)
        return [_listed(s.item) for s in stored if s.result is None or not s.result.ok]

    async def _selected(self, criteria: Criteria) -> Plan:
        clock = self._ours.clock
        selection = await select(self._roster(), criteria, at=clock.now(), clock=clock)
        return await self._planned(selection)

    async def _planned(self, asked: Sequence[ListedRow] | Selection) -> Plan:
        platform = self._ours.platform
        limit = None
        if isinstance(platform, PolitePlatform):
            limit = platform.gate.snapshot().limit
        return await plan(
            asked,
            self._roster(),
            policy=self.policy,
            pace=self.pace,
            knowledge=self._ours.knowledge,
            calls_per_second=limit,
            clock=self._ours.clock,
        )

    def _roster(self) -> AsyncRoster:
        platform: Any = self._ours.platform
        if not hasattr(platform, "roster"):
            name = "select" if isinstance(self._who, Criteria) else "dry_run"
            raise InvalidRequest(name, "the platform of this service cannot list its labs.")
        return cast(AsyncRoster, platform)

    async def _patiently(self, asking: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(WITHIN):
                return await asking
        except TimeoutError:
            raise PlatformSlow(retry_after=WITHIN / 4) from None


def _policy(asked: BatchAsked, policy: Policy) -> Policy:
    changes: dict[str, Any] = {}
    if asked.launch is not None:
        changes["launch"] = asked.launch
    if asked.policy is not None:
        changes |= asked.policy.model_dump(exclude_none=True)
    return dataclasses.replace(policy, **changes)


def _criteria(asked: SelectAsked) -> Criteria:
    return Criteria(
        everything=asked.everything,
        lab_profile_ids=tuple(asked.lab_profile_ids),
        class_id=asked.class_id,
        older_than_seconds=asked.older_than_seconds,
        idle_for_seconds=asked.idle_for_seconds,
        user_globs=tuple(asked.user_globs),
    )


def _listed(item: Item) -> ListedRow:
    return ListedRow(
        line=item.number,
        user_id=item.user_id,
        lab_profile_id=item.lab_profile_id,
        displace_instance_id=item.displace_instance_id,
        parameters=item.parameters,
    )
