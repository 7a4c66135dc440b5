"""The SQLite store, beyond the contract: the file, the thread, and what goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.durable.batches import BatchState, Item
from orchestrator.durable.sqlite import SQLiteRunStore, batch_statements, opening
from orchestrator.durable.store import Filter, StoredRun
from orchestrator.errors import StoreIncompatible, StoreUnavailable
from orchestrator.machine.run import Policy
from orchestrator.machine.vocabulary import State
from tests.contract.stores import T0, after, begun, ended, new_run, next_step
from tests.contract.test_batch_stores import LAUNCHED, new_batch, new_items


class TracedStore(SQLiteRunStore):
    """Remembers the statements, runs ``first`` on a new connection, and can be held up."""

    def __init__(self, path: Path, first: str = "") -> None:
        super().__init__(path)
        self.statements: list[str] = []
        self._first = first

    def connect(self) -> sqlite3.Connection:
        connection = super().connect()
        if self._first:
            connection.execute(self._first)
        connection.set_trace_callback(self.statements.append)
        return connection

    def commits(self) -> int:
        return self.statements.count("COMMIT")

    async def held_up(self) -> threading.Event:
        """Keep the thread busy until the event is set."""
        reached, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def wait(text: str | None) -> tuple[str | None, None]:
            loop.call_soon_threadsafe(reached.set)
            go_on.wait(20)
            return text, None

        self.holding = asyncio.create_task(self.change("held up", wait))
        await reached.wait()
        return go_on


def using(store: SQLiteRunStore, use: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run ``use``, then close the store."""

    async def main() -> None:
        try:
            await use()
        finally:
            await store.close()

    asyncio.run(main())


def rows_of(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# --- the file -------------------------------------------------------------------------------


def test_the_file_and_its_folder_are_made_for_nobody_else_to_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "relaunch" / "runs.db"
    store = SQLiteRunStore(str(path))

    async def use() -> None:
        await store.create(new_run("r1"), at=T0)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    using(store, use)
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


def test_a_commit_is_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    with closing(opening.connect(tmp_path / "runs.db")) as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert found == ["wal", 2, 1, 1]


def test_nothing_personal_is_left_in_any_file_after_pruning(tmp_path: Path) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")
    secret = "https://labs.example/enter?token=unmistakable"

    def is_there() -> bool:
        return any(b"unmistakable" in file.read_bytes() for file in tmp_path.iterdir())

    async def use() -> None:
        last = await begun(store, new_run("r1", "unmistakable learner"), key="unmistakable key")
        step = next_step(last, State.LAUNCHED, new_url=secret)
        await store.append(step)
        await ended(store, new_run("r2", "bob"))
        assert is_there()
        assert await store.prune(before=T0 + 100) == 2
        assert not is_there()

    using(store, use)
    assert not is_there()
    assert rows_of(store.path, "SELECT count(*) FROM journal") == [(0,)]


def test_more_is_pruned_than_fits_into_one_transaction(tmp_path: Path) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")

    async def use() -> None:
        await asyncio.gather(*(ended(store, new_run(f"r{n}", f"l{n}")) for n in range(401)))
        assert await store.prune(before=T0 + 100) == 401
        assert await store.history(Filter()) == ()

    using(store, use)


def test_owners_that_died_long_ago_are_forgotten_with_one_that_retires(tmp_path: Path) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")

    async def use() -> None:
        for owner, until in [("long dead", T0), ("dead", T0 + 80_000), ("me", T0 + 90_000)]:
            await store.beat(owner, until=until)
        await store.retire("me")
        await store.retire("never lived")

    using(store, use)
    assert rows_of(store.path, "SELECT owner FROM owners") == [("dead",)]


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 100])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    store = SQLiteRunStore(path)

    async def use() -> None:
        with pytest.raises(StoreIncompatible, match=r"runs\.db is not a store"):
            await store.open()

    using(store, use)
    assert path.read_bytes() == content


