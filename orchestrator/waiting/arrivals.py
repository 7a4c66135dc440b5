"""Whether webhooks can be relied on: the chance that the next end is announced, and how late.

Two things may happen to an announcement. Now and then a single one is lost; or the webhooks have
died (somebody changed an address) and none will come until that is mended. So the belief has two
parts: ``alive``, the probability that webhooks work at all, and the share of arrivals while they
do. One that arrives proves them alive. One that stays away is explained by either, in proportion to
how likely each makes it (Bayes' rule): after many arrivals, a few misses in a row mean that they
are dead. Until the first one ever arrives, none is expected.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The probability that working webhooks die before the next teardown.
DIES = 0.02
#: How much of the past share counts after one more teardown.
MEMORY = 0.98
#: No announcement is ever taken for certain.
CERTAIN = 0.99


@dataclass(slots=True)
class Arrivals:
    """See the module's docstring. ``delay`` in seconds from the end to its announcement."""

    alive: float = 0.0
    came: float = 0.0
    missed: float = 0.0
    delay: float = 0.0

    @property
    def expected(self) -> float:
        """The probability that the next end will be announced."""
        return min(CERTAIN, self.alive * self._share())

    def arrived(self, at_least: float, at_most: float) -> None:
        """One came, between ``at_least`` and ``at_most`` seconds after the end that it tells of."""
        self.alive = 1.0
        self.came = MEMORY * self.came + 1
        self.missed *= MEMORY
        nearest = min(max(self.delay, at_least), at_most)
        self.delay += (nearest - self.delay) / min(self.came, 20.0)

    def stayed_away(self) -> None:
        """A look found the end, and no webhook had told of it."""
        if self.alive == 0:
            return
        lost = self.alive * (1 - DIES) * (1 - self._share())
        dead = 1 - self.alive * (1 - DIES)
        self.alive = lost / (lost + dead)
        self.came *= MEMORY
        self.missed = MEMORY * self.missed + self.alive

    def came_after_all(self, at_least: float, at_most: float) -> None:
        """The one that had stayed away came late: take the miss back."""
        self.missed = max(0.0, self.missed - 1)
        self.arrived(at_least, at_most)

    def _share(self) -> float:
        return (self.came + 0.5) / (self.came + self.missed + 1)
