"""What a batch would do, before it does anything: who, what would be ended, what would be launched.

* Only questions are asked: one for the list of all labs, and what a selection asked before.
* It is what the list says now. Labs come and go until an item's turn comes, and each relaunch looks
  for itself then. That a lab is being scored or was submitted for grading is not in the list at
  all: unless a selection was told so by a search, it shows only when it is that lab's turn.
* A lab that was selected and is protected is left alone. A learner who was listed is carried out in
  any case, and has an outcome.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator.batch.asking import Asker
from orchestrator.batch.estimate import Effort, Estimate, estimate
from orchestrator.batch.listing import ListedRow
from orchestrator.batch.requests import Row
from orchestrator.batch.selection import Selection, Skipped
from orchestrator.durable.batches import Pace
from orchestrator.errors import CallRefused
from orchestrator.labs import LaunchParameters, RosterEntry
from orchestrator.machine.candidates import graded
from orchestrator.machine.run import Policy
from orchestrator.ports import AsyncClock, AsyncRoster
from orchestrator.waiting import Knowledge

#: How sure it is that the labs named are ended: in any case; only if the platform lets the learner
#: have no lab more; nothing is ended; or the platform doesn't list any labs.
Certainty = Literal["surely", "if_needed", "nothing", "unknown"]

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

#: Why a learner who was listed is left out, in plain words.
REASONS = {
    "nothing_running": "no lab is running",
    "not_running": "the lab instance named is not running",
    "not_the_users": "the lab instance named is another user's",
    "no_lab_profile_told": "the platform doesn't say which lab it is",
    "with_another": "goes with the learner's other instance of the same lab",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """One item to be: the row, and what is foreseen for it.

    ``would_end`` are the labs that make room, as ``certainty`` has it. ``protected`` is the stable
    code of why none is ended, ``note`` says in plain words what else is to be expected. ``line``
    is where it was listed (``None``: it was selected).
    """

    row: Row
    line: int | None
    certainty: Certainty
    would_end: tuple[RosterEntry, ...] = ()
    protected: str | None = None
    note: str | None = None
    looked_at: int = 0


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
    if isinstance(asked, Selection):
        roster: tuple[RosterEntry, ...] | None = asked.roster
        calls, description = asked.api_calls, asked.description
        planning = _Planning(policy, asked.roster)
        rows = planning.selected(asked)
        planning.skipped.extend(asked.skipped)
        if policy.launch and rows:
            classes = all(planned.row.parameters.class_id for planned in rows)
            notes.append(BARE_BUT_CLASS if classes else BARE)
    else:
        asker, description = Asker(platform, clock), None
        roster = await _roster(asker, needed=any(row.lab_profile_id is None for row in asked))
        calls = asker.calls
        planning = _Planning(policy, roster)
        rows = [planned for row in asked for planned in planning.listed(row)]
    if roster is None:
        notes.append(UNLISTED)
    elif not policy.allow_exam and any(planned.would_end for planned in rows):
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


class _Planning:
    """One plan in the making, over what the list says."""

    def __init__(self, policy: Policy, roster: Sequence[RosterEntry] | None) -> None:
        self._policy = policy
        self._listed = roster is not None
        self._by_id = {entry.instance_id: entry for entry in roster or ()}
        self._running: dict[str, list[RosterEntry]] = defaultdict(list)
        self._saved: dict[str, list[RosterEntry]] = defaultdict(list)
        for entry in roster or ():
            if entry.user_id is not None:
                (self._saved if entry.saved else self._running)[entry.user_id].append(entry)
        self.skipped: list[Skipped] = []

    # --- selected ---------------------------------------------------------------------------------

    def selected(self, selection: Selection) -> list[PlannedRow]:
        """One item for each lab; to launch, one for each learner and lab profile."""
        rows: list[PlannedRow] = []
        taken: set[tuple[str, int]] = set()
        for candidate in sorted(selection.candidates, key=lambda c: _age(c.entry)):
            entry, details = candidate.entry, candidate.details
            if entry.user_id is None or entry.lab_profile_id is None:
                raise ValueError("a lab was selected of which it isn't told whose or which it is")
            if self._policy.launch and (entry.user_id, entry.lab_profile_id) in taken:
                self._skip("with_another", entry.user_id, entry)
                continue
            taken.add((entry.user_id, entry.lab_profile_id))
            in_class = details.class_id if details is not None else None
            row = Row(
                user_id=entry.user_id,
                lab_profile_id=entry.lab_profile_id,
                displace_instance_id=entry.instance_id,
                parameters=LaunchParameters(class_id=in_class or None)
                if self._policy.launch
                else LaunchParameters(),
            )
            told = graded(details, is_exam=entry.is_exam) if details is not None else None
            why = told or ("protected_exam" if entry.is_exam else None)
            if why is not None and not self._policy.allow_exam:
                rows.append(
                    PlannedRow(row=row, line=None, certainty="nothing", protected=why, looked_at=1)
                )
            else:
                rows.append(self._foreseen(row, None))
        order = {c.entry.instance_id: n for n, c in enumerate(selection.candidates)}
        return sorted(rows, key=lambda planned: order[planned.row.displace_instance_id or 0])

    # --- listed -----------------------------------------------------------------------------------

    def listed(self, asked: ListedRow) -> Iterator[PlannedRow]:
        """The items of a row: one, or where no lab is told, one for each that runs."""
        named = asked.displace_instance_id
        if asked.lab_profile_id is not None:
            yield self._foreseen(_row(asked, asked.lab_profile_id, named), asked.line)
            return
        entries = self._running[asked.user_id]
        if named is not None:
            entry = self._by_id.get(named)
            if entry is None or entry.saved or entry.user_id != asked.user_id:
                theirs = entry is not None and entry.user_id not in (None, asked.user_id)
                self._skip("not_the_users" if theirs else "not_running", asked.user_id, entry)
                return
            entries = [entry]
        if not entries:
            self._skip("nothing_running", asked.user_id, None)
        for entry in sorted(entries, key=_age):
            if entry.lab_profile_id is None:
                self._skip("no_lab_profile_told", asked.user_id, entry)
            else:
                row = _row(asked, entry.lab_profile_id, entry.instance_id)
                yield self._foreseen(row, asked.line)

    # --- either -----------------------------------------------------------------------------------

    def _foreseen(self, row: Row, line: int | None) -> PlannedRow:
        planned = PlannedRow(row=row, line=line, certainty="nothing")
        if not self._listed:
            return replace(planned, certainty="unknown")
        if not self._policy.launch:
            return self._freed(planned)
        return self._launched(planned)

    def _freed(self, planned: PlannedRow) -> PlannedRow:
        """Where nothing is launched: the lab instance named, or every one of the lab profile."""
        row, named = planned.row, planned.row.displace_instance_id
        targets = [
            entry
            for entry in sorted(self._running[row.user_id], key=_age)
            if entry.instance_id == named
            or (named is None and entry.lab_profile_id == row.lab_profile_id)
        ]
        if not targets:
            return replace(planned, note="not running: nothing to end")
        return self._ending(planned, targets, all_of_them=True, certainty="surely")

    def _launched(self, planned: PlannedRow) -> PlannedRow:
        row, policy = planned.row, self._policy
        named = row.displace_instance_id
        running = sorted(self._running[row.user_id], key=_age)
        same = [entry for entry in running if entry.lab_profile_id == row.lab_profile_id]
        if same and policy.if_running == "reuse":
            return replace(planned, note="runs already, and is handed over", looked_at=len(same))
        if same and policy.if_running == "refuse":
            return _refused(planned, "runs already: would be refused", same)
        if same and policy.displace == "save" and policy.on_saved == "refuse":
            return _refused(planned, "a saved copy would keep it from being launched", same)
        ids = {entry.instance_id for entry in running}
        if named is not None and named not in ids:
            return _refused(planned, f"lab instance {named} is not running: would be refused", [])
        if named is not None and same and named not in {entry.instance_id for entry in same}:
            return _refused(planned, "runs already beside the one named: would be refused", same)
        if same:
            ended = self._ending(planned, same, all_of_them=True, certainty="surely")
            return self._with_saved(ended)
        if named is not None:
            running = [self._by_id[named]]
        if not running:
            return self._with_saved(planned)
        certainty: Certainty = "if_needed" if policy.probe or policy.overlap else "surely"
        free = [entry for entry in running if policy.allow_exam or not entry.is_exam]
        if named is None and free and policy.choose == "named":
            return self._with_saved(replace(planned, note="another lab runs, and none is named"))
        if named is None and len(free) > 1 and policy.choose == "ask":
            note = f"{len(free)} labs could make room: one must be named if one has to"
            return self._with_saved(replace(planned, note=note))
        ended = self._ending(planned, running, all_of_them=False, certainty=certainty)
        return self._with_saved(ended)

    def _ending(
        self,
        planned: PlannedRow,
        targets: Sequence[RosterEntry],
        *,
        all_of_them: bool,
        certainty: Certainty,
    ) -> PlannedRow:
        """These make room, the exams among them left alone."""
        free = [entry for entry in targets if self._policy.allow_exam or not entry.is_exam]
        planned = replace(planned, looked_at=len(targets))
        if not free:
            return replace(planned, protected="protected_exam")
        ended = tuple(free if all_of_them else free[:1])
        notes = [planned.note] if planned.note else []
        if all_of_them and len(free) > 1:
            notes.append(f"all {len(free)} instances of it")
        if all_of_them and len(free) < len(targets):
            notes.append("an exam stays")
        note = "; ".join(notes) or None
        return replace(planned, would_end=ended, certainty=certainty, note=note)

    def _with_saved(self, planned: PlannedRow) -> PlannedRow:
        """What a saved instance of the wanted lab does to the launch."""
        row = planned.row
        if not any(e.lab_profile_id == row.lab_profile_id for e in self._saved[row.user_id]):
            return planned
        told = {
            "refuse": "a saved copy may keep it from being launched",
            "resume": "a saved copy is resumed",
            "delete": "a saved copy may be deleted",
        }[self._policy.on_saved]
        return replace(planned, note=f"{planned.note}; {told}" if planned.note else told)

    def _skip(self, reason: str, user_id: str, entry: RosterEntry | None) -> None:
        self.skipped.append(
            Skipped(
                reason=reason,
                user_id=user_id,
                lab_profile_id=entry.lab_profile_id if entry else None,
                instance_id=entry.instance_id if entry else None,
            )
        )


def _row(asked: ListedRow, lab_profile_id: int, named: int | None) -> Row:
    return Row(
        user_id=asked.user_id,
        lab_profile_id=lab_profile_id,
        displace_instance_id=named,
        parameters=asked.parameters,
    )


def _refused(planned: PlannedRow, note: str, looked_at: Sequence[RosterEntry]) -> PlannedRow:
    return replace(planned, note=note, looked_at=len(looked_at))


def _age(entry: RosterEntry) -> tuple[float, int]:
    """The order in which the machine takes them: the oldest first."""
    return (entry.started_at or 0.0, entry.instance_id)
