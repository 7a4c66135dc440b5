"""Which lab makes room, and which must never be touched.

Pure choice over what the platform lists and describes. The rules, in order:

1. Never another user's instance, never another API consumer's, never one that the platform will
   not describe: what can't be looked at closely may be any of these.
2. Never an exam, a lab being scored or one submitted for grading, without ``allow_exam``.
3. If a lab is ending by itself already, nothing else needs to: its slot comes free anyway.
4. The lab the caller named (or none, where only a named one may be ended); else the same lab
   profile first, then the oldest; or ask. Where nothing is to be launched, all of the lab
   profile that were there at first, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.labs import InstanceDetails, Phase, RunningInstance, SavedInstance
from orchestrator.machine.run import Run

_NEVER_THEIRS = ("not_the_users", "foreign_instance")


class Verdict(StrEnum):
    """What is to be done about making room."""

    DISPLACE = "displace"
    ENDING = "ending"
    GONE = "gone"
    UNREADABLE = "unreadable"
    PROTECTED = "protected"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Choice:
    """A verdict, the instances it is about, and its stable reason code where it is a refusal."""

    verdict: Verdict
    instance_ids: tuple[int, ...]
    reason: str | None = None


def protection(
    run: Run, details: InstanceDetails, listed: RunningInstance | SavedInstance | None
) -> str | None:
    """Why this run must not displace the instance (a stable reason code), or ``None``.

    What the list says and what the details say both count: either may run behind the other.
    """
    if details.user_id is not None and details.user_id != run.user_id:
        return "not_the_users"
    if details.foreign or run.policy.allow_exam:
        return "foreign_instance" if details.foreign else None
    if getattr(listed, "submitted_for_grading", False):
        return "protected_submitted"
    return graded(details, is_exam=listed is not None and listed.is_exam)


def graded(details: InstanceDetails, *, is_exam: bool = False) -> str | None:
    """Which graded attempt would be destroyed with the instance (a stable reason code)."""
    if details.submitted_for_grading:
        return "protected_submitted"
    if details.phase is Phase.SCORING:
        return "protected_scoring"
    return "protected_exam" if is_exam or details.is_exam else None


def listed_protection(run: Run, instances: Iterable[RunningInstance]) -> str | None:
    """Whether the list alone shows that every one of ``instances`` is protected."""
    reasons = [protection(run, InstanceDetails(instance_id=i.instance_id), i) for i in instances]
    return reasons[0] if reasons and all(reasons) else None


def to_end(run: Run) -> tuple[int, ...]:
    """What a run that launches nothing has yet to see the end of, as far as it is listed.

    A lab being saved counts, one that came after the run's first look does not.
    """
    named = run.policy.displace_instance_id
    profiles = {i.instance_id: i.lab_profile_id for i in run.saved if i.save_in_progress}
    profiles |= {i.instance_id: i.lab_profile_id for i in run.running}
    if named is not None:
        return (named,) if named in profiles else ()
    return tuple(i for i, p in profiles.items() if p == run.lab_profile_id and i in run.known)


def to_inspect(run: Run) -> tuple[int, ...]:
    """The instances worth a look before one of them is displaced, the best candidate first."""
    if run.repeats:
        return tuple(i.instance_id for i in run.same_profile)
    if run.policy.displace_instance_id is not None and not run.takers:
        return (run.policy.displace_instance_id,)
    pool = run.running
    if run.takers:
        # They count whether or not the list shows them (yet).
        return tuple(i for i in run.takers if i not in run.displaced)
    if run.reusing:
        pool = run.same_profile
    if not run.policy.launch:
        pool = tuple(i for i in run.running if i.instance_id in to_end(run))
    if run.releasing and run.policy.if_running == "replace" and run.same_profile:
        pool = run.same_profile
    left = [i for i in pool if i.instance_id not in (*run.displaced, run.new_instance_id)]
    return tuple(i.instance_id for i in sorted(left, key=lambda i: _rank(run, i)))


def _rank(run: Run, instance: RunningInstance) -> tuple[bool, float, int]:
    started = instance.started_at if instance.started_at is not None else 0.0
    return (instance.lab_profile_id != run.lab_profile_id, started, instance.instance_id)


def choose(run: Run, details: tuple[InstanceDetails, ...]) -> Choice:
    """Choose among the inspected instances, which come best candidate first."""
    listed: dict[int, RunningInstance | SavedInstance] = {i.instance_id: i for i in run.saved}
    listed |= {i.instance_id: i for i in run.running}
    same = {i.instance_id for i in run.same_profile}
    why = {d.instance_id: protection(run, d, listed.get(d.instance_id)) for d in details}
    for d in details:
        if not (run.policy.launch or why[d.instance_id] or d.user_id or d.instance_id in listed):
            # Neither the list nor the details say whose it is.
            why[d.instance_id] = "instance_not_described"

    blocking = [d for d in details if d.instance_id in same]
    if blocking:
        # A launch of this profile would only hand back the running instance: it has to go itself.
        details = tuple(blocking)
    if not run.policy.launch:
        # All are to go: one that is gone already keeps nobody from the others.
        details = tuple(d for d in details if d.phase is not Phase.GONE) or details
    for verdict, phases in (
        (Verdict.ENDING, (Phase.ENDING, Phase.SAVING)),
        (Verdict.GONE, (Phase.GONE,)),
    ):
        for d in details:
            if d.phase in phases and why[d.instance_id] not in _NEVER_THEIRS:
                return Choice(verdict, (d.instance_id,))

    free = [d for d in details if d.readable and why[d.instance_id] is None]
    unreadable = tuple(d.instance_id for d in details if not (d.readable or d.foreign))
    if not free and unreadable:
        return Choice(Verdict.UNREADABLE, unreadable)
    if not free:
        ids = tuple(d.instance_id for d in details)
        return Choice(Verdict.PROTECTED, ids, why[ids[0]])
    if run.policy.choose == "named" and run.policy.displace_instance_id is None:
        return Choice(Verdict.ASK, tuple(d.instance_id for d in free), "none_named")
    if len(free) > 1 and run.policy.choose == "ask" and run.policy.launch:
        return Choice(Verdict.ASK, tuple(d.instance_id for d in free), "ambiguous_instances")
    return Choice(Verdict.DISPLACE, (free[0].instance_id,))
