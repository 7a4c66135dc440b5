"""How often each caller may ask, in a moving window of a minute."""

from __future__ import annotations


class CallerLimits:
    """Counts in this process; each replica counts for itself."""

    def __init__(
        self,
        *,
        learner_requests_per_minute: int = 120,
        key_requests_per_minute: int = 6000,
    ) -> None:
        self._learner = learner_requests_per_minute
        self._key = key_requests_per_minute
