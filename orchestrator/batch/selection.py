"""Which running labs a batch is about, chosen from what the platform says of the whole consumer.

* All criteria must hold. Of several lab profiles, or several patterns of user ids, one must.
* Only what runs is chosen: neither saved labs, nor one that is known to end already.
* What isn't known doesn't count: a lab whose last activity nobody tells is not idle, one whose
  start nobody tells is not old, and one that isn't told to be of the class is not of it. Each is
  named, with the reason.
* As few questions as can be: one for the list; for a class or for idleness pages of a search, or
  the labs one by one where that is fewer. None of them changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from orchestrator.batch.asking import Asker
from orchestrator.errors import CallRefused, InvalidRequest
from orchestrator.labs import InstanceDetails, Phase, RosterEntry
from orchestrator.machine.run import Policy
from orchestrator.ports import AsyncClock, AsyncRoster

#: Seconds by which the two ways to ask may tell a lab's start differently.
_SLACK = 60.0
#: So many labs show whether asking one by one tells more than the search did.
SAMPLE = 3
_ENDING = {
    Phase.ENDING: "ending_already",
    Phase.GONE: "ending_already",
    Phase.SAVING: "saved",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a lab must be to be chosen; ``everything`` asks for nothing more than that it runs.

    ``user_globs`` are patterns of user ids (``*``, ``?``, ``[...]``), upper and lower case told
    apart.
    """

    everything: bool = False
    lab_profile_ids: tuple[int, ...] = ()
    class_id: str | None = None
    older_than_seconds: float | None = None
    idle_for_seconds: float | None = None
    user_globs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse criteria that mean nothing: an empty text must not select everybody."""
        if not (self.everything or any(self._asked())):
            raise InvalidRequest("selection", "nothing says which labs; name all to mean all.")
        if self.class_id is not None and not self.class_id.strip():
            raise InvalidRequest("class_id", "is empty.")
        if not all(glob.strip() for glob in self.user_globs):
            raise InvalidRequest("user_glob", "is empty.")
        for name in ("older_than", "idle_for"):
            seconds = getattr(self, f"{name}_seconds")
            if seconds is not None and not 0 <= seconds < float("inf"):
                raise InvalidRequest(name, "is no length of time.")

    def _asked(self) -> Iterator[bool]:
        yield bool(self.lab_profile_ids)
        yield bool(self.user_globs)
        yield self.class_id is not None
        yield self.older_than_seconds is not None
        yield self.idle_for_seconds is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A lab that was chosen, and what more was told of it where that was asked for."""

    entry: RosterEntry
    details: InstanceDetails | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A lab (or a listed learner) that is left alone; ``reason`` is a stable code."""

    reason: str
    user_id: str | None = None
    lab_profile_id: int | None = None
    instance_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was chosen at ``at``, and what would have been but for the reason with it.

    ``description`` is the criteria in plain words, the same for the same ones. ``roster`` is the
    list that it was chosen from.
    """

    at: float
    description: str
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    roster: tuple[RosterEntry, ...]
    api_calls: int


#: Why a lab was left alone, in plain words.
REASONS = {
    "saved": "saved, or being saved",
    "ending_already": "ending already",
    "no_user_told": "the platform doesn't say whose it is",
    "no_lab_profile_told": "the platform doesn't say which lab it is",
    "start_not_told": "the platform doesn't say when it began",
    "activity_not_told": "the platform doesn't say when it was last used",
    "class_not_told": "the platform doesn't say which class it is of",
}


async def select(
    platform: AsyncRoster, criteria: Criteria, *, at: float, clock: AsyncClock | None = None
) -> Selection:
    """Choose among what runs; ``at`` is now. Raises what the platform's questions raise."""
    asker = Asker(platform, clock)
    roster = await asker.roster()
    choosing = _Choosing(asker, criteria, at)
    candidates = choosing.by_the_list(roster)
    if candidates and criteria.class_id is not None:
        candidates = await choosing.of_the_class(candidates)
    if candidates and criteria.idle_for_seconds is not None:
        candidates = await choosing.idle(candidates)
    return Selection(
        at=at,
        description=describe(criteria),
        candidates=tuple(choosing.still_running(candidates)),
        skipped=tuple(choosing.skipped),
        roster=roster,
        api_calls=asker.calls,
    )


