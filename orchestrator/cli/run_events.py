"""The journal of one relaunch as a time line, each step with the call that it announced.

Reading it drives nothing, however long it is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

from orchestrator.durable.store import Entry, RunStore
from orchestrator.plain import to_plain

_QUESTIONS = {
    "userrunningandsavedlabs": "about to list the learner's labs",
    "details": "about to look at {}",
    "stats": "about to count the active labs",
    "LabAccessUrl": "about to fetch the way into {}",
    "resume": "about to resume {}",
    "cancel": "about to cancel {}",
    "save": "about to save {}",
}


async def entries(store: RunStore, relaunch_id: str, *, follow: bool) -> AsyncIterator[Entry]:
    """The journal so far; with ``follow`` what comes as well, up to the relaunch's end.

    Raises :class:`~orchestrator.errors.UnknownRelaunch`.
    """
    changed, after = asyncio.Event(), 0

    def note(which: str | None) -> None:
        if which in (None, relaunch_id):
            changed.set()

    stop = store.watch(note) if follow else lambda: None
    try:
        while True:
            # Cleared before reading: what comes while reading is read next time.
            changed.clear()
            stored = await store.load(relaunch_id)
            for entry in await store.journal(relaunch_id, after=after):
                after = entry.progress.sequence
                yield entry
            if not follow or (stored.finished_at is not None and after >= stored.version):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(store.latency, 1.0)):
                    await changed.wait()
    finally:
        stop()


def intent(entry: Entry) -> str | None:
    """The call that the step announced, in words; ``None`` if it announced none."""
    progress = entry.progress
    if progress.calling is None:
        return None
    if progress.calling == "launch":
        return f"about to launch with tag {entry.tag!r}"
    instance = progress.lab_instance_id
    subject = "the labs in the way" if instance is None else str(instance)
    return _QUESTIONS.get(progress.calling, f"about to call {progress.calling}").format(subject)


def line(entry: Entry) -> str:
    """One line of the time line."""
    progress = entry.progress
    at = time.strftime("%H:%M:%SZ", time.gmtime(progress.at))
    announced = intent(entry)
    return (
        f"{at} {progress.elapsed_seconds:8.2f} s  {progress.phase:<20} {progress.message}"
        f"{f'  [{announced}]' if announced else ''}"
    )


def json_line(entry: Entry) -> str:
    """One JSON object."""
    return json.dumps(
        {
            **to_plain(entry.progress),
            "event": entry.event,
            "tag": entry.tag,
            "intent": intent(entry),
        }
    )
