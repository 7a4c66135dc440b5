"""How fast a batch goes, and how long the rest will take: measured, silent until it is known."""

from __future__ import annotations

from collections import deque

#: So many items must have ended before anything is said.
ENOUGH = 5
#: The pace of late is that of so many ends.
WINDOW = 200


class Throughput:
    """Counts the ends of items."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=WINDOW)

    def ended(self, at: float) -> None:
        """An item has ended."""
        self._ends.append(at)

    def per_minute(self, at: float) -> float | None:
        """How many end a minute of late; slower the longer none has."""
        if len(self._ends) < ENOUGH:
            return None
        seconds = at - self._ends[0]
        return None if seconds <= 0 else round(60 * (len(self._ends) - 1) / seconds, 2)

    def eta_seconds(self, left: int, at: float) -> float | None:
        """Seconds until ``left`` more have ended, at that pace."""
        pace = self.per_minute(at)
        return None if not pace else round(60 * left / pace, 1)
