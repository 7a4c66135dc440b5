"""Lengths of time as people write and read them: ``90s``, ``30m``, ``12h``, ``30d``."""

from __future__ import annotations

import re

import typer

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def seconds_of(option: str, text: str) -> float:
    """The seconds of a text; the error names the option."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{option}: {text!r} is no length of time (90s, 30m, 12h, 30d).")
    return float(found[1]) * _SECONDS[found[2]]


def roughly(seconds: float) -> str:
    """A length of time for people, in its largest fitting unit."""
    seconds = max(0.0, seconds)
    for unit, word in (("d", "d"), ("h", "h"), ("m", "min")):
        if seconds >= 2 * _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f} {word}"
    return f"{seconds:.0f} s"
