"""Each call of the platform, defined once for the sync and the async client.

A :class:`Call` is a value: path, query, safety, time-out, and how to read the answer's JSON. The
operations and parameter names are the vendor's documented ones (Lab API v3); all are GETs with the
parameters in the query. ``READ`` calls may be repeated freely; ``EFFECT`` calls never blindly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from orchestrator.errors import CallRefused, InvalidRequest, KeyRejected
from orchestrator.labs import InstanceDetails, Labs, LaunchAnswer, LaunchParameters
from orchestrator.skillable import reading as read
from orchestrator.skillable import rows
from orchestrator.skillable.answers import (
    CancelAnswer,
    ConsumerLabs,
    LabResult,
    SaveAnswer,
    SearchPage,
    Stats,
)
from orchestrator.skillable.reading import Json
from orchestrator.skillable.refusals import (
    is_foreign,
    is_key_trouble,
    is_unseen_user,
    own_word,
)

T = TypeVar("T")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1

#: How long an answer may be (bytes): about one lab or user, and about the whole API consumer, which
#: may have tens of thousands of labs at some 300 bytes each.
LARGEST_BODY, LARGEST_LISTING = 1024 * 1024, 32 * 1024 * 1024

#: The languages that the platform documents.
LANGUAGES = ("en", "es", "fr", "de", "pt", "ja", "zh-hans", "zh-hant", "ko")


class Safety(Enum):
    """Whether a call may be repeated when its fate is unknown."""

    READ = "read"
    EFFECT = "effect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One call. ``timeout`` in seconds; ``credentials`` if the answer carries passwords.

    An answer of more than ``largest_body`` bytes is not read to its end.
    """

    operation: str
    query: tuple[tuple[str, str], ...]
    read: Callable[[Json], T]
    safety: Safety = Safety.READ
    timeout: float = 20.0
    credentials: bool = False
    largest_body: int = LARGEST_BODY


def launch(user_id: str, lab_profile_id: int, parameters: LaunchParameters) -> Call[LaunchAnswer]:
    """Launch a lab profile for a user. Costs money and launches; never repeated blindly."""
    p = parameters
    if p.lang is not None and p.lang not in LANGUAGES:
        raise InvalidRequest("lang", f"{p.lang!r} is none of {', '.join(LANGUAGES)}.")
    if any(not name.strip() for name in p.variables):
        raise InvalidRequest("variables", "a variable needs a name.")
    complete = None if p.can_be_marked_complete is None else 2 - int(p.can_be_marked_complete)
    query = [
        *_query(
            labid=_checked("lab_profile_id", lab_profile_id, _INT32),
            userid=_user(user_id),
            firstname=p.first_name,
            lastname=p.last_name,
            email=p.email,
            classId=p.class_id,
            canBeMarkedComplete=complete,
            tag=p.tag,
            ipAddress=p.ip_address,
            regionId=p.region_id,
            maxSavedLabs=p.max_saved_labs,
            maxActiveLabs=p.max_active_labs,
            lang=p.lang,
            instructionsId=p.instructions_id,
            durationMinutes=p.duration_minutes,
            lastActivityTimeoutMinutes=p.last_activity_timeout_minutes,
        ),
        *(("roleId", str(role)) for role in p.role_ids),
        *((f"variable-{name}", value) for name, value in p.variables.items()),
    ]
    return Call(
        operation="launch",
        query=tuple(query),
        read=lambda data: _launch_answer("launch", data),
        safety=Safety.EFFECT,
        timeout=60.0,
    )


def resume(instance_id: int) -> Call[LaunchAnswer]:
    """Resume a saved instance; answered with the same Result codes as a launch (documented)."""
    return Call(
        operation="resume",
        query=_instance(instance_id),
        read=lambda data: _launch_answer("resume", data, about_instance=True),
        safety=Safety.EFFECT,
        timeout=60.0,
    )


def cancel(instance_id: int, note: str | None = None) -> Call[CancelAnswer]:
    """Begin the teardown of an instance. Success is ``Result`` 1, nothing else."""

    def answer(data: Json) -> CancelAnswer:
        _check_key("cancel", data, about_instance=True)
        return CancelAnswer(
            result=read.integer(data, "Result"), foreign=is_foreign(data), error=own_word(data)
        )

    query = (*_instance(instance_id), *_query(note=note))
    return Call(operation="cancel", query=query, read=answer, safety=Safety.EFFECT, timeout=30.0)


