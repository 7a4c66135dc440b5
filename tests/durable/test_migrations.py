"""Schemas go forwards only, and two adjacent versions of the program share a database."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from orchestrator.durable.migrating import Migration, migrations, read_migration, steps_from
from orchestrator.durable.sqlite import SQLiteRunStore, opening
from orchestrator.durable.store import Filter, Signals
from orchestrator.errors import StoreIncompatible
from orchestrator.machine.vocabulary import State
from tests.contract.stores import T0, after, ended, new_run, next_step
from tests.contract.test_batch_stores import new_batch, new_items

NOW = migrations("sqlite")
NEXT = len(NOW) + 1
#: What a next version of the program might bring: one that this one can live with, and one not.
ADDITION = Migration(NEXT, NEXT - 1, "ALTER TABLE runs ADD COLUMN colour TEXT DEFAULT 'blue';\n")
BREAK = Migration(NEXT, NEXT, "ALTER TABLE runs RENAME COLUMN run TO stored;\n")


class OfVersion(SQLiteRunStore):
    """The store of a program that knows these steps."""

    def __init__(self, path: Path, known: Sequence[Migration]) -> None:
        super().__init__(path)
        self._known = known

    def connect(self) -> sqlite3.Connection:
        return opening.connect(self.path, self._known)


def recorded(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version, readable_by FROM relaunch_schema").fetchall()


@pytest.fixture
def of_version_1(tmp_path: Path) -> Path:
    """A database as the first version of the program left it: see the dump's values."""
    path = tmp_path / "runs.db"
    dump = Path(__file__).with_name("sqlite_0001.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump)
    return path


# --- the first version's data ---------------------------------------------------------------


def test_the_first_versions_database_is_read_and_driven_on(of_version_1: Path) -> None:
    async def main() -> None:
        store = SQLiteRunStore(of_version_1)
        try:
            await check(store)
        finally:
            await store.close()

    async def check(store: SQLiteRunStore) -> None:
        new, waiting, finished = await store.history(Filter())
        assert (finished.run.relaunch_id, finished.run.state) == ("finished", State.LAUNCHED)
        assert (finished.key, finished.run.new_url) == ("monday", "https://labs.example/3")
        assert finished.run.parameters.variables == {"a": "b"}
        journal = [(e.progress.calling, e.tag) for e in await store.journal("finished")]
        assert journal == [("survey", None), ("launch", "relaunch=finished"), (None, None)]
        assert (new.run.user_id, new.priority.name, new.due_at) == ("bób", "BULK", T0 + 2)
        assert (waiting.run.target, waiting.owner, waiting.admitted) == (41, "dead process", True)
        assert waiting.signals == Signals(hints=1, hinted=41)
        assert await store.change("budget", lambda text: (text, text)) == '{"tokens":3}'
        assert await store.claim("waiting", "me", at=T0 + 4) is None
        assert await store.due("me", at=T0 + 9) == ("new", "waiting")
        claimed = await store.claim("waiting", "me", at=T0 + 9)
        assert claimed is not None
        step = next_step(claimed, State.LAUNCHED, hints_seen=1)
        await store.append(step)
        assert await store.load("waiting") == after(claimed, step)
        assert (await store.create(new_run("r1"), at=T0, key="monday"))[0] == finished
        assert await store.prune(before=T0 + 100) == 2

    asyncio.run(main())
    assert recorded(of_version_1) == [(NOW[-1].version, NOW[-1].readable_by)]


# --- two versions, one database -------------------------------------------------------------


def test_a_program_uses_the_next_schema_if_that_lets_it(of_version_1: Path) -> None:
    async def main() -> None:
        newer = OfVersion(of_version_1, (*NOW, ADDITION))
        older = SQLiteRunStore(of_version_1)
        try:
            await newer.open()
            await ended(older, new_run("r1", "cay"))
            await ended(newer, new_run("r2", "cay"))
            histories = [await store.history(Filter()) for store in (older, newer)]
            assert histories[0] == histories[1]
            assert len(histories[0]) == 5
        finally:
            await newer.close()
            await older.close()

    asyncio.run(main())
    assert recorded(of_version_1) == [(NEXT, NEXT - 1)]


def test_a_program_leaves_a_schema_alone_that_is_too_new(of_version_1: Path) -> None:
    async def main() -> None:
        newer = OfVersion(of_version_1, (*NOW, BREAK))
        older = SQLiteRunStore(of_version_1)
        try:
            await newer.open()
            with pytest.raises(StoreIncompatible, match="Upgrade this program"):
                await older.create(new_run("r1"), at=T0)
        finally:
            await newer.close()
            await older.close()

    asyncio.run(main())
    assert recorded(of_version_1) == [(NEXT, NEXT)]


def test_a_program_that_is_overtaken_while_it_runs_is_told_so(of_version_1: Path) -> None:
    async def main() -> None:
        older = SQLiteRunStore(of_version_1)
        try:
            await older.open()
            opening.connect(of_version_1, (*NOW, BREAK)).close()
            with pytest.raises(StoreIncompatible, match="changed by a newer version"):
                await older.load("new")
        finally:
            await older.close()

    asyncio.run(main())


def test_a_program_without_batches_shares_a_database_with_one_that_has_them(
    of_version_1: Path,
) -> None:
    async def main() -> None:
        older, newer = OfVersion(of_version_1, NOW[:1]), SQLiteRunStore(of_version_1)
        try:
            await older.open()
            assert recorded(of_version_1) == [(1, 1)]
            batch, items = new_batch(total=2), new_items(2)
            assert await newer.batches.create(batch, items) == (batch, True)
            await ended(older, new_run("r1", "cay"))
            assert await newer.batches.begin("monday", 1, attempt=1, relaunch_id="r1", at=T0)
            assert len(await older.history(Filter())) == 4
            assert await older.prune(before=T0 + 1e6) == 2
            await older.close()
            await older.open()
            assert await older.unfinished() == 2
            assert await newer.batches.load("monday") == batch
            assert [s.relaunch_id for s in await newer.batches.items("monday")] == ["r1", None]
        finally:
            await newer.close()
            await older.close()

    asyncio.run(main())
    assert recorded(of_version_1) == [(NOW[-1].version, NOW[-1].readable_by)]


# --- the rules ------------------------------------------------------------------------------


def step(version: int, readable_by: int) -> Migration:
    return Migration(version, readable_by, "")


ONE, TWO, THREE = step(1, 1), step(2, 1), step(3, 3)


@pytest.mark.parametrize(
    ("found", "known", "applied"),
    [
        (None, (ONE, TWO, THREE), (ONE, TWO, THREE)),
        ((1, 1), (ONE, TWO, THREE), (TWO, THREE)),
        ((3, 3), (ONE, TWO, THREE), ()),
        ((2, 1), (ONE,), ()),
        ((4, 3), (ONE, TWO, THREE), ()),
    ],
)
def test_what_is_missing_is_applied_in_order(
    found: tuple[int, int] | None, known: Sequence[Migration], applied: Sequence[Migration]
) -> None:
    assert steps_from(found, known) == applied


@pytest.mark.parametrize("found", [(3, 3), (3, 2), (9, 2)])
def test_what_is_too_new_is_refused(found: tuple[int, int]) -> None:
    with pytest.raises(StoreIncompatible, match=f"schema {found[0]}"):
        steps_from(found, (ONE,))


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_the_steps_of_an_engine_are_whole_and_say_who_may_go_on(engine: Any) -> None:
    steps = migrations(engine)
    folder = resources.files("orchestrator.durable.migrations")
    names = sorted(f.name for f in folder.iterdir() if f.name.startswith(engine))
    assert names == [f"{engine}_{n:04}.sql" for n in range(1, len(steps) + 1)]
    assert [each.version for each in steps] == list(range(1, len(steps) + 1))
    assert all(1 <= each.readable_by <= each.version for each in steps)
    # Adjacent versions share: a step may shut out those before the last one only.
    assert all(each.readable_by <= max(1, each.version - 1) for each in steps)


def test_a_step_must_say_who_may_go_on() -> None:
    assert read_migration(2, "-- readable_by: 1\nSELECT 1;\n") == Migration(2, 1, "SELECT 1;\n")
    with pytest.raises(ValueError, match="readable_by"):
        read_migration(2, "SELECT 1;\n")


def test_statements_are_told_apart() -> None:
    script = "SELECT 1; -- one;\nSELECT\n ';',\n 2;\n"
    assert [re.sub(r"\s+", " ", s).strip() for s in opening.statements(script)] == [
        "SELECT 1; -- one;",
        "SELECT ';', 2;",
    ]


def test_a_step_that_fails_leaves_the_database_as_it_was(of_version_1: Path) -> None:
    broken = Migration(NEXT, 1, "CREATE TABLE half (way INTEGER);\nSELECT * FROM nowhere;\n")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        opening.connect(of_version_1, (*NOW, broken))
    assert recorded(of_version_1) == [(1, 1)]
    with closing(opening.connect(of_version_1, (*NOW, ADDITION))) as connection:
        assert connection.execute("SELECT DISTINCT colour FROM runs").fetchall() == [("blue",)]


# --- many at once ---------------------------------------------------------------------------


def test_many_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    path, failures = tmp_path / "fresh" / "runs.db", list[BaseException]()
    start = threading.Barrier(8)

    def work() -> None:
        try:
            start.wait()
            opening.connect(path).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert recorded(path) == [(NOW[-1].version, NOW[-1].readable_by)]


def test_several_processes_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    # Each says that it is ready, and opens the file when its input is closed.
    program = (
        "import sys; from pathlib import Path; from orchestrator.durable.sqlite import opening;"
        "print('ready', flush=True); sys.stdin.read();"
        "opening.connect(Path(sys.argv[1])).close()"
    )
    path = tmp_path / "runs.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    for process in processes:
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert recorded(path) == [(NOW[-1].version, NOW[-1].readable_by)]
