"""``relaunch cancel``: end one lab instance, looking before and, if wanted, waiting after."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from orchestrator.cli.connect import client_of, close, knowledge_file_of, schedules_of, settings_for
from orchestrator.cli.exits import exit_code
from orchestrator.cli.interrupts import cancelling
from orchestrator.cli.options import ConfigOption, DeadlineOption, JsonOption
from orchestrator.cli.settings import Loaded
from orchestrator.errors import AnswerLost, KeyRejected, NotSent, PlatformError
from orchestrator.labs import InstanceDetails, Phase
from orchestrator.machine.candidates import graded
from orchestrator.plain import to_plain
from orchestrator.skillable import AsyncSkillableClient
from orchestrator.waiting import Subject

REFUSED = {
    "foreign_instance": "another API consumer launched it; end it where it was launched",
    "instance_not_described": "the platform will not describe it; it may be gone already",
    "protected_saving": "it is being saved, which ends it by itself",
    "protected_scoring": "it is being scored (--allow-exam gives leave)",
    "protected_submitted": "it has been submitted for grading (--allow-exam gives leave)",
    "protected_exam": "it is an exam (--allow-exam gives leave)",
}


@dataclass(frozen=True)
class Ended:
    """How it went; ``outcome`` is ``cancelled``, ``gone``, or one of a relaunch's."""

    outcome: str
    reason: str | None
    message: str
    lab_instance_id: int
    torn_down: bool | None = None


def cancel(
    instance: Annotated[int, typer.Option(help="The lab instance to end.")],
    note: Annotated[str | None, typer.Option(help="A note that goes with it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is torn down.")] = False,
    allow_exam: Annotated[bool, typer.Option("--allow-exam", help="Leave to end an exam.")] = False,
    deadline: DeadlineOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """End one lab instance."""
    loaded = settings_for(
        config, {"policy.deadline_seconds": deadline, "policy.allow_exam": allow_exam or None}
    )
    ended = asyncio.run(_interruptible(loaded, instance, note, wait))
    print(json.dumps(to_plain(ended)) if as_json else ended.message)
    if ended.outcome in ("cancelled", "gone"):
        return 0
    return exit_code(ended.outcome, ended.reason)


async def _interruptible(loaded: Loaded, instance: int, note: str | None, wait: bool) -> Ended:
    client = client_of(loaded)
    with cancelling() as task:
        try:
            return await _cancel(loaded, client, instance, note, wait)
        except asyncio.CancelledError:
            task.uncancel()
            text = f"Interrupted; whether lab instance {instance} is ending is not known."
            return Ended("aborted", "aborted", f"{text} Look again.", instance)
        except PlatformError as error:
            return Ended("failed", error.code, f"Lab instance {instance}: {error}", instance)
        finally:
            await close(client)


async def _cancel(
    loaded: Loaded, client: AsyncSkillableClient, instance: int, note: str | None, wait: bool
) -> Ended:
    details = await client.details(instance)
    why = _protected(details, allow_exam=loaded.settings.policy.allow_exam)
    if why is not None:
        said = f" (the platform says: {details.error})" if details.error else ""
        text = f"Lab instance {instance} was not ended: {REFUSED[why]}{said}. Nothing was changed."
        return Ended("refused", why, text, instance)
    if details.phase is Phase.GONE:
        return Ended("gone", None, f"Lab instance {instance} is gone already.", instance, True)
    if details.phase is not Phase.ENDING:
        refusal = await _ask(client, instance, note)
        if refusal is not None:
            return refusal
    if not wait:
        text = f"Lab instance {instance} is ending; its teardown takes a while."
        return Ended("cancelled", None, text, instance)
    return await _wait(loaded, client, details)


def _protected(details: InstanceDetails, *, allow_exam: bool) -> str | None:
    """The rules of :mod:`orchestrator.machine.candidates`, for an instance that was named."""
    if details.foreign:
        return "foreign_instance"
    if not details.readable:
        return "instance_not_described"
    if details.phase is Phase.SAVING:
        return "protected_saving"
    if allow_exam or details.phase in (Phase.ENDING, Phase.GONE):
        return None
    return graded(details)


async def _ask(client: AsyncSkillableClient, instance: int, note: str | None) -> Ended | None:
    try:
        answer = await client.cancel(instance, note=note)
    except AnswerLost:
        answer = None
    if answer is not None and answer.foreign:
        text = f"Lab instance {instance} was not ended: {REFUSED['foreign_instance']}."
        return Ended("refused", "foreign_instance", text, instance)
    if answer is not None and answer.result == 1:
        return None
    # Refused, or the answer got lost: look what became of it.
    details = await client.details(instance)
    if details.phase in (Phase.ENDING, Phase.GONE) or not details.readable:
        return None
    word = f" (the platform says: {answer.error})" if answer and answer.error else ""
    text = f"The platform did not end lab instance {instance}{word}; it still runs. Try again."
    return Ended("failed", "cancel_refused", text, instance)


async def _wait(loaded: Loaded, client: AsyncSkillableClient, details: InstanceDetails) -> Ended:
    instance = details.instance_id
    began, schedules = time.monotonic(), schedules_of(loaded, knowledge_file_of(loaded))
    subject = Subject(lab_profile_id=details.lab_profile_id, kind=details.kind)
    schedule = schedules.teardown or schedules.knowledge.schedule(subject)
    limit = loaded.settings.policy.deadline_seconds
    for attempt in range(1, sys.maxsize):
        elapsed = time.monotonic() - began
        if elapsed >= limit:
            break
        delay = schedule.next_delay(elapsed, attempt)
        await asyncio.sleep(min(delay, limit - elapsed))
        try:
            details = await client.details(instance)
        except KeyRejected:
            raise
        except (NotSent, AnswerLost):
            continue
        if details.phase is Phase.GONE or not details.readable:
            text = f"Lab instance {instance} is torn down."
            return Ended("cancelled", None, text, instance, True)
    text = f"Lab instance {instance} was still being torn down after {limit:g} s."
    return Ended("timed_out", "teardown_not_finished", text, instance, False)
