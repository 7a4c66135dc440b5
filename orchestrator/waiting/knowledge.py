"""What is known of the teardowns, lab profile by lab profile, and how one profile helps another.

Each lab profile has a learned schedule of its own. Where that knows little, its relatives stand in:
the lab profiles of the same kind (the platform or the series that they run on), and behind those
all lab profiles of the API consumer. Saving takes another time than cancelling, so it is another
subject. What is known is a plain value; whoever holds it keeps it (in a file, see
:mod:`orchestrator.waiting.knowledge_file`, or a store). Losing it costs time and calls, no more. No
user or lab instance is in it, only lab profiles and times.
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.plain import from_plain, to_plain
from orchestrator.waiting.learned import LearnedSchedule, Typical

#: Version of the stored form.
SCHEMA = 1
#: The waits of a subject that are kept as they were, for replays and averages.
HISTORY = 200
#: The subjects that are kept; the one that was not needed for longest is forgotten.
SUBJECTS = 200
#: A webhook that comes so many seconds after a look had found the end still tells of that end.
LATE = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose teardown it is: the lab that makes room, and the step that ends it.

    ``kind``: what lab profiles that are torn down alike have in common, such as ``platform 20``.
    """

    lab_profile_id: int | None
    kind: str | None = None
    step: Literal["cancel", "save"] = "cancel"

    @property
    def name(self) -> str:
        """The subject's name, such as ``1001`` or ``1001 save``."""
        return self._with_step(str(self.lab_profile_id or "?"))

    @property
    def relatives(self) -> str | None:
        """The name of those that are torn down alike, such as ``platform 20 save``."""
        return None if self.kind is None else self._with_step(self.kind)

    def _with_step(self, name: str) -> str:
        return name if self.step == "cancel" else f"{name} {self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """One wait that is over: the slot became free between ``low`` and ``high`` seconds.

    ``high`` is ``math.inf`` if it never did; both are the same if a webhook announced it.
    """

    low: float
    high: float
    looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of one subject, for people; ``looks`` and ``idle`` (seconds) are averages."""

    name: str
    kind: str | None
    typical: Typical
    looks: float
    idle: float
    announced: float


@dataclass
class _Known:
    subject: Subject
    schedule: LearnedSchedule
    history: deque[Waited] = field(default_factory=lambda: deque(maxlen=HISTORY))


