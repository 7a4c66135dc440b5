"""Whatever is asked of a store, in whatever order, it answers as the simplest one does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.store import Filter, RunStore, Step, StoredRun
from orchestrator.errors import StoreError
from orchestrator.machine.vocabulary import State
from orchestrator.requests import Priority
from tests.contract.stores import DATABASES, STORES, T0, Stores, new_run, next_step

#: Which of the runs begun so far, newest first; now and then none of them.
NONE = 7
RUNS = st.integers(0, NONE)
LEARNERS = st.sampled_from(["ann", "bób", "cay"])
KEYS = st.sampled_from([None, None, "k", "l"])
OWNERS = st.sampled_from(["me", "you"])
TARGETS = st.sampled_from([None, 5, 6])
STATES = st.sampled_from([State.TEARING_DOWN, State.LAUNCHING, State.LAUNCHED, State.FAILED])
AGAIN = st.sampled_from([False, False, False, True])
PASSING = st.sampled_from([0.0, 0.5, 3.0, 20.0])

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
        self.begun: list[str] = []
        self.steps: list[Step] = []
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def ask(self, question: Callable[[RunStore], Awaitable[Any]]) -> Any:
        """The answer, after making sure that both give the same."""

        async def answer(store: RunStore) -> Any:
            try:
                return await question(store)
            except StoreError as error:
                return type(error)

        expected = self.runner.run(answer(self.model))
        assert self.runner.run(answer(self.store)) == expected
        return expected

    def kept(self, relaunch_id: str) -> StoredRun | None:
        found = self.ask(lambda store: store.load(relaunch_id))
        return found if isinstance(found, StoredRun) else None

    def lives(self, owner: str) -> None:
        """In a fleet, which owner lives is not the store's business: there, each does for ever."""
        until = T0 + (3 if self.store.engine == "embedded" else 1e9)
        self.ask(lambda store: store.beat(owner, until=until))

    def at(self, which: int) -> str:
        """The id of a run that was begun (and perhaps pruned since)."""
        return "nothing" if which == NONE else self.begun[-1 - which % len(self.begun)]

    def begin(self, user_id: str, again: bool, **options: Any) -> None:
        """Begin a run or, if ``again``, the last one once more."""
        relaunch_id = self.at(0) if again else f"r{len(self.begun)}"
        run = new_run(relaunch_id, user_id, created_at=self.now, deadline_at=self.now + 30)
        answer = self.ask(lambda store: store.create(run, at=self.now, **options))
        if answer[1] and not again:
            self.begun.append(relaunch_id)

    @initialize()
    def it_begins(self) -> None:
        for owner in ("me", "you"):
            self.lives(owner)
        for user_id in ("ann", "bób"):
            self.begin(user_id, again=False)

    @rule(passing=PASSING)
    def time_passes(self, passing: float) -> None:
        self.now += passing

    @rule(
        user_id=LEARNERS,
        key=KEYS,
        priority=st.sampled_from(Priority),
        again=AGAIN,
        owner=st.sampled_from([None, "me", "you"]),
    )
    def create(self, user_id: str, again: bool, **options: Any) -> None:
        self.begin(user_id, again, **options)

    @rule(user_id=LEARNERS, key=KEYS, old=RUNS, stale=AGAIN, again=AGAIN)
    def supersede(self, user_id: str, key: str | None, old: int, stale: bool, again: bool) -> None:
        stored = self.kept(self.at(old))
        if stored is None or (stale and not self.steps):
            return
        step = self.steps[-1] if stale else next_step(stored, State.ABORTED)
        self.begin(user_id, again, key=key, replacing=step)

    @rule(which=RUNS, owner=OWNERS, take_over=st.booleans())
    def claim(self, which: int, owner: str, take_over: bool) -> None:
        self.ask(lambda store: store.claim(self.at(which), owner, at=self.now, take_over=take_over))

    @rule(which=RUNS, older=st.sampled_from([0, 0, 1]))
    def release(self, which: int, older: int) -> None:
        stored = self.kept(self.at(which))
        if stored is not None:
            self.ask(lambda store: store.release(self.at(which), stored.epoch - older))

    @rule(owner=OWNERS, lasting=PASSING)
    def beat(self, owner: str, lasting: float) -> None:
        if self.store.engine == "embedded":
            self.ask(lambda store: store.beat(owner, until=self.now + lasting))

    @rule(owner=OWNERS)
    def retire(self, owner: str) -> None:
        self.ask(lambda store: store.retire(owner))
        if self.store.engine == "fleet":
            self.lives(owner)

    @rule(which=RUNS, state=STATES, waits_for=TARGETS, wait=PASSING, seen=st.integers(0, 2))
    def append(
        self, which: int, state: State, waits_for: int | None, wait: float, seen: int
    ) -> None:
        stored = self.kept(self.at(which))
        if stored is not None:
            step = next_step(
                stored, state, target=waits_for, due_at=self.now + wait, hints_seen=seen
            )
            self.steps.append(step)
            self.ask(lambda store: store.append(step))

    @rule(back=st.integers(1, 3))
    def append_again(self, back: int) -> None:
        if len(self.steps) >= back:
            self.ask(lambda store: store.append(self.steps[-back]))

    @rule(instance=st.sampled_from([5, 6, 7]))
    def hint(self, instance: int) -> None:
        async def hit(store: RunStore) -> set[str]:
            return set(await store.hint(instance, at=self.now))

        self.ask(hit)

    @rule(which=RUNS)
    def request_abort(self, which: int) -> None:
        self.ask(lambda store: store.request_abort(self.at(which), at=self.now))

    @rule(which=RUNS, most=st.integers(0, 2))
    def admit(self, which: int, most: int) -> None:
        self.ask(lambda store: store.admit(self.at(which), at=self.now, most=most))

    @rule(owner=st.none() | OWNERS, limit=st.integers(1, 3))
    def due(self, owner: str | None, limit: int) -> None:
        self.ask(lambda store: store.due(owner, at=self.now, limit=limit))
        self.ask(lambda store: store.next_due(owner, after=self.now))

    @rule(
        user_id=st.none() | LEARNERS,
        state=st.none() | STATES,
        unfinished=st.none() | st.booleans(),
        since=st.none() | PASSING,
    )
    def history(
        self, user_id: str | None, state: State | None, unfinished: bool | None, since: float | None
    ) -> None:
        which = Filter(
            user_id=user_id,
            state=state and state.value,
            unfinished=unfinished,
            created_since=None if since is None else T0 + since,
            limit=3,
        )
        self.ask(lambda store: store.history(which))

    @rule(which=RUNS, after=st.integers(0, 2), epoch=st.integers(0, 2))
    def read(self, which: int, after: int, epoch: int) -> None:
        self.ask(lambda store: store.load(self.at(which)))
        self.ask(lambda store: store.journal(self.at(which), after=after))
        self.ask(lambda store: store.signals(self.at(which)))
        self.ask(lambda store: store.holds(self.at(which), epoch))

    @rule(passing=PASSING)
    def prune(self, passing: float) -> None:
        self.ask(lambda store: store.prune(before=T0 + passing))

    @rule(text=st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")))
    def change(self, text: str | None) -> None:
        self.ask(lambda store: store.change("text", lambda before: (text, before)))


@pytest.mark.parametrize("kind", DATABASES)
def test_a_store_answers_as_the_simplest_one_does(
    kind: str, request: pytest.FixtureRequest
) -> None:
    class OfThisKind(Agreeing):
        stores = STORES[kind](request)

    run_state_machine_as_test(OfThisKind)
