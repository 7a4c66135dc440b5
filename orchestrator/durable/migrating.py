"""Which steps bring a database's schema up to date, and whether it may be used at all.

Forwards only. A database records the version of its schema and ``readable_by``, the oldest schema
whose program may still use it, so that two adjacent versions of the program share one: a program
of schema N uses a database of N + 1 as it is if that says ``readable_by`` N or less. What is to be
applied is decided and done within one transaction that holds the write lock, so that of two
programs that open a fresh database at once one makes the schema and the other finds it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from orchestrator.errors import StoreIncompatible

Engine = Literal["sqlite", "postgres"]

#: Where a database records them; no row: none was applied yet. For every engine.
TABLE = """\
CREATE TABLE IF NOT EXISTS relaunch_schema (
    version INTEGER NOT NULL,
    readable_by INTEGER NOT NULL
)"""

_FIRST_LINE = re.compile(r"-- readable_by: (\d+)\n")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: the statements that lead to schema ``version``.

    ``readable_by`` is the oldest schema whose program may use the database after it.
    """

    version: int
    readable_by: int
    sql: str


@cache
def migrations(engine: Engine) -> tuple[Migration, ...]:
    """The steps of an engine that this program knows, in order."""
    folder = resources.files("orchestrator.durable.migrations")
    found = sorted(
        (f for f in folder.iterdir() if re.fullmatch(rf"{engine}_\d{{4}}\.sql", f.name)),
        key=lambda f: f.name,
    )
    return tuple(
        read_migration(version, file.read_text(encoding="utf-8"))
        for version, file in enumerate(found, 1)
    )


def read_migration(version: int, text: str) -> Migration:
    """A step from its file's text."""
    first = _FIRST_LINE.match(text)
    if first is None:
        raise ValueError(f"schema {version}: the first line must be '-- readable_by: N'")
    return Migration(version, int(first[1]), text[first.end() :])


def steps_from(found: tuple[int, int] | None, known: Sequence[Migration]) -> tuple[Migration, ...]:
    """The steps to apply to a database that records ``found`` (version, ``readable_by``).

    ``None`` stands for a fresh one. Raises :class:`~orchestrator.errors.StoreIncompatible` if it is
    too new for the program that knows these steps.
    """
    version, readable_by = found or (0, 0)
    newest = known[-1].version
    if version > newest and readable_by > newest:
        raise StoreIncompatible(
            f"The store has schema {version}, for programs of schema {readable_by} and later; this "
            f"program is of schema {newest}. Nothing was read or changed. Upgrade this program, or "
            "give it another store."
        )
    return tuple(m for m in known if m.version > version)