class Knowledge:
    """See the module's docstring. From any thread."""

    def __init__(self, cost_per_look: float = 2.0, deadline: float = 900.0) -> None:
        self.cost_per_look = cost_per_look
        self.deadline = deadline
        self._all = LearnedSchedule(cost_per_look, deadline)
        self._kinds: dict[str, LearnedSchedule] = {}
        self._known: dict[str, _Known] = {}
        self._found: deque[tuple[int, Subject, float, float]] = deque(maxlen=HISTORY)
        self._lock = threading.RLock()
        #: Whether anything was learned since this knowledge was made or taken up.
        self.changed = False

    def schedule(self, subject: Subject) -> LearnedSchedule:
        """The schedule for a wait for ``subject``."""
        with self._lock:
            return self._of(subject).schedule

    def record(self, subject: Subject, waited: Waited) -> None:
        """Learn from a wait that is over."""
        with self._lock:
            known = self._of(subject)
            known.history.append(waited)
            self.changed = True
            known.schedule.observe(waited.low, waited.high)

    def found(self, instance_id: int, subject: Subject, earliest: float, latest: float) -> None:
        """A look found ``instance_id`` gone; it went between the two moments (epoch seconds)."""
        with self._lock:
            self._found.append((instance_id, subject, earliest, latest))

    def announced(self, instance_id: int, at: float) -> None:
        """A webhook tells that ``instance_id`` is torn down; it counts if a look was first."""
        with self._lock:
            for entry in self._found:
                if entry[0] == instance_id:
                    _, subject, earliest, latest = entry
                    if at - latest <= LATE:
                        late = self._of(subject).schedule
                        late.announced_late(max(0.0, at - latest), max(0.0, at - earliest))
                    self._found.remove(entry)
                    return

    def typical(self, subject: Subject) -> Typical | None:
        """How long it usually takes; ``None`` if this subject was never waited for."""
        with self._lock:
            known = self._known.get(subject.name)
            return known.schedule.typical() if known and known.history else None

    def history(self, name: str) -> tuple[Waited, ...]:
        """The last waits of a subject, oldest first; ``KeyError`` if there is no such subject."""
        with self._lock:
            return tuple(self._known[name].history)

    def learned(self, name: str) -> LearnedSchedule:
        """The schedule of a subject by its name; ``KeyError`` if there is none."""
        with self._lock:
            return self._known[name].schedule

    def rows(self) -> tuple[Row, ...]:
        """One row for each subject that was ever waited for, the most observed first."""
        with self._lock:
            seen = [(name, known) for name, known in self._known.items() if known.history]
            seen.sort(key=lambda item: (-item[1].schedule.law.observations, item[0]))
            return tuple(_row(name, known) for name, known in seen)

    def _relatives_of(self, subject: Subject) -> LearnedSchedule:
        name = subject.relatives
        if name is None:
            return self._all
        if name not in self._kinds:
            self._kinds[name] = LearnedSchedule(
                self.cost_per_look, self.deadline, relatives=self._all
            )
        return self._kinds[name]

    def _of(self, subject: Subject) -> _Known:
        # The one that was needed last is the last in the dict.
        known = self._known.pop(subject.name, None)
        if known is None:
            relatives = self._relatives_of(subject)
            schedule = LearnedSchedule(self.cost_per_look, self.deadline, relatives=relatives)
            known = _Known(subject, schedule)
        self._known[subject.name] = known
        if len(self._known) > SUBJECTS:
            del self._known[next(iter(self._known))]
        return known

    def to_json(self) -> str:
        """The stored form, up to 15 kB for each subject."""
        with self._lock:
            state = {
                "schema": SCHEMA,
                "all": self._all.to_plain(),
                "kinds": {k: s.to_plain() for k, s in self._kinds.items()},
                "subjects": {
                    name: {
                        **to_plain(known.subject),
                        "schedule": known.schedule.to_plain(),
                        "history": [_plain(waited) for waited in known.history],
                    }
                    for name, known in self._known.items()
                    if known.history
                },
            }
        return json.dumps(state, separators=(",", ":"))

    @classmethod
    def from_json(
        cls, text: str, *, cost_per_look: float = 2.0, deadline: float = 900.0
    ) -> Knowledge:
        """Take up what was stored. Raises ``ValueError`` if it can't be read.

        The cost of a look is today's; a schedule that knows another deadline begins afresh from
        the waits that were kept.
        """
        state = json.loads(text)
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            raise ValueError(f"schema: no knowledge of stored version {SCHEMA}")
        knowledge = cls(cost_per_look, deadline)
        try:
            knowledge._take(state)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no stored knowledge: {error!r}") from None
        return knowledge

    def _take(self, state: dict[str, Any]) -> None:
        self._all = self._restored(state["all"], None)
        for kind, stored in state["kinds"].items():
            self._kinds[str(kind)] = self._restored(stored, self._all)
        for stored in state["subjects"].values():
            subject = from_plain(Subject, stored)
            history = [_waited(entry) for entry in stored["history"]]
            schedule = self._restored(stored["schedule"], self._relatives_of(subject), history)
            self._known[subject.name] = _Known(subject, schedule, deque(history, HISTORY))

    def _restored(
        self,
        stored: dict[str, Any],
        relatives: LearnedSchedule | None,
        history: list[Waited] | None = None,
    ) -> LearnedSchedule:
        schedule = LearnedSchedule.from_plain(stored, relatives=relatives)
        if schedule.deadline == self.deadline:
            schedule.cost_per_look = self.cost_per_look
            return schedule
        schedule = LearnedSchedule(self.cost_per_look, self.deadline, relatives=relatives)
        for waited in history or []:
            schedule.observe(waited.low, waited.high)
        return schedule


def _row(name: str, known: _Known) -> Row:
    typical = known.schedule.typical()
    assert typical is not None  # noqa: S101 - a subject with a history has been observed
    law, waits = known.schedule.law, known.history
    ended = [w for w in waits if w.high < math.inf]
    idle = [w.high - law.mean_between(w.low, w.high) for w in ended]
    return Row(
        name=name,
        kind=known.subject.kind,
        typical=typical,
        looks=sum(w.looks for w in waits) / len(waits),
        idle=sum(idle) / len(idle) if idle else 0.0,
        announced=sum(w.low == w.high for w in ended) / len(ended) if ended else 0.0,
    )


def _plain(waited: Waited) -> list[float | None]:
    high = None if waited.high == math.inf else round(waited.high, 2)
    return [round(waited.low, 2), high, waited.looks]


def _waited(entry: list[float | None]) -> Waited:
    low, high, looks = entry
    if low is None or looks is None:
        raise ValueError("history: an entry is no wait")
    return Waited(low=low, high=math.inf if high is None else high, looks=int(looks))
