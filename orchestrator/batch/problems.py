"""Everything that is wrong with a list of learners, with the lines that it is in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from orchestrator.errors import InvalidRequest

#: Problems that are told, and that are kept at all.
TOLD, KEPT = 50, 1_000


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong in a line; ``line`` 0 is the whole list, ``field`` may be empty."""

    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        where += [self.field] if self.field else []
        told = self.problem if self.problem.endswith("?") else f"{self.problem}."
        return f"{', '.join(where)}: {told}" if where else told


class InvalidListing(InvalidRequest):
    """A list of learners was refused; ``problems`` (:data:`KEPT` at most) of ``total``."""

    def __init__(self, name: str, problems: Iterable[Problem], total: int) -> None:
        self.problems = tuple(sorted(problems))
        self.total = total
        told = [f"  {problem}" for problem in self.problems[:TOLD]]
        if total > len(told):
            told.append(f"  and {total - len(told):,} more.")
        count = "1 problem" if total == 1 else f"{total:,} problems"
        super().__init__(name, "\n".join((f"{count}.", *told, " ")))


class Problems:
    """Gathers them; what is too many to keep is counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept: list[Problem] = []
        self.total = 0

    def add(self, line: int, field: str, problem: str) -> None:
        """Take note, and go on."""
        self.total += 1
        if self.total <= KEPT:
            self._kept.append(Problem(line, field, problem))

    def end(self, line: int, field: str, problem: str) -> NoReturn:
        """A problem after which nothing can be read."""
        kept = [*self._kept, Problem(line, field, problem)]
        raise InvalidListing(self._name, kept, self.total + 1) from None

    def raise_if_any(self) -> None:
        """Raise :class:`InvalidListing` unless all is well."""
        if self.total:
            raise InvalidListing(self._name, self._kept, self.total)
