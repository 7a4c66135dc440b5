"""The laws of teardown times that the schedules are tried on.

A law is a mixture of parts, each given by its quantile function. It is used in two forms: as many
equally likely teardown times (``times``: the law itself, for expectations without sampling noise)
and as random draws (``draw``: what a schedule gets to see). Times are seconds; ``inf`` is a stuck
teardown. Every family is jittered by the seed, so that nothing fits one set of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Quantiles = Callable[[Floats], Floats]

#: How many equally likely times stand for a law.
ATOMS = 2000
#: A teardown that lasts longer than this is as good as stuck.
DEADLINE = 900.0

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Law:
    """A mixture: (weight, quantile function) for each part."""

    name: str
    parts: tuple[tuple[float, Quantiles], ...]

    def times(self) -> Floats:
        """``ATOMS`` equally likely times, ascending."""
        edges = np.rint(np.cumsum([0.0, *(w for w, _ in self.parts)]) * ATOMS).astype(int)
        chunks = [
            quantiles((np.arange(n) + 0.5) / n)
            for n, (_, quantiles) in zip(np.diff(edges), self.parts, strict=True)
            if n
        ]
        return cut(np.sort(np.concatenate(chunks)))

    def draw(self, random: np.random.Generator, number: int) -> Floats:
        """Random times, in the order in which they happen."""
        weights = [w for w, _ in self.parts]
        which = random.choice(len(weights), size=number, p=weights)
        u = random.random(number)
        columns = np.stack([quantiles(u) for _, quantiles in self.parts])
        return cut(np.take_along_axis(columns, which[None, :], axis=0)[0])

    def scaled(self, factor: float) -> Law:
        """The same law, ``factor`` times as slow."""
        return Law(self.name, tuple((w, _scale(q, factor)) for w, q in self.parts))


def cut(times: Floats) -> Floats:
    """The same times, those beyond the deadline stuck."""
    return np.where(times > DEADLINE, np.inf, np.maximum(times, 0.05))


def _scale(quantiles: Quantiles, factor: float) -> Quantiles:
    return lambda u: factor * quantiles(u)


def normal(mean: float, deviation: float) -> Quantiles:
    """A bell around ``mean``."""
    return lambda u: mean + deviation * np.array([_NORMAL.inv_cdf(x) for x in u])


def lognormal(median: float, sigma: float) -> Quantiles:
    """A bell in log time."""
    return lambda u: median * np.exp(sigma * np.array([_NORMAL.inv_cdf(x) for x in u]))


def exponential(mean: float, after: float = 0.0) -> Quantiles:
    """No memory, ``after`` a grace period."""
    return lambda u: after - mean * np.log1p(-u)


def uniform(low: float, high: float) -> Quantiles:
    """Anything between the two."""
    return lambda u: low + (high - low) * u


def lomax(scale: float, shape: float) -> Quantiles:
    """A heavy tail."""
    return lambda u: scale * ((1 - u) ** (-1 / shape) - 1)


def weibull(scale: float, shape: float) -> Quantiles:
    """Ageing."""
    return lambda u: scale * (-np.log1p(-u)) ** (1 / shape)


def exactly(time: float) -> Quantiles:
    """A timer."""
    return lambda u: np.full_like(u, time)


def stuck(u: Floats) -> Floats:
    """Never."""
    return np.full_like(u, math.inf)


def families(seed: int) -> tuple[Law, ...]:
    """The fifteen families, jittered, and four drawn at random."""
    random = np.random.default_rng([seed, 1])

    def j(value: float, spread: float = 0.25) -> float:
        return float(value * math.exp(random.uniform(-spread, spread)))

    def law(name: str, *parts: tuple[float, Quantiles]) -> Law:
        return Law(name, parts)

    fixed = (
        law("container", (1.0, lognormal(j(6), j(0.35)))),
        law("vm", (1.0, lognormal(j(75), j(0.25)))),
        law("cloud", (1.0, lognormal(j(400), j(0.25)))),
        law("lognormal", (1.0, lognormal(j(45), j(0.8)))),
        law("bimodal", (0.7, normal(j(20), j(2))), (0.3, normal(j(120), j(8)))),
        law(
            "trimodal",
            (0.3, normal(j(10), j(1))),
            (0.4, normal(j(60), j(4))),
            (0.3, normal(j(240), j(15))),
        ),
        law("heavy_tail", (1.0, lomax(j(20), j(1.3)))),
        law("exponential", (1.0, exponential(j(60)))),
        law("uniform", (1.0, uniform(j(20), j(180)))),
        law("fixed_timer", (1.0, exactly(j(60)))),
        law("grace_period", (1.0, exponential(j(12), after=j(30)))),
        law("with_stuck", (0.97, lognormal(j(75), j(0.25))), (0.03, stuck)),
        law("narrow_peaks", (0.6, normal(j(30), 0.3)), (0.4, normal(j(90), 0.8))),
        law("weibull", (1.0, weibull(j(90), j(2.0)))),
        law("fast_and_slow", (0.8, lognormal(j(4), 0.4)), (0.2, lognormal(j(300), 0.3))),
    )
    return fixed + tuple(_at_random(random, n) for n in range(4))


def _at_random(random: np.random.Generator, number: int) -> Law:
    parts = int(random.integers(1, 4))
    weights = random.dirichlet(np.ones(parts) * 2)
    bumps = [
        lognormal(float(np.exp(random.uniform(1.2, 5.9))), float(np.exp(random.uniform(-3, 0))))
        for _ in range(parts)
    ]
    return Law(f"random_{number + 1}", tuple(zip(map(float, weights), bumps, strict=True)))
