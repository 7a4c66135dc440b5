"""Every kind of run store, opened for a test, and short ways to say what is to be stored.

A new kind joins the contract by one line in :data:`STORES`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator import LaunchParameters, Run
from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.sqlite import SQLiteRunStore
from orchestrator.durable.store import Entry, RunStore, Step, StoredRun
from orchestrator.machine.vocabulary import State
from orchestrator.progress import progress_of

#: A moment after which everything here happens.
T0 = 1_800_000_000.0

#: What makes the stored runs and batches those of a newer program.
NEWER = (
    "UPDATE {schema}runs SET run_schema = 99, run = replace(run, '\"schema\":1', '\"schema\":99')",
    "UPDATE {schema}batches SET batch_schema = 99",
)


@dataclass
class Stores:
    """One place where runs are kept; ``make`` opens it for a consumer, as often as wanted.

    ``make_newer`` turns all its runs and batches into those of a newer program (``None``: it
    stores no text).
    """

    make: Callable[[str], RunStore]
    make_newer: Callable[[], None] | None = None
    _opened: list[RunStore] = field(default_factory=list)

    async def open(self, consumer: str = "default") -> RunStore:
        """A store; closed with the test."""
        store = self.make(consumer)
        await store.open()
        self._opened.append(store)
        return store

    async def close(self) -> None:
        """Close all of them."""
        for store in self._opened:
            await store.close()


def _memory(request: pytest.FixtureRequest) -> Stores:
    kept: dict[str, MemoryRunStore] = {}
    return Stores(lambda consumer: kept.setdefault(consumer, MemoryRunStore(consumer=consumer)))


def _sqlite(request: pytest.FixtureRequest) -> Stores:
    path = request.getfixturevalue("tmp_path") / "folder" / "relaunch.db"

    def make_newer() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in NEWER:
                connection.execute(statement.format(schema=""))

    return Stores(lambda consumer: SQLiteRunStore(path, consumer=consumer), make_newer)


def _postgres(request: pytest.FixtureRequest) -> Stores:
    url = request.getfixturevalue("postgres_url")
    # After the fixture, which skips the test where the extra is not installed.
    import psycopg

    from orchestrator.durable.postgres import PostgresRunStore

    def make_newer() -> None:
        with psycopg.connect(url) as connection:
            for statement in NEWER:
                connection.execute(statement.format(schema="lab_relaunch.").encode())

    return Stores(lambda consumer: PostgresRunStore(url, consumer=consumer), make_newer)


STORES: dict[str, Callable[[pytest.FixtureRequest], Stores]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgres": _postgres,
}
DATABASES = [kind for kind in STORES if kind != "memory"]


def contract(
    *kinds: str,
) -> Callable[[Callable[[Stores], Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Make a test of each kind of store (or of those named) of a coroutine function."""

    def decorate(test: Callable[[Stores], Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @pytest.mark.parametrize("kind", kinds or STORES)
        def run(kind: str, request: pytest.FixtureRequest) -> None:
            stores = STORES[kind](request)

            async def main() -> None:
                try:
                    await test(stores)
                finally:
                    await stores.close()

            asyncio.run(main())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


def new_run(relaunch_id: str, user_id: str = "ann", **known: Any) -> Run:
    """A run that has not begun."""
    fields = {"lab_profile_id": 7, "created_at": T0, "deadline_at": T0 + 900.0, **known}
    return Run(relaunch_id=relaunch_id, user_id=user_id, **fields)


def with_everything(relaunch_id: str, user_id: str) -> Run:
    """A run that says something in each kind of field."""
    parameters = LaunchParameters(
        first_name="Änn \0 \ud800 \\", role_ids=(1, 2), variables={"naïve": "{\"'}"}
    )
    return new_run(relaunch_id, user_id, parameters=parameters, note="line\nline", known=(1, 2))


def next_step(
    stored: StoredRun,
    state: State = State.TEARING_DOWN,
    *,
    due_at: float = T0 + 60.0,
    hints_seen: int = 0,
    calling: str | None = None,
    **known: Any,
) -> Step:
    """The step that follows what is stored: the run is in ``state``, and this much is known."""
    run = replace(stored.run, state=state, **known)
    version = stored.version + 1
    progress = progress_of(
        run, sequence=version, at=T0 + version, calling=calling, next_look_at=due_at
    )
    return Step(
        run=run,
        entry=Entry(event="Woke", progress=progress, tag=run.tag if calling == "launch" else None),
        epoch=stored.epoch,
        due_at=due_at,
        api_calls=version,
        hints_seen=hints_seen,
    )


def after(stored: StoredRun, step: Step) -> StoredRun:
    """What is stored after the step, unless something else happens to the run."""
    ended = step.run.state.is_terminal
    at = step.entry.progress.at
    return replace(
        stored,
        run=step.run,
        version=stored.version + 1,
        due_at=None if ended else step.due_at,
        owner=None if ended else stored.owner,
        api_calls=step.api_calls,
        hints_seen=step.hints_seen,
        updated_at=at,
        finished_at=at if ended else None,
    )


async def begun(store: RunStore, run: Run, owner: str = "me", **options: Any) -> StoredRun:
    """The run, stored and claimed."""
    await store.create(run, at=T0, **options)
    claimed = await store.claim(run.relaunch_id, owner, at=T0)
    assert claimed is not None
    return claimed


async def taken(store: RunStore, stored: StoredRun, state: State, **known: Any) -> StoredRun:
    """The run after one more step."""
    step = next_step(stored, state, **known)
    await store.append(step)
    return after(stored, step)


async def ended(
    store: RunStore, run: Run, state: State = State.LAUNCHED, **options: Any
) -> StoredRun:
    """The run, stored and driven to its end."""
    return await taken(store, await begun(store, run, **options), state)
