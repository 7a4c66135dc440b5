"""Lengths of time, and rates, as people write and read them: ``90s``, ``12h``, ``30d``; ``2/s``."""

from __future__ import annotations

import re

import typer

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_PER = {"": 1.0, "/s": 60.0, "/min": 1.0, "/h": 1 / 60}
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(/s|/min|/h)?")


def seconds_of(option: str, text: str) -> float:
    """The seconds of a text; the error names the option."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{option}: {text!r} is no length of time (90s, 30m, 12h, 30d).")
    return float(found[1]) * _SECONDS[found[2]]


def per_minute_of(option: str, text: str) -> float:
    """How many a minute a text means; the error names the option."""
    found = _RATE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{option}: {text!r} is no rate (30 a minute: 30, 30/min, 0.5/s).")
    return float(found[1]) * _PER[found[2] or ""]


def roughly(seconds: float) -> str:
    """A length of time for people, in its largest fitting unit."""
    seconds = max(0.0, seconds)
    for unit, word in (("d", "d"), ("h", "h"), ("m", "min")):
        if seconds >= 2 * _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f} {word}"
    return f"{seconds:.0f} s"
