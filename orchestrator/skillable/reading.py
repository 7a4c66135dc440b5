"""Tolerant reading of the platform's JSON: what can be read is read, the rest is ``None``.

Fields are added without notice (documented), so nothing here is strict: unknown fields are passed
over, a wrong type in an optional place reads as missing. Only the frame must hold: the answer is a
JSON object, and a list is a list or null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import AnswerUnreadable

Json = Mapping[str, Any]

#: Fields that carry passwords in the clear (documented); dropped before anything else sees them.
CREDENTIAL_FIELDS = frozenset(
    {"VirtualMachineCredentials", "CloudCredentials", "CloudPortalCredentials"}
)

_MICROSOFT_DATE = re.compile(r"/Date\((-?\d+)(?:[+-]\d{4})?\)/")
_LARGEST_INT64 = 2**63 - 1


def integer(data: Json, *names: str) -> int | None:
    """The first of the named fields that holds a whole number, in whatever JSON dress."""
    for name in names:
        value = data.get(name)
        if isinstance(value, bool):
            continue
        if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,19}\s*", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and abs(value) <= _LARGEST_INT64:
            return value
    return None


def identifier(data: Json, *names: str) -> int | None:
    """A real id: positive. 0 and null are the platform's ways to say that there is none."""
    value = integer(data, *names)
    return value if value is not None and value > 0 else None


def text(data: Json, name: str) -> str | None:
    """A text; a number is taken for its digits."""
    value = data.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def filled_text(data: Json, name: str) -> str | None:
    """A text that is not blank."""
    value = text(data, name)
    return value if value and value.strip() else None


def flag(data: Json, name: str) -> bool | None:
    """A truth value, also as 0/1 or "true"/"false"."""
    value = data.get(name)
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    if isinstance(value, int | float):
        return bool(value)
    return None


def epoch(data: Json, name: str) -> float | None:
    """Unix epoch seconds, from a number or from a ``/Date(ms)/`` text (both documented)."""
    for value in (data.get(name), data.get(f"{name}Time")):
        if isinstance(value, str) and (found := _MICROSOFT_DATE.fullmatch(value.strip())):
            return int(found.group(1)) / 1000
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
            return float(value)
    return None


def seconds(data: Json, name: str) -> float | None:
    """A number of seconds that is not negative."""
    value = data.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    return None


def entries(data: Json, name: str, operation: str) -> Iterator[Json]:
    """The objects of a list; null and a missing list are empty, anything else is unreadable."""
    value = data.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise AnswerUnreadable(
            f"The platform's answer to {operation} has no list where {name} should be.",
            operation=operation,
        )
    for entry in value:
        if isinstance(entry, Mapping):
            yield without_credentials(entry)


def without_credentials(data: Json) -> Json:
    """The same object without the fields that carry passwords."""
    return {name: value for name, value in data.items() if name not in CREDENTIAL_FIELDS}
