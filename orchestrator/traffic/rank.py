"""Who goes first where not all can. Pure.

Whoever presses a button goes before every bulk run, with polls too: the launches and cancels of a
large bulk run never cease, and would hold up the first look of a press for minutes. Within either,
what is urgent goes first: launches, cancels and their like.
"""

from __future__ import annotations

from enum import IntEnum


class Rank(IntEnum):
    """The lower goes first."""

    BUTTON_URGENT = 0
    BUTTON_POLL = 1
    BULK_URGENT = 2
    BULK_POLL = 3

    @property
    def is_urgent(self) -> bool:
        """Whether it is no poll."""
        return self in (Rank.BUTTON_URGENT, Rank.BULK_URGENT)


def rank_of(*, urgent: bool, priority: int) -> Rank:
    """The rank of a call; see :data:`.guard.priority`."""
    return Rank((2 if priority > 0 else 0) + (0 if urgent else 1))
