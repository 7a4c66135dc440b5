"""Relaunches kept in memory: for tests, and for embedding without durability.

The same rules as the databases keep, in a few dictionaries; several workers in one event loop may
share one. Everything is gone with the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from orchestrator.durable.memory_batches import MemoryBatchStore
from orchestrator.durable.rows import lease_lost
from orchestrator.durable.store import (
    STANDING,
    Entry,
    Filter,
    Signals,
    Step,
    StoredRun,
    new_stored,
)
from orchestrator.durable.watching import Watchers
from orchestrator.errors import UnknownRelaunch
from orchestrator.machine.run import Run
from orchestrator.requests import Priority

T = TypeVar("T")


@dataclass(slots=True)
class _Kept:
    stored: StoredRun
    journal: list[Entry] = field(default_factory=list)
    asked_at: float = 0.0


class MemoryRunStore:
    """:class:`~orchestrator.durable.store.RunStore` without a database."""

    engine = "embedded"
    latency = 0.0

    def __init__(self, *, consumer: str = "default") -> None:
        self.consumer = consumer
        self._kept: dict[str, _Kept] = {}
        self._owners: dict[str, float] = {}
        self._shared: dict[str, str] = {}
        self._watchers = Watchers()
        self.batches = MemoryBatchStore()

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def create(
        self,
        run: Run,
        *,
        at: float,
        key: str | None = None,
        priority: Priority = Priority.BUTTON,
        replacing: Step | None = None,
        owner: str | None = None,
    ) -> tuple[StoredRun, bool]:
        """See :class:`RunStore`, as for every method here."""
        same = self._kept.get(run.relaunch_id)
        if same is not None:
            return same.stored, same.stored.version == 0 and same.stored.run == run
        keyed = self._with_key(key)
        if keyed is not None:
            return keyed.stored, False
        in_the_way = self._unfinished_of(run.user_id)
        if in_the_way is not None:
            if replacing is None or not self._ends(in_the_way, replacing):
                return in_the_way.stored, False
            self._record(in_the_way, replacing)
        stored = new_stored(run, at=at, key=key, priority=priority, owner=owner)
        self._kept[run.relaunch_id] = _Kept(stored)
        if owner is None:
            self._watchers.tell(run.relaunch_id)
        return stored, True

    async def load(self, relaunch_id: str) -> StoredRun:
        """The run."""
        return self._find(relaunch_id).stored

    async def claim(
        self, relaunch_id: str, owner: str, *, at: float, take_over: bool = False
    ) -> StoredRun | None:
        """Take the lease."""
        kept = self._find(relaunch_id)
        if kept.stored.finished_at is not None:
            return None
        if not take_over and not self._free_for(kept.stored, owner, at):
            return None
        kept.stored = replace(kept.stored, epoch=kept.stored.epoch + 1, owner=owner)
        return kept.stored

    async def release(self, relaunch_id: str, epoch: int) -> None:
        """Let the lease go."""
        kept = self._kept.get(relaunch_id)
        if kept is not None and kept.stored.epoch == epoch:
            kept.stored = replace(kept.stored, owner=None)
            self._watchers.tell(relaunch_id)

    async def beat(self, owner: str, *, until: float) -> None:
        """Live until then."""
        self._owners[owner] = until

    async def retire(self, owner: str) -> None:
        """Let everything go."""
        self._owners.pop(owner, None)
        for kept in self._kept.values():
            if kept.stored.owner == owner:
                kept.stored = replace(kept.stored, owner=None)
        self._watchers.tell(None)

    async def append(self, step: Step) -> Signals:
        """Record a transition."""
        kept = self._find(step.run.relaunch_id)
        if self._is_recorded(kept.stored, step):
            return kept.stored.signals
        if kept.stored.finished_at is not None or not self._fits(kept.stored, step):
            raise lease_lost(step.run.relaunch_id)
        self._record(kept, step)
        return kept.stored.signals

    async def holds(self, relaunch_id: str, epoch: int) -> bool:
        """Whether the lease is in force."""
        stored = self._find(relaunch_id).stored
        return stored.epoch == epoch and stored.finished_at is None

    async def signals(self, relaunch_id: str) -> Signals:
        """What has reached the run."""
        return self._find(relaunch_id).stored.signals

    async def hint(self, lab_instance_id: int, *, at: float) -> tuple[str, ...]:
        """Store a hint with the runs that wait for it."""
        hit = []
        for relaunch_id, kept in self._kept.items():
            stored = kept.stored
            if stored.finished_at is None and stored.run.target == lab_instance_id:
                signals = replace(
                    stored.signals, hints=stored.signals.hints + 1, hinted=lab_instance_id
                )
                kept.stored = replace(stored, signals=signals, due_at=_earlier(stored.due_at, at))
                hit.append(relaunch_id)
        for relaunch_id in hit:
            self._watchers.tell(relaunch_id)
        return tuple(hit)

    async def request_abort(self, relaunch_id: str, *, at: float) -> bool:
        """Store the wish to abort."""
        kept = self._find(relaunch_id)
        stored = kept.stored
        if stored.finished_at is not None:
            return False
        signals = replace(stored.signals, abort_requested=True)
        kept.stored = replace(stored, signals=signals, due_at=_earlier(stored.due_at, at))
        self._watchers.tell(relaunch_id)
        return True

    async def due(self, owner: str | None, *, at: float, limit: int = 1000) -> tuple[str, ...]:
        """The runs due by then."""
        found = [
            (stored.due_at, relaunch_id)
            for relaunch_id, stored in self._open_for(owner, at)
            if stored.due_at is not None and stored.due_at <= at
        ]
        return tuple(relaunch_id for _, relaunch_id in sorted(found)[:limit])

    async def next_due(self, owner: str | None, *, after: float) -> float | None:
        """When the next one is due."""
        times = [s.due_at for _, s in self._open_for(owner, after) if s.due_at is not None]
        return min((t for t in times if t > after), default=None)

    async def admit(self, relaunch_id: str, *, at: float, most: int) -> int | None:
        """Let the run begin, or say how many are before it."""
        mine = self._find(relaunch_id)
        if mine.stored.admitted or mine.stored.finished_at is not None:
            return None
        mine.asked_at = at
        unfinished = [k for k in self._kept.values() if k.stored.finished_at is None]
        going = sum(k.stored.admitted and k.stored.run.deadline_at > at for k in unfinished)
        ahead = sum(
            not k.stored.admitted and k.asked_at > at - STANDING and _place(k) < _place(mine)
            for k in unfinished
        )
        if going + ahead >= most:
            return ahead
        mine.stored = replace(mine.stored, admitted=True)
        return None

    async def journal(self, relaunch_id: str, *, after: int = 0) -> tuple[Entry, ...]:
        """The journal."""
        kept = self._find(relaunch_id)
        return tuple(e for e in kept.journal if e.progress.sequence > after)

    async def moved_on(self, seen: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
        """The runs whose version is another one."""
        moved = {}
        for relaunch_id, version in seen.items():
            kept = self._kept.get(relaunch_id)
            if kept is None:
                moved[relaunch_id] = (version, True)
            elif kept.stored.version != version:
                moved[relaunch_id] = (kept.stored.version, kept.stored.finished_at is not None)
        return moved

    async def history(self, which: Filter) -> tuple[StoredRun, ...]:
        """The runs that fit."""
        fitting = [k.stored for k in self._kept.values() if _fits_filter(k.stored, which)]
        fitting.sort(key=lambda s: (s.run.created_at, s.run.relaunch_id), reverse=True)
        return tuple(fitting[: which.limit])

    async def unfinished(self) -> int:
        """How many have not ended."""
        return sum(kept.stored.finished_at is None for kept in self._kept.values())

    async def prune(self, *, before: float) -> int:
        """Forget what ended before then."""
        old = [
            relaunch_id
            for relaunch_id, kept in self._kept.items()
            if kept.stored.finished_at is not None and kept.stored.finished_at < before
        ]
        for relaunch_id in old:
            del self._kept[relaunch_id]
        return len(old)

    async def change(self, name: str, step: Callable[[str | None], tuple[str | None, T]]) -> T:
        """Change a shared text."""
        text, answer = step(self._shared.get(name))
        if text is None:
            self._shared.pop(name, None)
        else:
            self._shared[name] = text
        return answer

    def watch(self, changed: Callable[[str | None], object]) -> Callable[[], None]:
        """Tell of changes."""
        return self._watchers.add(changed)

    def _find(self, relaunch_id: str) -> _Kept:
        kept = self._kept.get(relaunch_id)
        if kept is None:
            raise UnknownRelaunch(relaunch_id)
        return kept

    def _with_key(self, key: str | None) -> _Kept | None:
        if key is None:
            return None
        return next((k for k in self._kept.values() if k.stored.key == key), None)

    def _unfinished_of(self, user_id: str) -> _Kept | None:
        unfinished = (k for k in self._kept.values() if k.stored.finished_at is None)
        return next((k for k in unfinished if k.stored.run.user_id == user_id), None)

    def _ends(self, kept: _Kept, step: Step) -> bool:
        same = kept.stored.run.relaunch_id == step.run.relaunch_id
        return same and step.run.state.is_terminal and self._fits(kept.stored, step)

    def _fits(self, stored: StoredRun, step: Step) -> bool:
        return stored.epoch == step.epoch and stored.version + 1 == step.entry.progress.sequence

    def _is_recorded(self, stored: StoredRun, step: Step) -> bool:
        same = stored.epoch == step.epoch and stored.version == step.entry.progress.sequence
        return same and stored.run == step.run

    def _record(self, kept: _Kept, step: Step) -> None:
        ended = step.run.state.is_terminal
        at = step.entry.progress.at
        signals, due_at = kept.stored.signals, step.due_at
        if signals.hints > step.hints_seen or signals.abort_requested:
            # Whatever the holder has not seen yet keeps the run due, in case it dies now.
            due_at = _earlier(kept.stored.due_at, due_at)
        kept.stored = replace(
            kept.stored,
            run=step.run,
            version=step.entry.progress.sequence,
            due_at=None if ended else due_at,
            owner=None if ended else kept.stored.owner,
            api_calls=step.api_calls,
            hints_seen=step.hints_seen,
            updated_at=at,
            finished_at=at if ended else None,
        )
        kept.journal.append(step.entry)
        if ended:
            self._watchers.tell(step.run.relaunch_id)

    def _free_for(self, stored: StoredRun, owner: str | None, at: float) -> bool:
        if stored.owner is None or stored.owner == owner:
            return True
        return self._owners.get(stored.owner, 0.0) <= at

    def _open_for(self, owner: str | None, at: float) -> list[tuple[str, StoredRun]]:
        return [
            (relaunch_id, kept.stored)
            for relaunch_id, kept in self._kept.items()
            if kept.stored.finished_at is None and self._free_for(kept.stored, owner, at)
        ]


def _earlier(due_at: float | None, at: float) -> float:
    return at if due_at is None else min(due_at, at)


def _place(kept: _Kept) -> tuple[int, float, str]:
    run = kept.stored.run
    return (kept.stored.priority, run.created_at, run.relaunch_id)


def _fits_filter(stored: StoredRun, which: Filter) -> bool:
    run = stored.run
    return (
        which.user_id in (None, run.user_id)
        and which.state in (None, run.state)
        and which.unfinished in (None, stored.finished_at is None)
        and (which.created_since is None or run.created_at >= which.created_since)
    )
