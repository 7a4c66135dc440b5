"""What a batch would do, before it does anything: who, what would be ended, what would be launched.

* Only questions are asked: one for the list of all labs, and what a selection asked before.
* It is what the list says now. Labs come and go until an item's turn comes, and each relaunch looks
  for itself then. That a lab is being scored or was submitted for grading is not in the list at
  all: unless a selection was told so by a search, it shows only when it is that lab's turn.
* A lab that was selected and is protected is left alone. A learner who was listed is carried out in
  any case, and has an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.batch.asking import Asker
from orchestrator.batch.estimate import Effort, Estimate, estimate
from orchestrator.batch.foreseeing import Foresight, PlannedRow
from orchestrator.batch.listing import ListedRow
from orchestrator.batch.requests import Row
from orchestrator.batch.selection import Selection, Skipped
from orchestrator.durable.batches import Pace
from orchestrator.errors import CallRefused
from orchestrator.labs import RosterEntry
from orchestrator.machine.run import Policy
from orchestrator.ports import AsyncClock, AsyncRoster
from orchestrator.waiting import Knowledge

__all__ = ["Plan", "PlannedRow", "plan"]

LATER = (
    "Whether a lab is being scored or was submitted for grading shows only when its turn comes; "
    "such labs are then left as they are."
)
BARE = (
    "Labs are launched anew without names, tag, class or other parameters: the platform doesn't "
    "tell what they were launched with. A list can give them."
)
BARE_BUT_CLASS = (
    "Labs are launched anew in the same class, but without names, tag or other parameters: the "
    "platform doesn't tell what they were launched with. A list can give them."
)
UNLISTED = "The platform doesn't list all labs, so what would be ended isn't known beforehand."


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be done; ``description`` is of the selection, ``None`` for a list.

    ``notes`` are what is to be known about the whole; ``api_calls`` were made to find out.
    """

    rows: tuple[PlannedRow, ...]
    skipped: tuple[Skipped, ...]
    estimate: Estimate
    policy: Policy
    pace: Pace
    description: str | None
    notes: tuple[str, ...]
    api_calls: int
    lab_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def to_carry_out(self) -> tuple[Row, ...]:
        """The items: all but what was selected and is protected."""
        return tuple(planned.row for planned in self.rows if not self.is_left_alone(planned))

    def is_left_alone(self, planned: PlannedRow) -> bool:
        """Whether this one is shown, but no item."""
        return planned.line is None and planned.protected is not None


async def plan(
    asked: Sequence[ListedRow] | Selection,
    platform: AsyncRoster,
    *,
    policy: Policy,
    pace: Pace | None = None,
    knowledge: Knowledge | None = None,
    calls_per_second: float | None = None,
    clock: AsyncClock | None = None,
) -> Plan:
    """Plan for a list or a selection; changes nothing.

    ``knowledge`` is of earlier teardowns, ``calls_per_second`` the limit of the traffic, if there
    is one. Raises what the platform's questions raise.
    """
    pace = pace or Pace()
    notes: list[str] = []
    told = False
    if isinstance(asked, Selection):
        roster: tuple[RosterEntry, ...] | None = asked.roster
        calls, description = asked.api_calls, asked.description
        planning = Foresight(policy, asked.roster)
        rows = planning.selected(asked)
        planning.skipped.extend(asked.skipped)
        told = all(candidate.details is not None for candidate in asked.candidates)
        if policy.launch and rows:
            classes = all(planned.row.parameters.class_id for planned in rows)
            notes.append(BARE_BUT_CLASS if classes else BARE)
    else:
        asker, description = Asker(platform, clock), None
        roster = await _roster(asker, needed=any(row.lab_profile_id is None for row in asked))
        calls = asker.calls
        planning = Foresight(policy, roster)
        rows = [planned for row in asked for planned in planning.listed(row)]
    if roster is None:
        notes.append(UNLISTED)
    elif not (told or policy.allow_exam) and any(planned.would_end for planned in rows):
        notes.append(LATER)
    made = Plan(
        rows=tuple(rows),
        skipped=tuple(planning.skipped),
        estimate=Estimate(
            seconds_low=0.0, seconds_high=0.0, api_calls_low=0, api_calls_high=0, learned=True
        ),
        policy=policy,
        pace=pace,
        description=description,
        notes=tuple(notes),
        api_calls=calls,
        lab_names=_names(roster or ()),
    )
    foreseen = estimate(
        (_effort(planned) for planned in rows if not made.is_left_alone(planned)),
        launch=policy.launch,
        step=policy.displace,
        pace=pace,
        deadline_seconds=policy.deadline_seconds,
        knowledge=knowledge or Knowledge(),
        calls_per_second=calls_per_second,
    )
    return replace(made, estimate=foreseen)


async def _roster(asker: Asker, *, needed: bool) -> tuple[RosterEntry, ...] | None:
    """The list of all labs; ``None`` where it is refused and nothing depends on it."""
    try:
        return await asker.roster()
    except CallRefused:
        if needed:
            raise
        return None


def _names(roster: Iterable[RosterEntry]) -> dict[int, str]:
    return {
        entry.lab_profile_id: entry.lab_profile_name
        for entry in roster
        if entry.lab_profile_id is not None and entry.lab_profile_name
    }


def _effort(planned: PlannedRow) -> Effort:
    profiles = tuple(entry.lab_profile_id for entry in planned.would_end)
    if planned.certainty == "unknown":
        # Most likely the same lab runs; or none does.
        return Effort(may_end=(planned.row.lab_profile_id,), looked_at=1)
    return Effort(
        ends=profiles if planned.certainty == "surely" else (),
        may_end=profiles if planned.certainty == "if_needed" else (),
        looked_at=planned.looked_at,
        refused=planned.protected is not None,
    )