def test_a_place_that_can_not_be_opened_is_unavailable_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = SQLiteRunStore(tmp_path / "file" / "runs.db")

    async def use() -> None:
        with pytest.raises(StoreUnavailable, match="permissions"):
            await store.open()
        (tmp_path / "file").unlink()
        assert (await store.create(new_run("r1"), at=T0))[1]

    using(store, use)


def test_a_run_that_launches_nothing_is_marked_for_older_programs_to_leave_alone(
    tmp_path: Path,
) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")

    async def use() -> None:
        for number, policy in enumerate((Policy(), Policy(launch=False))):
            stored = await begun(store, new_run(f"r{number}", f"l{number}", policy=policy))
            await store.append(next_step(stored))

    using(store, use)
    found = rows_of(store.path, "SELECT relaunch_id, run_schema FROM runs ORDER BY relaunch_id")
    assert found == [("r0", 1), ("r1", 2)]


# --- the thread -----------------------------------------------------------------------------


def test_what_waits_while_the_thread_is_busy_costs_one_commit(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db")

    async def use() -> None:
        held = [await begun(store, new_run(f"r{n}", f"l{n}")) for n in range(40)]
        go_on = await store.held_up()
        before = store.commits()
        steps = [next_step(each) for each in held]
        appends = [asyncio.create_task(store.append(step)) for step in steps]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(store.holding, *appends)
        assert store.commits() == before + 2
        for each, step in zip(held, steps, strict=True):
            assert await store.load(each.run.relaunch_id) == after(each, step)

    using(store, use)


def test_reads_need_no_lock_and_no_transaction(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db")

    async def use() -> None:
        await store.create(new_run("r1"), at=T0)
        store.statements.clear()
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await store.load("r1")
            await store.holds("r1", 1)
            await store.signals("r1")
            await store.due(None, at=T0)
            await store.next_due(None, after=T0)
            await store.journal("r1")
            await store.history(Filter())
            other.execute("ROLLBACK")
        assert all(statement.startswith("SELECT") for statement in store.statements)

    using(store, use)


def test_what_nobody_changes_is_not_written(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db")

    async def use() -> None:
        await store.change("budget", lambda text: ("full", None))
        store.statements.clear()
        await store.change("budget", lambda text: (text, None))
        assert [s.split()[0] for s in store.statements] == ["BEGIN", "SELECT", "COMMIT"]

    using(store, use)


def test_several_event_loops_use_one_store_at_once(tmp_path: Path) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")
    failures: list[BaseException] = []

    async def drive(n: int) -> None:
        for k in range(5):
            stored = await ended(store, new_run(f"r{n}-{k}", f"l{n}"))
            assert await store.load(f"r{n}-{k}") == stored

    def work(n: int) -> None:
        try:
            asyncio.run(drive(n))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(asyncio.run(store.history(Filter()))) == 30
    asyncio.run(store.close())


def test_a_closed_store_opens_again_when_it_is_used(tmp_path: Path) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")

    async def use() -> None:
        await store.close()
        await store.open()
        created = asyncio.create_task(store.create(new_run("r1"), at=T0))
        await asyncio.sleep(0)
        await store.close()
        assert created.done()
        await store.close()
        assert (await store.load("r1")).run == new_run("r1")

    using(store, use)


def test_who_stops_waiting_for_an_answer_disturbs_nobody(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db")

    async def use() -> None:
        await store.open()
        go_on = await store.held_up()
        impatient = asyncio.create_task(store.create(new_run("r1"), at=T0))
        patient = asyncio.create_task(store.create(new_run("r2", "bob"), at=T0))
        await asyncio.sleep(0)
        impatient.cancel()
        go_on.set()
        assert (await patient)[1]
        await store.holding
        assert impatient.cancelled()

    using(store, use)


def test_nobody_is_asked_for_changes_while_nobody_watches(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db")

    async def use() -> None:
        await store.open()
        told = asyncio.Event()
        stop = store.watch(lambda relaunch_id: told.set())
        await told.wait()
        with closing(opening.connect(store.path)) as connection:
            assert store.poll(connection) is not None
            stop()
            assert store.poll(connection) is None

    using(store, use)


# --- what goes wrong ------------------------------------------------------------------------


def test_a_lock_that_lasts_makes_the_store_unavailable_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 0.01)
    store = SQLiteRunStore(tmp_path / "runs.db")

    async def use() -> None:
        stored = await begun(store, new_run("r1"))
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answers = await asyncio.gather(
                store.append(next_step(stored)),
                store.create(new_run("r2", "bob"), at=T0),
                store.load("r1"),
                return_exceptions=True,
            )
            other.execute("ROLLBACK")
        assert [type(answer) for answer in answers] == [
            StoreUnavailable, StoreUnavailable, StoredRun,
        ]  # fmt: skip
        assert "locked" in str(answers[0])
        assert await store.load("r1") == stored
        await store.append(next_step(stored))

    using(store, use)


def test_batches_that_can_not_be_changed_for_a_lock_are_changed_by_the_same_calls_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 0.01)
    store = SQLiteRunStore(tmp_path / "runs.db")
    batches = store.batches
    calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: batches.create(new_batch(), new_items()),
        lambda: batches.begin("monday", 1, attempt=1, relaunch_id="r", at=T0),
        lambda: batches.finish("monday", 1, LAUNCHED, attempt=1, at=T0),
        lambda: batches.hold("monday", "me", at=T0, until=T0 + 1),
        lambda: batches.let_go("monday", "me"),
        lambda: batches.change("monday", BatchState.ENDED, only_from=frozenset(BatchState), at=T0),
        lambda: batches.prune(before=T0 + 1),
    ]

    async def use() -> None:
        await store.open()
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            for call in calls:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailable, match="locked"):
                    await call()
                other.execute("ROLLBACK")
                await call()
        assert await batches.history() == ()

    using(store, use)


def test_a_batch_that_does_not_fit_on_the_disk_is_not_stored_in_part(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db", first="PRAGMA max_page_count = 60")

    async def use() -> None:
        await store.batches.create(new_batch("small", 3), new_items())
        with pytest.raises(StoreUnavailable, match="full"):
            await store.batches.create(new_batch(total=5000), new_items(5000))
        assert [batch.batch_id for batch in await store.batches.history()] == ["small"]

    using(store, use)
    assert rows_of(store.path, "SELECT count(*) FROM batch_items") == [(3,)]


def test_nobody_of_a_batch_is_left_in_any_file_after_pruning(tmp_path: Path) -> None:
    store = SQLiteRunStore(tmp_path / "runs.db")

    def is_there() -> bool:
        return any(b"unmistakable" in file.read_bytes() for file in tmp_path.iterdir())

    async def use() -> None:
        item = Item(number=1, user_id="unmistakable", lab_profile_id=7)
        await store.batches.create(new_batch(total=1, ended_at=T0), [item])
        assert is_there()
        assert await store.batches.prune(before=T0 + 1) == 1
        assert not is_there()

    using(store, use)


def test_items_that_begin_while_the_thread_is_busy_cost_one_commit(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db")

    async def use() -> None:
        await store.batches.create(new_batch(total=40), new_items(40))
        go_on = await store.held_up()
        before = store.commits()
        begun = [
            asyncio.create_task(
                store.batches.begin("monday", n, attempt=1, relaunch_id=f"r{n}", at=T0)
            )
            for n in range(1, 41)
        ]
        await asyncio.sleep(0)
        go_on.set()
        assert all(await asyncio.gather(*begun))
        await store.holding
        assert store.commits() == before + 2

    using(store, use)


@pytest.mark.parametrize(
    ("asked", "searched"),
    [
        ({"begun": False, "ended": None}, "batch=? AND standing=? AND number>?"),
        ({"begun": None, "ended": False}, "batch=? AND standing=? AND number>?"),
        ({"begun": True, "ended": False}, "batch=? AND standing=? AND number>?"),
        ({"begun": None, "ended": True}, "batch=? AND number>?"),
        ({"begun": None, "ended": None}, "batch=? AND number>?"),
    ],
)
def test_items_are_found_in_order_and_counted_by_an_index(
    tmp_path: Path, asked: dict[str, Any], searched: str
) -> None:
    with closing(opening.connect(tmp_path / "runs.db")) as connection:

        def plan(query: str, values: Sequence[Any]) -> list[str]:
            found = connection.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
            return [line[3] for line in found if "batch_items" in line[3] or "ORDER" in line[3]]

        searches = plan(*batch_statements.items(1, after=5, limit=10, **asked))
        counting = plan(batch_statements.COUNTS, (1,))
    several = asked == {"begun": None, "ended": False}
    # What is sorted are two times ten at most.
    assert any("ORDER BY" in line for line in searches) == several
    found = [line for line in searches if "ORDER BY" not in line]
    assert len(found) == (2 if several else 1)
    assert all(searched in line for line in found)
    assert len(counting) == 1
    assert "COVERING INDEX batch_items_by_standing" in counting[0]


def test_a_full_disk_stores_nothing_of_what_was_to_be_committed_together(tmp_path: Path) -> None:
    store = TracedStore(tmp_path / "runs.db", first="PRAGMA max_page_count = 40")

    async def use() -> None:
        stored = await begun(store, new_run("r1"))
        go_on = await store.held_up()
        small = asyncio.create_task(store.append(next_step(stored)))
        big = asyncio.create_task(store.create(new_run("r2", "bob", note="x" * 500_000), at=T0))
        await asyncio.sleep(0)
        go_on.set()
        answers = await asyncio.gather(small, big, return_exceptions=True)
        await store.holding
        assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
        assert await store.load("r1") == stored
        await store.append(next_step(stored))
        assert len(await store.history(Filter())) == 1

    using(store, use)


class _LosesAnswers:
    """A connection whose next commit succeeds, and seems to have failed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.lose = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        cursor = self._connection.execute(statement, *values)
        if statement == "COMMIT" and self.lose:
            self.lose = False
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


class _ForgetfulStore(SQLiteRunStore):
    def connect(self) -> sqlite3.Connection:
        self.connection = _LosesAnswers(super().connect())
        return cast(sqlite3.Connection, self.connection)


def test_whatever_was_committed_without_an_answer_may_be_asked_again(tmp_path: Path) -> None:
    store = _ForgetfulStore(tmp_path / "runs.db")

    async def twice(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        store.connection.lose = True
        with pytest.raises(StoreUnavailable, match="asking again is safe"):
            await call()
        return await call()

    async def use() -> None:
        await store.open()
        first, created = await twice(lambda: store.create(new_run("r1"), at=T0, key="k"))
        assert created
        first = await twice(lambda: store.claim("r1", "me", at=T0))
        ending = next_step(first, State.ABORTED)
        _, created = await twice(
            lambda: store.create(new_run("r2"), at=T0, key="l", replacing=ending)
        )
        assert created
        stored = await store.claim("r2", "me", at=T0)
        assert stored is not None
        step = next_step(stored, State.TEARING_DOWN, target=5)
        await twice(lambda: store.append(step))
        stored = after(stored, step)
        assert await twice(lambda: store.hint(5, at=T0)) == ("r2",)
        assert await twice(lambda: store.request_abort("r2", at=T0))
        step = next_step(stored, State.ABORTED)
        assert (await twice(lambda: store.append(step))).abort_requested
        assert [len(await store.journal(each)) for each in ("r1", "r2")] == [1, 2]
        await twice(lambda: store.retire("me"))

    using(store, use)
