"""Whatever is asked of a store of batches, in whatever order, it answers as the simplest one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from orchestrator.durable.batches import BatchState, BatchStore, Pace
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.errors import StoreError
from orchestrator.machine.run import Policy
from tests.contract.stores import DATABASES, STORES, T0, Stores
from tests.contract.test_batch_stores import FAILED, LAUNCHED, new_batch, new_items

IDS = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(0, 4)
ATTEMPTS = st.integers(0, 3)
HOLDERS = st.sampled_from(["me", "you"])
STATES = st.sampled_from(BatchState)
PASSING = st.sampled_from([0.0, 0.5, 3.0])
EITHER = st.none() | st.booleans()

#: Each example has an API consumer of its own, so that one database serves them all.
_consumers = itertools.count()


class Agreeing(RuleBasedStateMachine):
    """A store, and beside it the model."""

    stores: Stores

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        consumer = f"consumer {next(_consumers)}"
        self.model = MemoryRunStore(consumer=consumer)
        self.store = self.stores.make(consumer)
        self.now = T0
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def ask(self, question: Callable[[BatchStore], Awaitable[Any]]) -> Any:
        """The answer, after making sure that both give the same."""

        async def answer(batches: BatchStore) -> Any:
            try:
                return await question(batches)
            except (StoreError, ValueError) as error:
                return type(error), str(error)

        expected = self.runner.run(answer(self.model.batches))
        assert self.runner.run(answer(self.store.batches)) == expected
        return expected

    @initialize()
    def it_begins(self) -> None:
        self.create("a", 4, "f", 0.0)

    @rule(passing=PASSING)
    def time_passes(self, passing: float) -> None:
        self.now += passing

    @rule(
        batch_id=IDS,
        total=st.integers(0, 4),
        fingerprint=st.sampled_from("fg"),
        older=PASSING,
    )
    def create(self, batch_id: str, total: int, fingerprint: str, older: float) -> None:
        batch = new_batch(
            batch_id,
            total,
            fingerprint=fingerprint,
            created_at=self.now - older,
            started_at=self.now,
        )
        self.ask(lambda batches: batches.create(batch, new_items(total)))

    @rule(batch_id=IDS, number=NUMBERS, attempt=ATTEMPTS, relaunch_id=st.sampled_from("rs"))
    def begin(self, batch_id: str, number: int, attempt: int, relaunch_id: str) -> None:
        at = self.now
        self.ask(
            lambda batches: batches.begin(
                batch_id, number, attempt=attempt, relaunch_id=relaunch_id, at=at
            )
        )

    @rule(
        batch_id=IDS,
        number=NUMBERS,
        attempt=ATTEMPTS,
        result=st.sampled_from([LAUNCHED, FAILED, replace(FAILED, outcome="gave_up")]),
    )
    def finish(self, batch_id: str, number: int, attempt: int, result: Any) -> None:
        at = self.now
        self.ask(lambda batches: batches.finish(batch_id, number, result, attempt=attempt, at=at))

    @rule(
        batch_id=IDS,
        state=STATES,
        only_from=st.frozensets(STATES),
        reason=st.none() | st.just("on_error"),
        pace=st.none() | st.just(Pace(concurrency=1)),
        policy=st.none() | st.just(Policy(launch=False)),
    )
    def change(self, batch_id: str, state: BatchState, **options: Any) -> None:
        self.ask(lambda batches: batches.change(batch_id, state, at=self.now, **options))

    @rule(batch_id=IDS, holder=HOLDERS, lasting=PASSING)
    def hold(self, batch_id: str, holder: str, lasting: float) -> None:
        until = self.now + lasting
        self.ask(lambda batches: batches.hold(batch_id, holder, at=self.now, until=until))

    @rule(batch_id=IDS, holder=HOLDERS)
    def let_go(self, batch_id: str, holder: str) -> None:
        self.ask(lambda batches: batches.let_go(batch_id, holder))

    @rule(
        batch_id=IDS,
        after=st.integers(0, 3),
        limit=st.none() | st.integers(0, 3),
        begun=EITHER,
        ended=EITHER,
    )
    def items(self, batch_id: str, **which: Any) -> None:
        self.ask(lambda batches: batches.items(batch_id, **which))
        self.ask(lambda batches: batches.counts(batch_id))
        self.ask(lambda batches: batches.load(batch_id))

    @rule(unfinished=EITHER, limit=st.integers(1, 3), fingerprint=st.sampled_from("fgh"))
    def look(self, unfinished: bool | None, limit: int, fingerprint: str) -> None:
        self.ask(lambda batches: batches.history(unfinished=unfinished, limit=limit))
        self.ask(lambda batches: batches.find(fingerprint))

    @rule(passing=PASSING)
    def prune(self, passing: float) -> None:
        self.ask(lambda batches: batches.prune(before=T0 + passing))


@pytest.mark.parametrize("kind", DATABASES)
def test_a_store_answers_as_the_simplest_one_does(
    kind: str, request: pytest.FixtureRequest
) -> None:
    class OfThisKind(Agreeing):
        stores = STORES[kind](request)

    run_state_machine_as_test(OfThisKind)
