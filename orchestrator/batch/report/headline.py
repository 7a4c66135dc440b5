"""The batch in plain words: what has come of it, whether it is over, and how to go on with it."""

from __future__ import annotations

from orchestrator.batch.obstacles import word_of
from orchestrator.batch.report.tally import Fate, Tally
from orchestrator.batch.report.wording import length
from orchestrator.durable.batches import BatchState


def resume_command(tally: Tally) -> str:
    """The command that takes the batch up again, in backticks."""
    return f"`relaunch batch resume {tally.batch.batch_id}`"


def whole_list(tally: Tally) -> str:
    """Where to find what a page leaves out."""
    command = f"`relaunch batch show {tally.batch.batch_id} --report everybody.csv`"
    return f"{command} writes all of them."


def subject(tally: Tally) -> str:
    """What the batch was to do."""
    frees = not tally.batch.policy.launch
    verb = "Save" if tally.batch.policy.displace == "save" else "End"
    what = f"{verb} labs and free their slots" if frees else "Relaunch labs"
    return f"{what}, {_many(tally.total, _noun(tally))}"


def headline(tally: Tally) -> str:
    """One sentence that says it all."""
    total, ok, noun = tally.total, tally.fates[Fate.OK], _noun(tally)
    if total == 0:
        return "There was nobody in this batch, so nothing was done."
    if ok == total:
        first = (
            f"The one {noun} {_have(tally, 1)}."
            if total == 1
            else f"All {total:,} {noun}s {_have(tally, total)}."
        )
        return first + _people(tally)
    first = (
        f"{_number(ok)} of {_many(total, noun)} {_have(tally, ok)}"
        f"{'' if tally.is_through else ' so far'}"
    )
    parts = [first, *_others(tally)]
    return "; ".join(parts) + "." + _people(tally)


def state_sentences(tally: Tally) -> list[str]:
    """Whether the batch is over, and why not; none if there is nothing to say.

    Commands are in backticks.
    """
    batch = tally.batch
    if batch.state is BatchState.ABORTED:
        return [
            "This batch was aborted and is not gone on with. Ask for those who are left in a new "
            "batch."
        ]
    if batch.state is BatchState.STOPPED:
        left = "" if tally.is_through else f" {resume_command(tally)} goes on with it."
        return [f"This batch stopped before its end. {word_of(batch.reason or 'stopped')}{left}"]
    if tally.is_through:
        return []
    if tally.is_carried_out:
        return ["This batch is still being carried out: this is how it stood then."]
    return [
        "This batch is not finished, and nobody is carrying it out. "
        f"{resume_command(tally)} goes on with it."
    ]


def duration(tally: Tally) -> str:
    """How long it took, and for how much of that nothing was done."""
    whole = tally.horizon - tally.batch.created_at
    paused = sum(cut.end - cut.start for cut in tally.cuts())
    return f"{length(whole)}{f', {length(paused)} of it paused' if paused else ''}"


def per_minute(tally: Tally) -> float | None:
    """How many ended a minute while something was done; ``None`` if that says nothing."""
    ended = tally.fates[Fate.OK] + tally.fates[Fate.NOT_OK]
    seconds = tally.horizon - tally.batch.created_at
    seconds -= sum(cut.end - cut.start for cut in tally.cuts())
    return ended * 60 / seconds if ended and seconds >= 1 else None


def _others(tally: Tally) -> list[str]:
    fates = tally.fates
    parts = []
    if fates[Fate.NOT_OK]:
        ways = list(tally.by_size())
        told = [
            f"{group.count:,} {end.one if group.count == 1 else end.many}" for end, group in ways
        ]
        if len(told) > 5:
            rest = sum(group.count for _, group in ways[4:])
            told = [*told[:4], f"{rest:,} for other reasons"]
        verb = "does" if fates[Fate.NOT_OK] == 1 else "do"
        parts.append(f"{fates[Fate.NOT_OK]:,} {verb} not: {', '.join(told)}")
    if fates[Fate.UNDER_WAY]:
        verb = "is" if fates[Fate.UNDER_WAY] == 1 else "are"
        parts.append(f"{fates[Fate.UNDER_WAY]:,} {verb} under way")
    if fates[Fate.WAITING]:
        verb = "was" if fates[Fate.WAITING] == 1 else "were"
        parts.append(f"{fates[Fate.WAITING]:,} {verb} not begun")
    return parts


def _noun(tally: Tally) -> str:
    # Somebody with two labs in the batch is two labs, and one learner.
    return "learner" if tally.learners == tally.total else "lab"


def _have(tally: Tally, count: int) -> str:
    singular = count == 1
    if _noun(tally) == "lab":
        done = "ended, and the slot is free" if singular else "ended, and the slots are free"
        if tally.batch.policy.launch:
            done = "there"
        return f"{'is' if singular else 'are'} {done}"
    if tally.batch.policy.launch:
        return "has the lab asked for" if singular else "have the lab asked for"
    return f"no longer {'has' if singular else 'have'} the lab that was to end"


def _people(tally: Tally) -> str:
    if tally.learners == tally.total:
        return ""
    return f" ({_many(tally.learners, 'learner')}, some with several labs.)"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _number(count: int) -> str:
    return "None" if count == 0 else f"{count:,}"
