"""A batch in plain words: how it stands, how each learner ended, what came of it and what to do.

English sentences from values, and nothing else. What is said of a learner without success is the
relaunch's own word; what a batch waits for, or stopped for, is that of
:mod:`orchestrator.batch.obstacles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.batch.obstacles import word_of
from orchestrator.batch.outcomes import ItemOutcome, Standing
from orchestrator.cli.durations import roughly
from orchestrator.durable.batches import OK, Batch, BatchState, Counts, StoredItem
from orchestrator.machine.vocabulary import State

#: Why a lab was let be, where a flag would have it ended.
PROTECTED = frozenset({"protected_exam", "protected_scoring", "protected_submitted"})
#: So many learners without success are named.
NAMED = 20

#: What those in flight do, in the order in which they do it, by the machine's states.
_DOING: dict[str, tuple[State, ...]] = {
    "in line": (State.NEW,),
    "being looked at": (
        State.SURVEYING, State.PROBING, State.COUNTING, State.INSPECTING, State.RESURVEYING
    ),
    "ending the old lab": (State.DISPLACING, State.CONFIRMING_DISPLACE),
    "waiting for a teardown": (State.TEARING_DOWN, State.LOOKING),
    "waiting to try again": (State.BACKING_OFF,),
    "launching": (State.LAUNCHING, State.CONFIRMING_LAUNCH, State.VERIFYING, State.ENTERING),
}  # fmt: skip
_OUTCOMES = {
    "launched": "launched",
    "reused": "have a running lab",
    "freed": "free",
    "choose": "are to choose",
    "refused": "refused",
    "failed": "failed",
    "timed_out": "out of time",
    "aborted": "aborted",
}


def learners(count: int) -> str:
    """So many learners."""
    return f"{count:,} learner{'' if count == 1 else 's'}"


def doing(phases: Mapping[str, int]) -> dict[str, int]:
    """How many in flight do what, in words; nothing that nobody does."""
    counted = {
        word: sum(phases.get(state, 0) for state in states) for word, states in _DOING.items()
    }
    known = {state.value for states in _DOING.values() for state in states}
    # What a newer program stores, or a step that has just ended.
    counted["at work"] = sum(count for phase, count in phases.items() if phase not in known)
    return {word: count for word, count in counted.items() if count}


def ended_words(ended: Mapping[str, int]) -> dict[str, int]:
    """How many ended how, in words."""
    known = {_OUTCOMES[name]: ended[name] for name in _OUTCOMES if ended.get(name)}
    return known | {name: n for name, n in ended.items() if name not in _OUTCOMES and n}


def counted(counts: Mapping[str, int]) -> str:
    """``3 launching, 2 in line``."""
    return ", ".join(f"{count:,} {word}" for word, count in counts.items())


def pace_words(standing: Standing) -> str:
    """How fast it goes, and how long the rest will take, as far as that can be said."""
    words = []
    if standing.per_minute is not None:
        words.append(f"{standing.per_minute:,.0f} a minute")
    if standing.eta_seconds is not None:
        words.append(f"about {roughly(standing.eta_seconds)} left")
    return ", ".join(words)


def status_line(standing: Standing) -> str:
    """How a batch stands, in one line."""
    done = standing.ok + standing.not_ok
    parts = [f"{done:,} of {learners(standing.batch.total)} done"]
    if standing.not_ok:
        parts[0] += f", {standing.not_ok:,} without success"
    flying = doing(standing.phases)
    if flying:
        parts.append(counted(flying))
    if standing.waiting:
        parts.append(f"{standing.waiting:,} not begun")
    if pace := pace_words(standing):
        parts.append(pace)
    if standing.obstacle is not None:
        parts.append(standing.obstacle.message.rstrip("."))
    return "; ".join(parts) + "."


def ended_line(outcome: ItemOutcome, number: int) -> str:
    """How a learner's relaunch ended; ``number`` counts those that have ended here."""
    # Its own word names the learner and the lab.
    seconds = f"{outcome.result.waited_seconds:.1f} s"
    return f"{number:>7,}  {seconds:>9}  {outcome.result.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that is told of a batch that is not carried out here (any more).

    ``bad``: those that ended without success. ``where``: the flags that lead another command to the
    same store.
    """

    batch: Batch
    counts: Counts
    bad: Sequence[StoredItem]
    at: float
    where: str = ""

    @property
    def is_held(self) -> bool:
        """Whether some process carries it out right now."""
        return self.batch.is_held(self.at)


def last_word(told: Account) -> str:
    """What came of it, who has no success and why, and what to do next."""
    batch, counts = told.batch, told.counts
    have = (
        "have the lab that was asked for"
        if batch.policy.launch
        else "no longer have the lab that was to end"
    )
    took = roughly((batch.ended_at or told.at) - batch.started_at)
    if batch.started_at != batch.created_at:
        took += " since it was resumed"
    lines = [
        f"Batch {batch.batch_id} {state_words(told)}: {counts.ok:,} of {learners(batch.total)} "
        f"{have}. {took}, {counts.api_calls:,} API calls."
    ]
    if counts.ended:
        lines.append(f"  {counted(ended_words(counts.ended))}")
    return "\n".join([*lines, *bad_lines(told, most=NAMED), *next_lines(told)])


def bad_lines(told: Account, *, most: int | None = None) -> Iterator[str]:
    """Who has no success, and why."""
    if not told.bad:
        return
    yield f"{learners(len(told.bad))} without success:"
    for stored in told.bad[:most]:
        message = "" if stored.result is None else stored.result.message
        yield f"  {message}"
    if most is not None and len(told.bad) > most:
        command = f"relaunch batch show {told.batch.batch_id} --failed{told.where}"
        yield f"  and {len(told.bad) - most:,} more: `{command}`"


def next_lines(told: Account) -> Iterator[str]:
    """What is left, and what to do next."""
    batch, counts = told.batch, told.counts
    if batch.state is BatchState.STOPPED and batch.reason:
        yield f"Why it stopped: {word_of(batch.reason)}"
    if counts.in_flight:
        yield f"{learners(counts.in_flight)} in flight: their relaunches are kept as they stand."
    if counts.waiting:
        yield f"{learners(counts.waiting)} not begun: nothing of theirs was touched."
    if batch.state is BatchState.ABORTED:
        return
    what = []
    if counts.waiting or counts.in_flight:
        what.append("follows it" if told.is_held else "goes on with it")
    if counts.not_ok:
        what.append("tries those without success again")
    if what:
        command = resume_command(batch.batch_id, told.where)
        yield f"`{command}` {' and '.join(what)}; whoever has succeeded is let be."
    if any(s.result is not None and s.result.reason in PROTECTED for s in told.bad):
        yield "Exams and labs that are being graded are ended only with --allow-exam."


def resume_command(batch_id: str, where: str = "") -> str:
    """What goes on with it."""
    return f"relaunch batch resume {batch_id}{where}"


def state_words(told: Account) -> str:
    """What it is doing, as the verb of a sentence."""
    match told.batch.state:
        case BatchState.ENDED:
            return "has ended"
        case BatchState.ABORTED:
            return "was aborted"
        case BatchState.STOPPED:
            return "stopped"
        case BatchState.RUNNING if told.is_held:
            return "is being carried out"
        case BatchState.RUNNING:
            return "is not done, and nobody carries it out right now"


def is_bad(stored: StoredItem) -> bool:
    """Whether an item has ended without success."""
    return stored.result is not None and stored.result.outcome not in OK
