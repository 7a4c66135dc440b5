"""What is asked for: the options of a relaunch, and the door at which bad input is refused."""

from __future__ import annotations

import re
import uuid
from enum import IntEnum
from typing import Literal, TypedDict

from orchestrator.errors import InvalidRequest
from orchestrator.labs import LaunchParameters
from orchestrator.machine.run import Policy, Run
from orchestrator.plain import wrong_types

_LARGEST_INT32 = 2**31 - 1
_RELAUNCH_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_KEY = 255


#: What becomes of a request while another lab's relaunch is in flight for the learner.
OnConflict = Literal["refuse", "supersede"]


class Priority(IntEnum):
    """Who goes first where not all can: somebody who waits at a button, then the rest."""

    BUTTON = 0
    BULK = 1


class Options(TypedDict, total=False):
    """What a single relaunch may be given.

    ``parameters`` go with the launch, ``note`` with the cancel; ``policy`` replaces the
    relauncher's; ``relaunch_id`` (1 to 64 letters, digits, ``-``, ``_``) replaces a random one.
    ``repeats`` are the ids of relaunches that this one is one more try of: a lab that one of them
    launched after all, though no answer came, is entered and not replaced.

    With a store only: ``idempotency_key`` (up to 255 characters) names the request, so that it is
    the same relaunch however often it comes; ``priority`` says who begins first where not all can;
    ``on_conflict``: ``refuse`` while another lab's relaunch is in flight for the learner, or
    ``supersede`` it if it has changed nothing yet.
    """

    parameters: LaunchParameters | None
    note: str | None
    policy: Policy | None
    relaunch_id: str | None
    repeats: tuple[str, ...]
    idempotency_key: str | None
    priority: Priority
    on_conflict: OnConflict


def new_run(user_id: str, lab_profile_id: int, policy: Policy, options: Options, at: float) -> Run:
    """A run that has not begun; refuses bad input, naming the field."""
    policy = options.get("policy") or policy
    parameters = options.get("parameters") or LaunchParameters()
    note = options.get("note")
    relaunch_id = options.get("relaunch_id")
    if not isinstance(user_id, str) or not user_id.strip():
        raise InvalidRequest("user_id", "must be a text that is not empty.")
    _check_text("user_id", user_id)
    if type(lab_profile_id) is not int or not 0 < lab_profile_id <= _LARGEST_INT32:
        raise InvalidRequest("lab_profile_id", f"{lab_profile_id!r} is not a positive 32-bit id.")
    for name, problem in wrong_types(parameters):
        raise InvalidRequest(name, problem)
    _check_text("tag", parameters.tag)
    _check_text("note", note)
    check_key(options.get("idempotency_key"))
    if relaunch_id is None:
        relaunch_id = uuid.uuid4().hex
    elif not _RELAUNCH_ID.fullmatch(relaunch_id):
        raise InvalidRequest("relaunch_id", "takes 1 to 64 letters, digits, '-' and '_'.")
    repeats = options.get("repeats") or ()
    if not all(isinstance(r, str) and _RELAUNCH_ID.fullmatch(r) for r in repeats):
        raise InvalidRequest("repeats", "takes ids of relaunches.")
    return Run(
        relaunch_id=relaunch_id,
        user_id=user_id,
        lab_profile_id=lab_profile_id,
        parameters=parameters,
        note=note,
        policy=policy,
        created_at=at,
        deadline_at=at + policy.deadline_seconds,
        repeats=repeats if policy.launch else (),
    )


def _check_text(field: str, text: str | None) -> None:
    if text is not None and any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise InvalidRequest(field, "must not contain control characters.")


def check_key(key: str | None) -> None:
    """Refuse an idempotency key that is empty, too long or has control characters."""
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidRequest("idempotency_key", f"takes 1 to {_LONGEST_KEY} characters.")
    _check_text("idempotency_key", key)