def save(instance_id: int) -> Call[SaveAnswer]:
    """Begin to save an instance, so that it can be resumed later."""

    def answer(data: Json) -> SaveAnswer:
        _check_key("save", data, about_instance=True)
        return SaveAnswer(
            result=read.integer(data, "Result"),
            foreign=is_foreign(data),
            expires_at=read.epoch(data, "Expires"),
            error=own_word(data),
        )

    return Call(
        operation="save",
        query=_instance(instance_id),
        read=answer,
        safety=Safety.EFFECT,
        timeout=30.0,
    )


def details(instance_id: int) -> Call[InstanceDetails]:
    """Describe one instance. Its credentials are dropped while reading."""

    def answer(data: Json) -> InstanceDetails:
        _check_key("details", data, about_instance=True)
        told = read.identifier(data, "Id", "LabInstanceId")
        error = own_word(data)
        if read.filled_text(data, "State") and (told is not None or error is None):
            return rows.details(data, told or instance_id)
        return InstanceDetails(
            instance_id=instance_id, readable=False, foreign=is_foreign(data), error=error
        )

    return Call(operation="details", query=_instance(instance_id), read=answer, credentials=True)


def user_running_and_saved_labs(user_id: str) -> Call[Labs]:
    """What one user has. A user never seen before has nothing, however the platform says so."""

    def answer(data: Json) -> Labs:
        if is_unseen_user(data):
            return Labs()
        _refuse("userrunningandsavedlabs", data)
        running = (rows.running(e) for e in read.entries(data, "RunningLabs", operation))
        saved = (rows.saved(e) for e in read.entries(data, "SavedLabs", operation))
        return Labs(
            running=tuple(i for i in running if i is not None),
            saved=tuple(i for i in saved if i is not None),
        )

    operation = "userrunningandsavedlabs"
    return Call(operation=operation, query=_query(userid=_user(user_id)), read=answer)


def running_and_saved_labs() -> Call[ConsumerLabs]:
    """What the whole API consumer has."""

    def answer(data: Json) -> ConsumerLabs:
        _refuse("runningandsavedlabs", data)
        running = (rows.consumer_lab(e) for e in read.entries(data, "RunningLabs", operation))
        saved = (rows.consumer_lab(e) for e in read.entries(data, "SavedLabs", operation))
        return ConsumerLabs(
            running=tuple(i for i in running if i is not None),
            saved=tuple(i for i in saved if i is not None),
        )

    operation = "runningandsavedlabs"
    return Call(
        operation=operation, query=(), read=answer, timeout=60.0, largest_body=LARGEST_LISTING
    )


def search(
    *,
    user_id: str | None = None,
    lab_profile_id: int | None = None,
    lab_series_id: int | None = None,
    class_id: str | None = None,
    start: float | None = None,
    end: float | None = None,
    sort: str | None = None,
    page_index: int = 0,
    page_size: int = 100,
    verbose: bool = False,
) -> Call[SearchPage]:
    """One page of the instances that match; ``start`` and ``end`` in epoch seconds.

    ``verbose`` asks for everything that ``details`` tells (the tag, too), and so for passwords on
    the wire; they are dropped while reading. The concise mode tells the state without them.
    """

    def answer(data: Json) -> SearchPage:
        _refuse("labinstance/search", data)
        found = []
        results = data.get("Results")
        if isinstance(results, Mapping):
            # Documented as one object where a collection is meant; both are read.
            data = {**data, "Results": results.get("Results", [results])}
        for entry in read.entries(data, "Results", "labinstance/search"):
            instance_id = read.identifier(entry, "Id", "LabInstanceId")
            if instance_id is not None:
                found.append(rows.details(entry, instance_id))
        return SearchPage(
            page_index=page_index,
            total_pages=read.integer(data, "TotalPages"),
            total_results=read.integer(data, "TotalResults"),
            instances=tuple(found),
        )

    query = _query(
        userId=user_id,
        labProfileId=lab_profile_id,
        labSeriesId=lab_series_id,
        classId=class_id,
        start=None if start is None else int(start),
        end=None if end is None else int(end),
        sort=sort,
        pageIndex=page_index,
        pageSize=page_size,
        mode=10 if verbose else 5,
    )
    return Call(
        operation="labinstance/search",
        query=query,
        read=answer,
        timeout=60.0,
        credentials=True,
        largest_body=LARGEST_LISTING,
    )


