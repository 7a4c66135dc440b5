"""A list of learners, CSV or JSON Lines, becomes rows; or everything that is wrong with it is told.

* All problems are gathered, each with its line, and then nothing is done. Only what makes the rest
  unreadable ends the reading: a quote that is never closed, or a header that isn't there.
* What is too big is refused before it is read: no list takes more memory than a few of its
  :data:`LARGEST` bytes.
* What spreadsheet programs write is read: commas, semicolons or tabs (the header tells which),
  UTF-8 with or without a mark, UTF-16 with one.
* A learner stands in a list once. Where nothing is launched, once for each lab.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

from orchestrator.batch import columns
from orchestrator.batch.columns import VARIABLE, Unfit
from orchestrator.batch.encodings import decoded, lines_of
from orchestrator.batch.problems import InvalidListing, Problem, Problems
from orchestrator.labs import LaunchParameters

__all__ = [
    "LARGEST",
    "MOST_ROWS",
    "InvalidListing",
    "Kind",
    "ListedRow",
    "Problem",
    "read_rows",
]

Kind = Literal["csv", "jsonl"]

#: Bytes and rows that a list may have.
LARGEST, MOST_ROWS = 20_000_000, 100_000

_KINDS: dict[str, Kind] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".json": "jsonl",
}  # fmt: skip
_BARE = LaunchParameters()
_PLACES = ("user_id", "lab_profile_id", "displace_instance_id")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_CHUNK = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRow:
    """One learner of a list; ``line`` is where the row begins."""

    line: int
    user_id: str
    lab_profile_id: int | None = None
    displace_instance_id: int | None = None
    parameters: LaunchParameters = field(default_factory=LaunchParameters, repr=False)


def read_rows(
    source: str | Path | BinaryIO,
    *,
    name: str,
    kind: Kind | None = None,
    launch: bool = True,
    default_lab: int | None = None,
) -> tuple[ListedRow, ...]:
    """The rows of a list; ``name`` is what errors call it. Raises :class:`InvalidListing`.

    ``kind``: by the name's ending, if not told, or else by how the list begins. ``default_lab``
    is the lab profile of each row that has none; without it, only where nothing is launched (not
    ``launch``) may a row have none.
    """
    problems = Problems(name)
    text = decoded(_whole(source, problems), problems)
    reading = _Reading(problems, launch=launch, default_lab=default_lab)
    kind = kind or _KINDS.get(Path(name).suffix.lower()) or _guessed(text)
    if not text.strip():
        problems.end(0, "", "it is empty")
    (reading.json_lines if kind == "jsonl" else reading.table)(text)
    if not reading.rows and not problems.total:
        problems.end(0, "", "it lists nobody: there is no row under the header")
    problems.raise_if_any()
    return tuple(reading.rows)


def _whole(source: str | Path | BinaryIO, problems: Problems) -> bytes:
    """All bytes, unless they are too many; then no more than the limit is read."""
    if not isinstance(source, str | Path):
        return _limited(source, problems)
    try:
        if Path(source).stat().st_size > LARGEST:
            _too_big(problems)
        with Path(source).open("rb") as file:
            return _limited(file, problems)
    except OSError as error:
        problems.end(0, "", f"it cannot be read ({error.strerror or type(error).__name__})")


def _limited(stream: BinaryIO, problems: Problems) -> bytes:
    data = bytearray()
    while chunk := stream.read(_CHUNK):
        data += chunk
        if len(data) > LARGEST:
            _too_big(problems)
    return bytes(data)


def _too_big(problems: Problems) -> NoReturn:
    problems.end(
        0, "", f"it is larger than {LARGEST // 1_000_000} MB, and was not read; split the list"
    )


def _guessed(text: str) -> Kind:
    return "jsonl" if text.lstrip()[:1] in ("{", "[") else "csv"


class _Reading:
    """One list being read, whatever its form."""

    def __init__(self, problems: Problems, *, launch: bool, default_lab: int | None) -> None:
        self._problems = problems
        self._launch = launch
        self._default_lab = default_lab
        self._seen: dict[tuple[object, ...], int] = {}
        self._count = 0
        self.rows: list[ListedRow] = []

    # --- CSV ----------------------------------------------------------------------------------

    def table(self, text: str) -> None:
        """Read a table with a header."""
        separator, skipped = _separator_of(text)
        records = self._records(text, separator, skipped)
        headed = next(records, None)
        if headed is None:
            return
        headings = self._header(*headed)
        for line, cells in records:
            self._count_one()
            if len(cells) != len(headings):
                few = "few" if len(cells) < len(headings) else "many"
                told = f"too {few} cells: {len(cells)} instead of {len(headings)}"
                self._problems.add(line, "", told)
                continue
            values: dict[str, Any] = {}
            for column, cell in zip(headings, cells, strict=True):
                if column:
                    values[column] = self._value(line, column, cell, columns.of_cell)
                elif column is None and cell.strip():
                    self._problems.add(line, "", f"{columns.shown(cell)} stands under no heading")
            self._take(line, values)

    def _records(self, text: str, separator: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
        """Each record that isn't blank, with the line that it begins in."""
        reader = csv.reader(lines_of(text), delimiter=separator, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._malformed(line, str(error))
                continue
            if line > skipped and any(cell.strip() for cell in cells):
                yield line, cells

    def _malformed(self, line: int, error: str) -> None:
        """A quote gone wrong; where its end is not in sight, nothing after it makes sense."""
        if "end of data" in error:
            told = "a quote is opened here and never closed; nothing after it was read"
            self._problems.end(line, "", told)
        if "field limit" in error:
            told = f"a cell is longer than {csv.field_size_limit():,} characters; was a quote"
            self._problems.end(line, "", f"{told} never closed? Nothing after it was read")
        told = "a quoted cell goes on after its closing quote; double the quotes inside it"
        self._problems.add(line, "", told)

    def _header(self, line: int, cells: list[str]) -> list[str | None]:
        """The columns, in order: ``None`` under no heading, "" where the heading is a problem."""
        cells = [cell.strip() for cell in cells]
        known = [columns.named(cell) for cell in cells]
        if not any(known):
            self._problems.end(
                line, "", "there is no header: the first line must name the columns, as in "
                "user_id,lab_profile_id",
            )  # fmt: skip
        headings: list[str | None] = []
        for cell, column in zip(cells, known, strict=True):
            if column is None and cell:
                self._problems.add(line, _brief(cell), columns.unknown(cell))
            elif column is not None and column in headings:
                self._problems.add(line, column, "there are two such columns")
            fine = column is not None and column not in headings
            headings.append(column if fine else "" if cell else None)
        self._check_places(line, headings)
        return headings

    def _check_places(self, line: int, headings: list[str | None]) -> None:
        if "user_id" not in headings:
            self._problems.end(line, "user_id", "the header has no such column")
        if "lab_profile_id" not in headings and self._launch and self._default_lab is None:
            self._problems.add(
                line, "lab_profile_id", "the header has no such column, and no lab is given for all"
            )
            self._default_lab = 0  # told once, and not for each row

    # --- JSON Lines ---------------------------------------------------------------------------

    def json_lines(self, text: str) -> None:
        """Read one object from each line."""
        if text.lstrip().startswith("["):
            self._problems.end(
                0, "", "it is a JSON array; JSON Lines have one object in each line, no brackets"
            )
        for line, part in enumerate(lines_of(text), 1):
            if not part.strip():
                continue
            self._count_one()
            try:
                entry = json.loads(part, object_pairs_hook=_unique, parse_constant=_no_constant)
            except Unfit as error:
                self._problems.add(line, "", str(error))
            except (ValueError, RecursionError) as error:
                told = error.msg if isinstance(error, json.JSONDecodeError) else "unreadable"
                self._problems.add(line, "", f"is no JSON ({told})")
            else:
                self._entry(line, entry)

    def _entry(self, line: int, entry: Any) -> None:
        if not isinstance(entry, Mapping):
            self._problems.add(line, "", f"{columns.shown(entry)} is no JSON object")
            return
        values: dict[str, Any] = {}
        for name, value in _flattened(entry):
            column = columns.named(name)
            if name == "variables":
                told = f"{columns.shown(value)} is not an object of names and texts"
                self._problems.add(line, name, told)
            elif column is None:
                self._problems.add(line, _brief(name), columns.unknown(name))
            elif column in values:
                self._problems.add(line, column, "is given twice")
            else:
                values[column] = self._value(line, column, value, columns.of_json)
        self._take(line, values)

    # --- either -------------------------------------------------------------------------------

    def _count_one(self) -> None:
        self._count += 1
        if self._count > MOST_ROWS:
            self._problems.end(0, "", f"it has more than {MOST_ROWS:,} rows; split the list")

    def _value(self, line: int, column: str, given: Any, read: Callable[[str, Any], Any]) -> Any:
        try:
            return read(column, given)
        except Unfit as error:
            self._problems.add(line, column, str(error))
            return error

    def _take(self, line: int, values: dict[str, Any]) -> None:
        if values.get("user_id") is None:
            self._problems.add(line, "user_id", "is empty" if "user_id" in values else "is missing")
        if values.get("lab_profile_id") is None:
            values["lab_profile_id"] = self._default_lab
            if self._launch and self._default_lab is None:
                told = "is missing, and no lab is given for all"
                self._problems.add(line, "lab_profile_id", told)
        row = {place: values.pop(place, None) for place in _PLACES}
        if not any(isinstance(value, Unfit) for value in row.values()):
            self._check_twice(line, **row)
        if self._problems.total:
            return  # Nothing will come of any row.
        named = {name: value for name, value in values.items() if value is not None}
        variables = {n: named.pop(n) for n in tuple(named) if n.startswith(VARIABLE)}
        parameters = _BARE
        if named or variables:
            bare = {n.removeprefix(VARIABLE): value for n, value in variables.items()}
            parameters = LaunchParameters(**named, variables=bare)
        self.rows.append(ListedRow(line=line, parameters=parameters, **row))

    def _check_twice(
        self,
        line: int,
        *,
        user_id: str | None,
        lab_profile_id: int | None,
        displace_instance_id: int | None,
    ) -> None:
        """Whether an earlier row is about the same: the learner, or where nothing is launched, all
        labs of the learner, those of a lab profile, or one lab instance."""
        user, lab, instance = user_id, lab_profile_id, displace_instance_id
        if user is None:
            return
        told: list[tuple[object, ...]] = [("any", user)]
        same: list[tuple[object, ...]]
        if self._launch or (lab is None and instance is None):
            same, told = [("any", user)], [*told, ("all", user)]
        elif instance is None:
            same, told = [("all", user), ("lab", user, lab)], [*told, ("lab", user, lab)]
            same.append(("inside", user, lab))
        else:
            same = [("all", user), ("lab", user, lab), ("instance", user, instance)]
            told += [("inside", user, lab), ("instance", user, instance)]
        first = min((self._seen[key] for key in same if key in self._seen), default=None)
        if first is not None:
            self._problems.add(line, "user_id", f"{columns.shown(user)} is in line {first} already")
        for key in told:
            self._seen.setdefault(key, line)


def _separator_of(text: str) -> tuple[str, int]:
    """What separates cells, by the header, and how many lines there are before that."""
    skipped = 0
    for number, line in enumerate(lines_of(text), 1):
        line = line.rstrip("\r\n")
        if line.lower().startswith("sep=") and len(line) == 5 and line[4] in _SEPARATORS:
            return line[4], number
        if line.strip():
            break
    best = max(_SEPARATORS, key=lambda separator: _fits(line, separator))
    return best, skipped


def _fits(header: str, separator: str) -> tuple[int, int]:
    cells = header.split(separator)
    known = sum(columns.named(cell.strip('" \xa0')) is not None for cell in cells)
    return known, len(cells)


def _flattened(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in entry.items():
        if name == "variables" and isinstance(value, Mapping):
            yield from ((f"{VARIABLE}{inner}", held) for inner, held in value.items())
        elif name != "variables" or value is not None:
            yield name, value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Unfit(f"{columns.shown(twice)} is given twice")
    return held


def _no_constant(name: str) -> NoReturn:
    raise Unfit(f"{name} is no JSON")


def _brief(name: str) -> str:
    return name if len(name) <= 40 and name.isprintable() else columns.shown(name)[:40]
