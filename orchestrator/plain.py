"""Values to plain JSON data and back, without loss.

Only what our own values are made of: frozen dataclasses, string enums, tuples, string-keyed
mappings, numbers, strings, booleans and ``None``. Unknown keys are ignored and missing ones take
the field's default, so that two adjacent versions of the program can read each other's data; a
value of the wrong type is refused, naming its path.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_SCALARS = frozenset({str, int, float, bool, type(None)})


def to_plain(value: object) -> Any:
    """Turn ``value`` into dicts, lists and scalars that :func:`json.dumps` takes."""
    kind: Any = type(value)
    if kind in _SCALARS:  # asked first: nearly all are, and runs are stored at each step
        return value
    if (names := _names(kind)) is not None:
        return {
            name: held if type(held := getattr(value, name)) in _SCALARS else to_plain(held)
            for name in names
        }
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def from_plain(kind: type[T], data: object) -> T:
    """Build a ``kind`` from what :func:`to_plain` made. Raises ``ValueError`` naming the path."""
    read = _reader(typing.cast(Any, kind))
    try:
        return typing.cast(T, read(data))
    except _Misfit as misfit:
        where = f"{kind.__name__}{misfit.path}"
        raise ValueError(f"{where}: {misfit.found} does not fit here") from None


def wrong_types(value: object) -> Iterator[tuple[str, str]]:
    """Yield (field, problem) for each field of a dataclass that holds what its type forbids."""
    kind: Any = type(value)
    for name, read in _readers(kind):
        held = getattr(value, name)
        try:
            read(to_plain(held))
        except (_Misfit, ValueError, TypeError):
            yield name, f"{held!r} is not a value it takes."


@cache
def _names(kind: Any) -> tuple[str, ...] | None:
    """The fields of a dataclass; ``None`` for any other type."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(f.name for f in dataclasses.fields(kind))


@cache
def _readers(kind: Any) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """The fields of a dataclass, each with what reads it."""
    hints = typing.get_type_hints(kind)
    return tuple((f.name, _reader(hints[f.name])) for f in dataclasses.fields(kind))


class _Misfit(Exception):
    """Data that is not of its kind; ``path`` leads to it from where reading began."""

    def __init__(self, data: object) -> None:
        self.found = type(data).__name__
        self.path = ""

    def within(self, place: str) -> _Misfit:
        self.path = place + self.path
        return self


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What reads a ``kind``: made once for each, since whole runs are read again and again."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _union_reader(arguments)
    if origin is typing.Literal:
        return lambda data: _expect(data in arguments, data)
    if origin is tuple:
        return _tuple_reader(_reader(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(_reader(arguments[1]))
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(kind)
    if issubclass(kind, StrEnum):
        members = {member.value: member for member in kind}
        return lambda data: members[_expect(isinstance(data, str) and data in members, data)]
    if kind is float:
        return lambda data: float(_expect(type(data) in (int, float), data))
    return lambda data: data if type(data) is kind else _expect(False, data)


def _union_reader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    (kind,) = (a for a in arguments if a is not types.NoneType)
    read, optional = _reader(kind), types.NoneType in arguments
    return lambda data: _expect(optional, data) if data is None else read(data)


def _tuple_reader(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_all(data: Any) -> Any:
        _expect(isinstance(data, list | tuple), data)
        return tuple(_placed(read, item, f"[{n}]") for n, item in enumerate(data))

    return read_all


def _mapping_reader(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_all(data: Any) -> Any:
        _expect(isinstance(data, Mapping), data)
        return {key: _placed(read, item, f".{key}") for key, item in data.items()}

    return read_all


def _dataclass_reader(kind: Any) -> Callable[[Any], Any]:
    readers = _readers(kind)

    def read_all(data: Any) -> Any:
        _expect(isinstance(data, Mapping), data)
        held = {}
        for name, read in readers:
            if name in data:
                try:
                    held[name] = read(data[name])
                except _Misfit as misfit:
                    raise misfit.within(f".{name}") from None
        return kind(**held)

    return read_all


def _placed(read: Callable[[Any], Any], data: Any, place: str) -> Any:
    try:
        return read(data)
    except _Misfit as misfit:
        raise misfit.within(place) from None


def _expect(holds: bool, data: Any) -> Any:
    if not holds:
        raise _Misfit(data)
    return data
