"""The calls that the platform has served to this process, counted when a 429 shows its limit."""

from __future__ import annotations

from collections import deque

from orchestrator.traffic.pace import LONGEST_WINDOW


class Served:
    """Of each call, the moment when it was sent (Unix epoch seconds)."""

    def __init__(self) -> None:
        self._served: deque[float] = deque()
        self._turned_away: deque[float] = deque(maxlen=1000)

    def note(self, sent_at: float) -> None:
        """The platform has served this one."""
        self._served.append(sent_at)
        while self._served[0] < sent_at - LONGEST_WINDOW:
            self._served.popleft()

    def turned_away(self, sent_at: float) -> None:
        """This one has met a 429."""
        self._turned_away.append(sent_at)

    def per_second(self, until: float, window: float) -> float:
        """Calls a second that were served in so many seconds up to a moment."""
        return sum(until - window < at <= until for at in self._served) / window

    def before_others(self, met_at: float, window: float) -> float:
        """The same for the call of another process that met a 429; 0 if it is one of these."""
        if not met_at or met_at in self._turned_away:
            return 0.0
        return self.per_second(met_at, window)
