"""A caller of the service, and what it may do and see.

Two kinds: a provisioning service with a key (any learner, within its scopes), and a learner's
browser with a token of the LMS (that learner and the named labs, nothing else). What a caller may
not see does not exist for it: 404, never 403.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.labs import LaunchParameters


class Scope(StrEnum):
    """What a caller may do. ``ADMIN`` includes the others, ``START`` includes ``READ``."""

    READ = "read"
    START = "start"
    ADMIN = "admin"


_INCLUDED = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.START: frozenset({Scope.READ, Scope.START}),
    Scope.ADMIN: frozenset(Scope),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls.

    ``name`` identifies the caller for limits and is never shown; ``user_id`` is the learner that a
    token is for (``None``: a service key, any learner); ``lab_profile_ids`` the labs it may launch
    (``None``: any); ``parameters`` go with a launch that it asks for; ``expires_at`` (epoch
    seconds) is when it must prove itself again.
    """

    name: str = field(repr=False)
    scopes: frozenset[Scope]
    user_id: str | None = field(default=None, repr=False)
    lab_profile_ids: frozenset[int] | None = None
    parameters: LaunchParameters = field(default_factory=LaunchParameters, repr=False)
    expires_at: float | None = None

    @property
    def is_learner(self) -> bool:
        """Whether it is a learner's browser."""
        return self.user_id is not None

    def may(self, scope: Scope) -> bool:
        """Whether one of its scopes includes ``scope``."""
        return any(scope in _INCLUDED[held] for held in self.scopes)

    def is_for(self, user_id: str) -> bool:
        """Whether it may see and do something for this learner."""
        return self.user_id is None or self.user_id == user_id

    def may_use(self, lab_profile_id: int | None) -> bool:
        """Whether it may launch, enter and follow this lab."""
        return self.lab_profile_ids is None or lab_profile_id in self.lab_profile_ids