class _Choosing:
    """One choice in the making; each step leaves fewer candidates, and notes why."""

    def __init__(self, asker: Asker, criteria: Criteria, at: float) -> None:
        self._asker = asker
        self._criteria = criteria
        self._at = at
        self._asked_about: set[int] = set()
        self.skipped: list[Skipped] = []

    def by_the_list(self, roster: Sequence[RosterEntry]) -> list[Candidate]:
        """What the list alone can tell."""
        wanted, oldest = self._criteria, self._criteria.older_than_seconds
        chosen = []
        for entry in roster:
            if wanted.lab_profile_ids and entry.lab_profile_id not in wanted.lab_profile_ids:
                continue
            if wanted.user_globs and not _matches(entry.user_id, wanted.user_globs):
                continue
            started = _started_at(entry)
            if oldest is not None and started is not None and self._at - started < oldest:
                continue
            if entry.saved:
                self._skip(entry, "saved")
            elif entry.user_id is None:
                self._skip(entry, "no_user_told")
            elif entry.lab_profile_id is None:
                self._skip(entry, "no_lab_profile_told")
            elif oldest is not None and started is None:
                self._skip(entry, "start_not_told")
            else:
                chosen.append(Candidate(entry=entry))
        return chosen

    async def of_the_class(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those of the class. That a search found them is not enough: each must be told to be."""
        told, complete = await self._search(candidates, self._criteria.class_id)
        unsure = [
            c.entry.instance_id
            for c in candidates
            if (d := told.get(c.entry.instance_id)) is not None and d.class_id is None
        ]
        if not complete:
            unsure += [c.entry.instance_id for c in candidates if c.entry.instance_id not in told]
        told |= await self._about(unsure)
        chosen = []
        for candidate in _with(candidates, told):
            if candidate.details is None:
                continue
            if candidate.details.class_id is None:
                self._skip(candidate.entry, "class_not_told")
            elif candidate.details.class_id == self._criteria.class_id:
                chosen.append(candidate)
        return chosen

    async def idle(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those that nobody has used for so long."""
        if all(candidate.details is None for candidate in candidates):
            told, _ = await self._search(candidates, None)
            missed = [i for c in candidates if (i := c.entry.instance_id) not in told]
            candidates = list(_with(candidates, told | await self._about(missed)))
        # Whether a search tells the last activity at all shows in a few labs of which it didn't.
        untold = [
            i
            for c in candidates
            if _used_at(c) is None and (i := c.entry.instance_id) not in self._asked_about
        ]
        for some in (untold[:SAMPLE], untold[SAMPLE:]):
            told = await self._about(some)
            candidates = list(_with(candidates, told))
            if not any(details.last_activity_at for details in told.values()):
                break
        chosen = []
        for candidate in candidates:
            used_at = _used_at(candidate)
            if used_at is None:
                self._skip(candidate.entry, "activity_not_told")
            elif self._at - used_at >= (self._criteria.idle_for_seconds or 0.0):
                chosen.append(candidate)
        return chosen

    def still_running(self, candidates: Sequence[Candidate]) -> Iterator[Candidate]:
        """Those that were not told, meanwhile, to be ending."""
        for candidate in candidates:
            details = candidate.details
            reason = _ENDING.get(details.phase) if details is not None else None
            if reason is None:
                yield candidate
            else:
                self._skip(candidate.entry, reason)

    async def _search(
        self, candidates: Sequence[Candidate], class_id: str | None
    ) -> tuple[dict[int, InstanceDetails], bool]:
        """What a search tells of the candidates, and whether it went through all of its pages.

        It doesn't where asking about each lab that is missing still takes fewer calls.
        """
        wanted = {c.entry.instance_id for c in candidates}
        profiles = {c.entry.lab_profile_id for c in candidates}
        starts = [_started_at(c.entry) for c in candidates]
        known = [start for start in starts if start is not None]
        since = min(known) - _SLACK if len(known) == len(starts) else None
        told: dict[int, InstanceDetails] = {}
        seen: set[int] = set()
        number = 0
        while len(told) < len(wanted):
            if class_id is None and len(wanted) - len(told) <= 1:
                return told, False
            try:
                page = await self._asker.page(
                    number,
                    class_id=class_id,
                    lab_profile_id=next(iter(profiles)) if len(profiles) == 1 else None,
                    since=since,
                )
            except CallRefused:
                return told, False
            found = {i.instance_id: i for i in page.instances}
            if not found:
                return told, True
            if found.keys() <= seen:
                return told, False  # The same again: its pages lead nowhere.
            seen |= found.keys()
            told |= {i: details for i, details in found.items() if i in wanted}
            number += 1
            # No number of pages, or none that can be: it goes on until a page is empty.
            left = page.total_pages - number if page.total_pages else None
            if left is not None and left <= 0:
                return told, True
            if left is not None and class_id is None and left > len(wanted) - len(told):
                return told, False
        return told, True

    async def _about(self, instance_ids: Sequence[int]) -> dict[int, InstanceDetails]:
        self._asked_about.update(instance_ids)
        return await self._asker.about(instance_ids)

    def _skip(self, entry: RosterEntry, reason: str) -> None:
        self.skipped.append(
            Skipped(
                reason=reason,
                user_id=entry.user_id,
                lab_profile_id=entry.lab_profile_id,
                instance_id=entry.instance_id,
            )
        )


def _with(candidates: Sequence[Candidate], told: dict[int, InstanceDetails]) -> Iterator[Candidate]:
    for candidate in candidates:
        yield replace(candidate, details=told.get(candidate.entry.instance_id, candidate.details))


def _started_at(entry: RosterEntry) -> float | None:
    """When it began; a time of 0, or before it (the least date that there is), is none."""
    return entry.started_at if entry.started_at and entry.started_at > 0 else None


def _used_at(candidate: Candidate) -> float | None:
    used_at = candidate.details.last_activity_at if candidate.details is not None else None
    return used_at if used_at and used_at > 0 else None


def _matches(user_id: str | None, globs: Sequence[str]) -> bool:
    return user_id is not None and any(fnmatchcase(user_id, glob) for glob in globs)


def saves_what_it_launches(policy: Policy) -> bool:
    """Whether each launch would be refused: what is selected is saved, and then launched itself."""
    return policy.launch and policy.displace == "save" and policy.on_saved == "refuse"


def describe(criteria: Criteria) -> str:
    """The criteria in plain words: the same for the same ones, whatever their order."""
    labs, globs = sorted(set(criteria.lab_profile_ids)), sorted(set(criteria.user_globs))
    parts = [
        "every running lab"
        if not labs
        else f"running labs of lab profile {_either(map(str, labs))}"
    ]
    if criteria.class_id is not None:
        parts.append(f"of class {criteria.class_id!r}")
    if globs:
        parts.append(f"of users like {_either(map(repr, globs))}")
    if criteria.older_than_seconds is not None:
        parts.append(f"begun {_length(criteria.older_than_seconds)} ago or earlier")
    if criteria.idle_for_seconds is not None:
        parts.append(f"unused for {_length(criteria.idle_for_seconds)} or longer")
    return ", ".join(parts)


def _either(words: Iterator[str]) -> str:
    return " or ".join(words)


def _length(seconds: float) -> str:
    """Exact, so that two lengths are never told alike."""
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds!r} s" if seconds % 1 else f"{seconds:.0f} s"
