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
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_SCALARS = frozenset({str, int, float, bool, type(None)})


def to_plain(value: object) -> Any:
    """Turn ``value`` into dicts, lists and scalars that :func:`json.dumps` takes."""
    if type(value) in _SCALARS:  # asked first: nearly all are, and runs are stored at each step
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_plain(getattr(value, name)) for name in _names(type(value))}
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
    return typing.cast(T, _read(kind, data, kind.__name__))


def wrong_types(value: object) -> Iterator[tuple[str, str]]:
    """Yield (field, problem) for each field of a dataclass that holds what its type forbids."""
    hints = _hints(typing.cast(Any, type(value)))
    for f in dataclasses.fields(typing.cast(Any, value)):
        held = getattr(value, f.name)
        try:
            _read(hints[f.name], to_plain(held), f.name)
        except (ValueError, TypeError):
            yield f.name, f"{held!r} is not a value it takes."


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: Any, data: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(arguments, data, path)
    if origin is typing.Literal:
        return _expect(data in arguments, data, path)
    if origin is tuple:
        _expect(isinstance(data, list | tuple), data, path)
        return tuple(_read(arguments[0], item, f"{path}[{n}]") for n, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, Mapping), data, path)
        return {key: _read(arguments[1], item, f"{path}.{key}") for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, path)
    if issubclass(kind, StrEnum):
        _expect(isinstance(data, str) and data in set(kind), data, path)
        return kind(data)
    if kind is float:
        return float(_expect(type(data) in (int, float), data, path))
    return _expect(type(data) is kind, data, path)


def _read_union(arguments: tuple[Any, ...], data: Any, path: str) -> Any:
    if data is None:
        return _expect(type(None) in arguments, data, path)
    (kind,) = (a for a in arguments if a is not type(None))
    return _read(kind, data, path)


def _read_dataclass(kind: Any, data: Any, path: str) -> Any:
    _expect(isinstance(data, Mapping), data, path)
    hints = _hints(kind)
    return kind(
        **{
            f.name: _read(hints[f.name], data[f.name], f"{path}.{f.name}")
            for f in dataclasses.fields(kind)
            if f.name in data
        }
    )


def _expect(holds: bool, data: Any, path: str) -> Any:
    if not holds:
        raise ValueError(f"{path}: {type(data).__name__} does not fit here")
    return data