def latest_results(minutes: int) -> Call[tuple[LabResult, ...]]:
    """Instances that changed state in the last ``minutes`` (10,080 at most, documented)."""

    def answer(data: Json) -> tuple[LabResult, ...]:
        _refuse("LatestResults", data)
        return tuple(rows.result(e, None) for e in read.entries(data, "Results", "LatestResults"))

    if not 0 < minutes <= 10_080:
        raise InvalidRequest("minutes", f"{minutes!r} is not from 1 to 10080.")
    return Call(operation="LatestResults", query=_query(minutes=minutes), read=answer, timeout=60.0)


def result(instance_id: int) -> Call[LabResult]:
    """How one instance ended, or stands."""

    def answer(data: Json) -> LabResult:
        _refuse("Result", data, about_instance=True)
        return rows.result(data, instance_id)

    return Call(operation="Result", query=_instance(instance_id), read=answer)


def lab_access_url(instance_id: int, role_ids: tuple[int, ...] = ()) -> Call[str]:
    """A single-use URL to enter a running instance."""

    def answer(data: Json) -> str:
        _refuse("LabAccessUrl", data, about_instance=True)
        url = read.filled_text(data, "Url")
        if url is None:
            raise CallRefused(
                "The platform gave no access URL for this lab instance; it may not be running.",
                operation="LabAccessUrl",
            )
        return url

    instance = ("labInstanceId", str(_checked("instance_id", instance_id, _INT64)))
    query = (instance, *(("roleId", str(role)) for role in role_ids))
    return Call(operation="LabAccessUrl", query=query, read=answer)


def stats() -> Call[Stats]:
    """How many labs of the API consumer are active and saved."""

    def answer(data: Json) -> Stats:
        _refuse("stats", data)
        return Stats(
            num_active=read.integer(data, "NumActive"), num_saved=read.integer(data, "NumSaved")
        )

    return Call(operation="stats", query=(), read=answer)


# --- refusals ---------------------------------------------------------------------------------


def _check_key(operation: str, data: Json, *, about_instance: bool = False) -> None:
    if is_key_trouble(data, about_instance=about_instance):
        raise KeyRejected(
            f"The platform does not accept the API key ({operation}); nothing was done. "
            "Check the key and the base URL.",
            operation=operation,
        )


def _refuse(operation: str, data: Json, *, about_instance: bool = False) -> None:
    """Raise if a question was answered with an error instead of an answer."""
    _check_key(operation, data, about_instance=about_instance)
    error = own_word(data)
    if error is not None or read.integer(data, "Status") == 0:
        word = error or "no reason given"
        raise CallRefused(
            f"The platform refused {operation}: {word[:200]}", operation=operation, error=word
        )


# --- queries ----------------------------------------------------------------------------------


def _query(**parameters: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in parameters.items() if value is not None)


def _instance(instance_id: int) -> tuple[tuple[str, str], ...]:
    return (("labinstanceid", str(_checked("instance_id", instance_id, _INT64))),)


def _checked(field: str, value: int, largest: int) -> int:
    if type(value) is not int or not 0 < value <= largest:
        raise InvalidRequest(field, f"{value!r} is not an id from 1 to {largest}.")
    return value


def _user(user_id: str) -> str:
    if not isinstance(user_id, str) or not user_id.strip():
        raise InvalidRequest("user_id", "must be a text that is not empty.")
    return user_id


# --- answers ----------------------------------------------------------------------------------


def _launch_answer(operation: str, data: Json, *, about_instance: bool = False) -> LaunchAnswer:
    _check_key(operation, data, about_instance=about_instance)
    return LaunchAnswer(
        result=read.integer(data, "Result"),
        instance_id=read.identifier(data, "LabInstanceId"),
        url=read.filled_text(data, "Url"),
        expires_at=read.epoch(data, "Expires"),
        estimated_ready_seconds=read.seconds(data, "EstimatedReadySeconds"),
        error=own_word(data),
    )
