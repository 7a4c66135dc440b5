"""All that a support person needs to know of one relaunch, in plain words.

What is told is named here, field by field: never the lab's URL, which is single use and the
learner's, nor anything of the launch parameters (names, email) but the tag.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from orchestrator.cli.durations import roughly
from orchestrator.cli.run_table import row
from orchestrator.durable.store import StoredRun
from orchestrator.machine.run import Policy, Run
from orchestrator.plain import to_plain
from orchestrator.requests import Priority
from orchestrator.sentences import final_sentence, left_sentence, progress_sentence


def story(stored: StoredRun, *, driven: bool, now: float) -> str:
    """The lines for people. ``driven``: somebody drives it right now."""
    return "\n".join(_lines(stored, driven, now))


def told(stored: StoredRun, *, driven: bool) -> dict[str, Any]:
    """The same as plain values."""
    run = stored.run
    return {
        **row(stored),
        "sentence": _sentence(run),
        "left": left_sentence(run),
        "driven": driven,
        "abort_requested": stored.signals.abort_requested,
        "hints": stored.signals.hints,
        "deadline_at": run.deadline_at,
        "call_in_doubt": _in_doubt(stored, driven),
        "target_instance_id": run.target,
        "running_instance_ids": [i.instance_id for i in run.running],
        "launches": run.launches,
        "tag": run.tag,
        "error": run.error,
        "idempotency_key": stored.key,
        "priority": stored.priority.name.lower(),
        "steps": stored.version,
        "policy": to_plain(run.policy),
    }


def _lines(stored: StoredRun, driven: bool, now: float) -> Iterator[str]:
    run = stored.run
    yield f"Relaunch {run.relaunch_id}: user {run.user_id}, lab {run.lab_profile_id}"
    yield f"  state     {run.state.value}{f' ({run.reason})' if run.reason else ''}"
    yield f"            {_sentence(run)}"
    if stored.finished_at is None and left_sentence(run):
        yield f"            {left_sentence(run)}"
    yield f"  begun     {_moment(run.created_at, now)}"
    yield f"  last step {_moment(stored.updated_at, now)}; {stored.version} steps"
    if stored.finished_at is not None:
        yield f"  ended     {_moment(stored.finished_at, now)}"
    else:
        yield from _unfinished(stored, driven, now)
    yield f"  calls     {stored.api_calls}, {run.launches} of them launches with tag {run.tag!r}"
    if run.error:
        yield f"  platform  {run.error[:200]}"
    if run.running:
        yield f"  labs seen {', '.join(str(i.instance_id) for i in run.running)}"
    if stored.key is not None:
        yield f"  key       {stored.key!r}"
    choices = [
        f"{f.name}={getattr(run.policy, f.name)}"
        for f in fields(Policy)
        if getattr(run.policy, f.name) != f.default
    ]
    if choices:
        yield f"  policy    {', '.join(choices)}"


def _unfinished(stored: StoredRun, driven: bool, now: float) -> Iterator[str]:
    run = stored.run
    yield f"  deadline  {_moment(run.deadline_at, now)}"
    if stored.due_at is not None and stored.due_at > now:
        yield f"  next look {_moment(stored.due_at, now)}"
    if stored.priority is not Priority.BUTTON:
        yield f"  priority  {stored.priority.name.lower()}"
    if stored.signals.abort_requested:
        yield "  abort     asked for; it ends at its next step"
    if driven:
        yield f"  driven by {stored.owner or 'whoever has just begun it'}"
    else:
        yield "  driven by nobody at the moment."
        yield f"            `relaunch runs resume {run.relaunch_id}` goes on with it;"
        yield f"            `relaunch runs abort {run.relaunch_id}` ends it."
    if _in_doubt(stored, driven):
        yield "  in doubt  its last call may have been made: whoever goes on looks first"


def _in_doubt(stored: StoredRun, driven: bool) -> bool:
    """Whether a call with an effect may have been made whose answer nobody waits for."""
    return stored.finished_at is None and stored.run.effect_pending and not driven


def _sentence(run: Run) -> str:
    return final_sentence(run) if run.state.is_terminal else progress_sentence(run)


def _moment(at: float, now: float) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
    if at > now:
        return f"{when} (in {roughly(at - now)})"
    return f"{when} ({roughly(now - at)} ago)"
