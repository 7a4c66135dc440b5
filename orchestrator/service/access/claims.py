"""What the claims of a verified learner token mean, and which of them are refused.

``launch`` may carry what the LMS knows of the learner and the course. It may not carry what the
relaunch itself needs: the tag, by which a launch whose answer was lost is found again, and the
limits of active and saved labs, which decide what makes room.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from orchestrator.labs import LaunchParameters
from orchestrator.plain import from_plain
from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.refusals import Unauthenticated

_LONGEST_TEXT = 255
_LARGEST_INT32 = 2**31 - 1
_MOST_LABS = 1000

#: The fields of :class:`~orchestrator.labs.LaunchParameters` that a token may set.
LAUNCH_FIELDS = (
    "first_name", "last_name", "email", "class_id", "can_be_marked_complete", "ip_address",
    "region_id", "role_ids", "variables", "lang", "instructions_id", "duration_minutes",
    "last_activity_timeout_minutes",
)  # fmt: skip


def caller_of(claims: Mapping[str, Any], *, leeway: float, longest: float) -> Caller:
    """The learner that the claims are about.

    Raises :class:`~orchestrator.service.refusals.Unauthenticated`.
    """
    user_id = _text(claims, "sub")
    _text(claims, "jti")
    return Caller(
        name=f"learner:{user_id}",
        scopes=frozenset({Scope.START}),
        user_id=user_id,
        lab_profile_ids=_labs(claims.get("lab")),
        parameters=_parameters(claims.get("launch")),
        expires_at=_end(claims, longest) + leeway,
    )


def check_times(claims: Mapping[str, Any]) -> None:
    """Refuse times that are none, or so far off that nobody can mean them."""
    for name in ("exp", "iat", "nbf"):
        if claims.get(name) is not None and not _is_time(claims[name]):
            raise _wrong(f"`{name}` takes a number of seconds since 1970")


def _text(claims: Mapping[str, Any], name: str) -> str:
    text = claims.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST_TEXT:
        raise _wrong(f"`{name}` takes a text of 1 to {_LONGEST_TEXT} characters")
    if not _is_plain(text):
        raise _wrong(f"`{name}` must not contain control characters")
    return text


def _end(claims: Mapping[str, Any], longest: float) -> float:
    end: float = claims["exp"]
    begin: float = claims.get("iat", time.time())
    if end - begin > longest:
        raise _wrong(f"it is made for longer than the {longest:g} s that this service takes")
    return float(end)


def _labs(value: object) -> frozenset[int] | None:
    if value == "*":
        return None
    listed = value if isinstance(value, list) else [value]
    if not 0 < len(listed) <= _MOST_LABS or not all(
        type(lab) is int and 0 < lab <= _LARGEST_INT32 for lab in listed
    ):
        raise _wrong(
            f"`lab` takes one lab profile id, a list of 1 to {_MOST_LABS} of them (numbers, no "
            'texts), or "*"'
        )
    return frozenset(listed)


def _parameters(launch: object) -> LaunchParameters:
    if launch is None:
        return LaunchParameters()
    if not isinstance(launch, dict) or not launch.keys() <= set(LAUNCH_FIELDS):
        raise _wrong(f"`launch` takes an object with no other fields than {_listed()}")
    for name, value in launch.items():
        try:
            from_plain(LaunchParameters, {name: value})
        except ValueError:
            fits = False
        else:
            fits = _is_harmless(value, lines=name == "variables")
        if not fits:
            raise _wrong(f"`launch` has a value that `{name}` does not take")
    return from_plain(LaunchParameters, launch)


def _is_harmless(value: object, *, lines: bool) -> bool:
    """No control characters (but lines in a variable's value), and no number beyond 32 bits."""
    match value:
        case str():
            return _is_plain(value.replace("\n", "").replace("\r", "") if lines else value)
        case bool() | None:
            return True
        case int():
            return 0 <= value <= _LARGEST_INT32
        case list():
            return all(_is_harmless(item, lines=lines) for item in value)
        case dict():
            return all(
                _is_plain(name) and name.strip() != "" and _is_harmless(item, lines=lines)
                for name, item in value.items()
            )
        case _:
            return False


def _is_plain(text: str) -> bool:
    """Without control characters, and such that it can be sent: a lone surrogate cannot."""
    return not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value < 1e12


def _listed() -> str:
    return ", ".join(f"`{name}`" for name in LAUNCH_FIELDS)


def _wrong(problem: str) -> Unauthenticated:
    return Unauthenticated(f"The learner token is refused: {problem}. Nothing was done.")
