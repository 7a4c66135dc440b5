"""Recording a step in SQLite: the compare-and-set that everything rests on."""

from __future__ import annotations

import sqlite3

from orchestrator.durable import rows
from orchestrator.durable.sqlite import statements as sql
from orchestrator.durable.store import Signals, Step
from orchestrator.errors import UnknownRelaunch

_RUN, _DUE_AT, _FINISHED_AT = (rows.STEP.index(n) for n in ("run", "due_at", "finished_at"))


class Recording:
    """A step as what is written: made where it is asked for, so that the lock is held briefly."""

    __slots__ = ("_entry", "_epoch", "_hints_seen", "_row", "_this", "_version", "relaunch_id")

    def __init__(self, step: Step, consumer: str) -> None:
        self.relaunch_id = step.run.relaunch_id
        self._this = (self.relaunch_id, consumer)
        self._epoch = step.epoch
        self._version = step.entry.progress.sequence
        self._hints_seen = step.hints_seen
        self._row = rows.step_row(step)
        self._entry = rows.entry_text(step.entry)

    def write(self, db: sqlite3.Connection) -> Signals | None:
        """Record it, within a transaction that holds the write lock.

        ``None``, and nothing is written, unless it comes from the holder of the lease and is the
        next one; recorded by an earlier call, whose answer may have got lost, it counts as written.
        """
        execute, row = db.execute, self._row
        found = execute(sql.TO_RECORD, self._this).fetchone()
        if found is None:
            raise UnknownRelaunch(self.relaunch_id)
        number, version, epoch, due_at, finished_at, hints, hinted, abort_requested = found
        signals = rows.signals_of(hints, hinted, abort_requested)
        if epoch != self._epoch:
            return None
        if version == self._version:
            # Who supersedes a run records with the holder's epoch, too: compare what was stored.
            (run,) = execute(sql.RUN, (number,)).fetchone()
            return signals if run == row[_RUN] else None
        if version + 1 != self._version or finished_at is not None:
            return None
        if row[_FINISHED_AT] is not None:
            execute(sql.LAST_STEP, (*row, number))
        else:
            if hints > self._hints_seen or abort_requested:
                # Whatever the holder has not seen yet keeps the run due, in case it dies now.
                row = (*row[:_DUE_AT], min(due_at, row[_DUE_AT]), *row[_DUE_AT + 1 :])
            execute(sql.STEP, (*row[:-1], number))
        execute(sql.NOTE, (number, self._version, self._entry))
        return signals
