"""Every error as problem details (RFC 9457), with the library's stable code.

``type`` is a URN made of the code, ``detail`` the plain sentence for people; further members are
what a program may need: the field of a bad request, the relaunch that is in the way. A value that
was sent is named by its place and never repeated; of many wrong values the first few are named, of
the rows of a batch a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from orchestrator import errors
from orchestrator.service.refusals import Refused

#: The media type of a problem.
MEDIA_TYPE = "application/problem+json"

#: The HTTP status of each of the library's errors; the first that fits counts.
_STATUS: tuple[tuple[type[errors.RelaunchError], int], ...] = (
    (errors.InvalidRequest, 422),
    (errors.RelaunchInFlight, 409),
    (errors.UnknownRelaunch, 404),
    (errors.UnknownBatch, 404),
    (errors.StoreError, 503),
    (errors.HeldBack, 503),
    (errors.RateLimited, 503),
    (errors.PlatformError, 502),
)
#: Seconds after which it is worth to ask again where nobody said when.
_AGAIN = 2.0
#: How many wrong values are named, and how much of a place, which may be a name that was sent.
_MOST_NAMED, _MOST_ROWS, _LONGEST_PLACE = 20, 1000, 100
#: How the place of a learner in a batch begins.
_ROW = "learners["

_SAID = {
    400: "The body cannot be read as JSON. Nothing was done.",
    404: "There is nothing under this address. Nothing was done.",
    405: "This address is not to be asked in this way; `Allow` says how. Nothing was done.",
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """The answer that tells a problem."""
    body = {
        "type": f"urn:lab-relaunch:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **members,
    }
    return JSONResponse(body, status, {**(headers or {})}, media_type=MEDIA_TYPE)


def problem_of(error: errors.RelaunchError) -> Response:
    """The answer that tells one of our own errors; raises one that only a bug of ours can be."""
    if isinstance(error, Refused):
        return problem(error.status, error.code, str(error), headers=error.headers, **error.members)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        raise error
    headers = {}
    members: dict[str, Any] = {}
    if isinstance(error, errors.InvalidBatch):
        return _wrong([(field, problem.rstrip(".")) for field, problem in error.problems])
    if isinstance(error, errors.InvalidRequest):
        members["field"] = error.field
    if status == 503:
        after = getattr(error, "retry_after", None) or _AGAIN
        headers["Retry-After"] = str(math.ceil(after))
    return problem(status, error.code, str(error), headers=headers, **members)


def unexpected() -> Response:
    """What is told of a bug of ours: nothing but that it is one."""
    return problem(
        500,
        "internal_error",
        "Something went wrong in the service itself; a relaunch that was begun goes on. "
        "Ask again; if it stays, tell whoever runs the service.",
    )


def answer_problems(app: FastAPI, routes: Sequence[BaseRoute] = ()) -> None:
    """Let ``app`` answer each error as a problem; ``routes`` are those that it has."""

    async def ours(request: Request, error: Exception) -> Response:
        if not isinstance(error, errors.RelaunchError):
            raise error
        return problem_of(error)

    async def invalid(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return _wrong([(_place(one["loc"]), str(one["msg"])) for one in error.errors()])

    async def http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        status, headers = error.status_code, dict(error.headers or {})
        if status == 405:
            headers["Allow"] = _allowed(routes, request.scope["path"]) or headers.get("Allow", "")
        phrase = HTTPStatus(status).phrase
        code = phrase.lower().replace(" ", "_")
        return problem(
            status, code, _SAID.get(status, f"{phrase}. Nothing was done."), headers=headers
        )

    app.add_exception_handler(errors.RelaunchError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def _wrong(found: Sequence[tuple[str, str]]) -> Response:
    """The answer that names what is wrong: (field, problem)."""
    rows = [one for one in found if one[0].startswith(_ROW)][:_MOST_ROWS]
    named = [one for one in found if not one[0].startswith(_ROW)][:_MOST_NAMED] + rows
    field, said = named[0]
    more = f" And {len(found) - 1:,} more." if len(found) > 1 else ""
    return problem(
        422,
        errors.InvalidRequest.code,
        f"{field}: {said}.{more} Nothing was called; correct it and try again.",
        field=field,
        errors=[{"field": field, "problem": said} for field, said in named],
        error_count=len(found),
    )


def _place(location: Sequence[object]) -> str:
    """Where it is, as one would write it: ``query.limit``, ``learners[3].user_id``."""
    in_body = location[0] == "body" and isinstance(location[-1], str) and len(location) > 1
    parts = location[1:] if in_body or location[1:2] == ("learners",) else location
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return place.removeprefix(".")[:_LONGEST_PLACE]


def _allowed(routes: Sequence[BaseRoute], path: str) -> str:
    """The methods of all routes of this path: each by itself knows only its own."""
    fitting = (r for r in routes if isinstance(r, Route) and r.path_regex.match(path))
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))
