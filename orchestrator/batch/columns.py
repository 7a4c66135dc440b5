"""The columns of a list of learners: what they are called, and what may stand in each.

* A column is named as the field of :class:`~orchestrator.labs.LaunchParameters` that it fills, or
  as the field of a row; ``user`` and ``lab`` are short for ``user_id`` and ``lab_profile_id``.
* What a spreadsheet holds is text: an empty cell is "not given", and nothing else is guessed at. A
  user id of 007 stays 007, and what looks like a formula is text like any other.
* JSON has types, and they are kept to: a user id that is a number is refused, since whatever wrote
  it may have dropped leading zeros already.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from orchestrator.skillable.calls import LANGUAGES

_INT32, _INT64 = 2**31 - 1, 2**63 - 1
#: Characters that any one text may have; the platform takes all of them in a URL.
LONGEST_TEXT = 1_000
#: Role ids or variables that one row may have.
MOST_OF_ONE = 100

ALIASES = {"user": "user_id", "lab": "lab_profile_id"}
VARIABLE = "variables."
_VARIABLE_PREFIXES = ("variable-", "variables.", "variable.")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_YES, _NO = ("true", "yes"), ("false", "no")


class Unfit(ValueError):
    """A value that its column doesn't take; says why."""


def _text(value: str) -> str:
    if len(value) > LONGEST_TEXT:
        raise Unfit(f"is longer than {LONGEST_TEXT:,} characters")
    if found := _CONTROL.search(value):
        raise Unfit(f"has a control character in it (U+{ord(found.group()):04X})")
    return value


def _user(value: str) -> str:
    _text(value)
    if not value.strip():
        raise Unfit("is empty")
    if value != value.strip():
        raise Unfit(f"{shown(value)} has space around it")
    if not value.isprintable():
        # It would be another learner to the platform, and nobody could see why.
        hidden = next(character for character in value if not character.isprintable())
        raise Unfit(f"has an invisible character in it (U+{ord(hidden):04X})")
    return value


def _language(value: str) -> str:
    if value not in LANGUAGES:
        raise Unfit(f"{shown(value)} is none of {', '.join(LANGUAGES)}")
    return value


def _number(least: int, most: int) -> Callable[[int], int]:
    def read(value: int) -> int:
        if not least <= value <= most:
            raise Unfit(f"{shown(value)} is not from {least} to {most}")
        return value

    return read


_TEXTS: dict[str, Callable[[str], str]] = {
    "user_id": _user,
    "first_name": _text,
    "last_name": _text,
    "email": _text,
    "class_id": _text,
    "tag": _text,
    "ip_address": _text,
    "lang": _language,
    "instructions_id": _text,
}
_NUMBERS: dict[str, Callable[[int], int]] = {
    "lab_profile_id": _number(1, _INT32),
    "displace_instance_id": _number(1, _INT64),
    "region_id": _number(0, _INT32),
    "max_saved_labs": _number(0, _INT32),
    "max_active_labs": _number(1, _INT32),
    "duration_minutes": _number(1, _INT32),
    "last_activity_timeout_minutes": _number(1, _INT32),
}
_TRUTHS = ("can_be_marked_complete",)
_LISTS = ("role_ids",)
#: Every column but those of the variables.
COLUMNS = (*_TEXTS, *_NUMBERS, *_TRUTHS, *_LISTS)


def named(heading: str) -> str | None:
    """The column that a heading means: upper case, blanks and hyphens are forgiven.

    Variables are ``variables.NAME``; the name is taken as it stands.
    """
    heading = heading.strip()
    for prefix in _VARIABLE_PREFIXES:
        if heading.lower().startswith(prefix):
            name = heading[len(prefix) :].strip()
            return f"{VARIABLE}{name}" if name else None
    folded = "_".join(heading.lower().replace("-", " ").split())
    folded = ALIASES.get(folded, folded)
    return folded if folded in COLUMNS else None


def unknown(heading: str) -> str:
    """What to say of a heading that means no column."""
    folded = heading.strip().lower().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(folded, [*COLUMNS, *ALIASES], n=1, cutoff=0.5)
    if folded.rstrip("._").removesuffix("s") == "variable":
        return "a variable needs a name: variables.NAME"
    guess = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COLUMNS)}"
    return f"is no column that is known; {guess}"


def of_cell(column: str, cell: str) -> Any:
    """The value of a spreadsheet's cell, ``None`` if it is empty. Raises :class:`Unfit`."""
    cell = cell.strip()
    if not cell:
        return None
    if column in _TRUTHS:
        return _truth(cell)
    if column in _LISTS:
        return _checked_roles([_whole(part.strip()) for part in cell.split(";")])
    if column in _NUMBERS:
        return _NUMBERS[column](_whole(cell))
    return _TEXTS.get(column, _text)(cell)


def of_json(column: str, value: Any) -> Any:
    """The value of a JSON field, ``None`` if it is null. Raises :class:`Unfit`."""
    if value is None:
        return None
    if column == "user_id" and isinstance(value, int | float) and not isinstance(value, bool):
        raise Unfit('is a number; a user id is a text: write it in quotes, as in "007"')
    if column in _TRUTHS:
        return _of_type(bool, value, "true or false")
    if column in _LISTS:
        roles = _of_type(list, value, "a list of whole numbers")
        return _checked_roles([_of_type(int, role, "a list of whole numbers") for role in roles])
    if column in _NUMBERS:
        return _NUMBERS[column](_of_type(int, value, "a whole number"))
    return _TEXTS.get(column, _text)(_of_type(str, value, "a text"))


def shown(value: object) -> str:
    """A value for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}…{text[-1]}"


def _whole(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 20):
        raise Unfit(f"{shown(cell)} is not a whole number")
    return int(cell)


def _truth(cell: str) -> bool:
    folded = cell.lower()
    if folded not in (*_YES, *_NO):
        raise Unfit(f"{shown(cell)} is neither true nor false")
    return folded in _YES


def _checked_roles(roles: list[int]) -> tuple[int, ...]:
    if len(roles) > MOST_OF_ONE:
        raise Unfit(f"are {len(roles)}; a launch takes {MOST_OF_ONE}")
    return tuple(_number(1, _INT32)(role) for role in roles)


def _of_type(kind: type, value: Any, what: str) -> Any:
    # Truth values are whole numbers to Python, and to nobody else.
    if type(value) is kind:
        return value
    if kind is int and isinstance(value, str):
        raise Unfit(f"{shown(value)} is a text where {what} belongs: write it without quotes")
    raise Unfit(f"{shown(value)} is not {what}")
