"""The schedules that others use, as published, as looks (seconds since the teardown began).

Some give up after a number of looks; here they go on until the deadline, in their favour. Those
that draw at random are drawn often; see ``DRAWS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tests.benchmarks.waiting.families import DEADLINE, Floats

Gaps = Callable[[np.random.Generator], Iterator[float]]

#: So many draws of a random schedule stand for it.
DRAWS = 25


def every(seconds: float) -> Gaps:
    """A fixed interval."""

    def gaps(random: np.random.Generator) -> Iterator[float]:
        while True:
            yield seconds

    return gaps


def growing(first: float, factor: float, cap: float, jitter: str = "none") -> Gaps:
    """An interval that grows to ``cap``.

    ``jitter``: ``full`` draws from (0, d), ``from_first`` from (first, d), ``plus`` adds (0, 1).
    """

    def gaps(random: np.random.Generator) -> Iterator[float]:
        interval = first
        while True:
            if jitter == "full":
                yield random.uniform(0, interval)
            elif jitter == "from_first":
                yield random.uniform(first, interval)
            elif jitter == "plus":
                yield min(cap, interval + random.uniform(0, 1))
            else:
                yield interval
            interval = min(cap, interval * factor)

    return gaps


PEERS: dict[str, Gaps] = {
    "fixed 5 s": every(5),
    "fixed 10 s": every(10),
    "fixed 15 s (botocore EC2)": every(15),
    "fixed 30 s (azure-core)": every(30),
    "botocore ECS (6 s)": every(6),
    "kubectl (1 s)": every(1),
    "sleep 60": every(60),
    "tenacity exponential": growing(1, 2, 60),
    "tenacity random exponential": growing(1, 2, 60, "full"),
    "tenacity exponential jitter": growing(1, 2, 60, "plus"),
    "aws-sdk-go-v2 EC2": growing(15, 2, 120, "from_first"),
    "google-api-core": growing(1, 1.5, 20, "full"),
    "Terraform": growing(0.2, 2, 10),
    "JupyterHub": growing(0.2, 2, 5, "full"),
    "Temporal": growing(1, 2, 100),
}


def draws(name: str) -> list[Floats]:
    """The looks of a peer; several lists if it draws at random."""
    gaps = PEERS[name]
    lists = []
    for seed in range(DRAWS):
        elapsed, looks = 0.0, []
        for gap in gaps(np.random.default_rng([seed, len(name)])):
            elapsed += max(gap, 0.01)
            if elapsed >= DEADLINE:
                break
            looks.append(elapsed)
        lists.append(np.array([*looks, DEADLINE]))
    return (
        lists
        if any(len(one) != len(lists[0]) or (one != lists[0]).any() for one in lists)
        else lists[:1]
    )
