"""Turns the ``Authorization`` header into a caller, or refuses it."""

from __future__ import annotations

from orchestrator.service.access.callers import Caller
from orchestrator.service.refusals import Unauthenticated


class Authority:
    """Knows the service keys and whose learner tokens are good."""

    async def caller(self, authorization: str | None) -> Caller:
        """Who calls. Raises :class:`~orchestrator.service.refusals.Unauthenticated`."""
        raise Unauthenticated("No caller is let in here. Nothing was done.")
