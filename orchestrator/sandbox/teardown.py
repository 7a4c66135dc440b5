"""How long a teardown takes: laws to draw from, and the texts that name them.

``fixed:20``, ``lognormal:60,0.5`` (median, sigma of the logarithm), ``bimodal:10,90,0.3`` (short,
long, chance of the long one), ``never``; all in seconds.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol


class Teardown(Protocol):
    """A law of the time from a cancel to the free slot."""

    def draw(self, rng: random.Random) -> float:
        """One teardown time in seconds; ``math.inf`` for one that never ends."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    seconds: float

    def draw(self, rng: random.Random) -> float:
        """The one number."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Most near the median, some much longer."""

    median: float
    sigma: float

    def draw(self, rng: random.Random) -> float:
        """One draw."""
        return self.median * math.exp(rng.gauss(0.0, self.sigma))


@dataclass(frozen=True, slots=True)
class Bimodal:
    """Either short or long, each give or take a tenth."""

    short: float
    long: float
    chance_of_long: float

    def draw(self, rng: random.Random) -> float:
        """One draw."""
        middle = self.long if rng.random() < self.chance_of_long else self.short
        return middle * rng.uniform(0.9, 1.1)


@dataclass(frozen=True, slots=True)
class Never:
    """A teardown that is stuck for good."""

    def draw(self, rng: random.Random) -> float:
        """Infinity."""
        return math.inf


_LAWS = {"fixed": (Fixed, 1), "lognormal": (LogNormal, 2), "bimodal": (Bimodal, 3)}


def parse_teardown(text: str) -> Teardown:
    """The law that a text names; ``ValueError`` says what it may be."""
    name, _, rest = text.strip().partition(":")
    if name == "never" and not rest:
        return Never()
    try:
        law, count = _LAWS[name]
        numbers = [float(part) for part in rest.split(",")]
        if len(numbers) != count or not all(0 <= n < math.inf for n in numbers):
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(
            f"teardown {text!r}: takes fixed:SECONDS, lognormal:MEDIAN,SIGMA, "
            "bimodal:SHORT,LONG,CHANCE or never"
        ) from None
    drawn: Teardown = law(*numbers)
    return drawn
