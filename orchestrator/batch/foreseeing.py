"""What is foreseen of one item: which labs would be ended, whether it is protected, or refused.

It goes by what the list of all labs says, and by the rules by which the machine will choose when
the item's turn comes (:mod:`orchestrator.machine.candidates`, :mod:`~.machine.decisions`). A test
holds the two together: what is foreseen is what happens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.batch.listing import ListedRow
from orchestrator.batch.requests import Row
from orchestrator.batch.selection import Selection, Skipped
from orchestrator.labs import LaunchParameters, RosterEntry
from orchestrator.machine.candidates import graded
from orchestrator.machine.run import Policy

#: How sure it is that the labs named are ended: in any case; only if the platform lets the learner
#: have no lab more; nothing is ended; or the platform doesn't list any labs.
Certainty = Literal["surely", "if_needed", "nothing", "unknown"]
#: Whether the lab is launched, as far as can be foreseen.
Launches = Literal["yes", "maybe", "no"]

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
    is where it was listed (``None``: it was selected). ``looked_at`` labs are looked at first.
    """

    row: Row
    line: int | None
    certainty: Certainty
    would_end: tuple[RosterEntry, ...] = ()
    launches: Launches = "no"
    protected: str | None = None
    note: str | None = None
    looked_at: int = 0


class Foresight:
    """Foresees item after item, over what the list says; ``skipped`` are those that are none."""

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
        if self._policy.launch:
            planned = replace(planned, launches="yes")
        if not self._listed:
            return replace(planned, certainty="unknown")
        return self._launched(planned) if self._policy.launch else self._freed(planned)

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
            return _as_it_is(planned, "runs already, and is handed over", same)
        if same and policy.if_running == "refuse":
            return _as_it_is(planned, "runs already: would be refused", same)
        if same and policy.displace == "save" and policy.on_saved == "refuse":
            return _as_it_is(planned, "a saved copy would keep it from being launched", same)
        ids = {entry.instance_id for entry in running}
        if named is not None and named not in ids:
            return _as_it_is(planned, f"lab instance {named} is not running: would be refused", [])
        if named is not None and same and named not in {entry.instance_id for entry in same}:
            return _as_it_is(planned, "runs already beside the one named: would be refused", same)
        if same:
            ended = self._ending(planned, same, all_of_them=True, certainty="surely")
            if ended.protected:
                return replace(ended, launches="no")
            return self._with_saved(ended)
        if named is not None:
            running = [self._by_id[named]]
        if not running:
            return self._with_saved(planned)
        tried_first = policy.probe or policy.overlap
        certainty: Certainty = "if_needed" if tried_first else "surely"
        at_most: Launches = "maybe" if tried_first else "no"
        free = [entry for entry in running if policy.allow_exam or not entry.is_exam]
        if named is None and free and policy.choose == "named":
            note = "another lab runs, and none is named"
            return self._with_saved(replace(planned, note=note, launches=at_most))
        if named is None and len(free) > 1 and policy.choose == "ask":
            note = f"{len(free)} labs could make room: one must be named if one has to"
            return self._with_saved(replace(planned, note=note, launches=at_most))
        ended = self._ending(planned, running, all_of_them=False, certainty=certainty)
        if ended.protected:
            word = "if one more lab is allowed" if tried_first else None
            ended = replace(ended, note=word, launches=at_most)
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
        if self._policy.on_saved == "refuse":
            planned = replace(planned, launches="maybe")
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


def _as_it_is(planned: PlannedRow, note: str, looked_at: Sequence[RosterEntry]) -> PlannedRow:
    """Nothing is ended, and nothing launched."""
    return replace(planned, note=note, looked_at=len(looked_at), launches="no")


def _age(entry: RosterEntry) -> tuple[float, int]:
    """The order in which the machine takes them: the oldest first."""
    return (entry.started_at or 0.0, entry.instance_id)
