"""What really happened, and every request: so that a test can ask how many labs were ever alive.

Append-only. Times are Unix epoch seconds. Requests are kept without their parameters' values, but
for ids, so that the ledger can be shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that changed: ``launched``, ``cancelled``, ``torn_down``, ``saving``, ..."""

    at: float
    what: str
    instance_id: int
    user_id: str
    lab_profile_id: int
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call that arrived, and the HTTP status of its answer (``None`` if it got none)."""

    at: float
    operation: str
    instance_id: str | None
    user_id: str | None
    status: int | None


class Ledger:
    """Effects and requests, in order."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.requests: list[Request] = []

    def of(self, *whats: str, user_id: str | None = None) -> list[Effect]:
        """The effects of these kinds, of one user if named."""
        return [e for e in self.effects if e.what in whats and user_id in (None, e.user_id)]

    def launches(self, user_id: str | None = None, tag_part: str | None = None) -> list[int]:
        """Ids of the instances that launches created; with ``tag_part`` in their tag."""
        return [
            e.instance_id
            for e in self.of("launched", user_id=user_id)
            if tag_part is None or tag_part in (e.tag or "")
        ]

    def cancels(self, user_id: str | None = None) -> list[int]:
        """Ids of the instances whose teardown a cancel began."""
        return [e.instance_id for e in self.of("cancelled", user_id=user_id)]

    def count(self, operation: str) -> int:
        """How many requests of an operation arrived."""
        return sum(r.operation == operation.lower() for r in self.requests)

    def max_alive(self, user_id: str) -> int:
        """How many of the user's instances ever held a slot at once."""
        return max((n for _, n in self.alive_over_time(user_id)), default=0)

    def alive_over_time(self, user_id: str) -> Iterator[tuple[float, int]]:
        """(time, number of the user's instances that hold a slot), at each change."""
        alive: set[int] = set()
        for effect in sorted(self.effects, key=lambda e: e.at):
            if effect.user_id != user_id:
                continue
            if effect.what in ("launched", "given", "resumed"):
                alive.add(effect.instance_id)
            elif effect.what in ("torn_down", "saved"):
                alive.discard(effect.instance_id)
            yield effect.at, len(alive)
