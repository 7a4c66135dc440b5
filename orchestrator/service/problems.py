"""Every error as problem details (RFC 9457), with the library's stable code.

``type`` is a URN made of the code, ``detail`` the plain sentence for people; further members are
what a program may need: the field of a bad request, the relaunch that is in the way. A value that
was sent is named by its place and never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from orchestrator import errors
from orchestrator.service.refusals import Refused

#: The media type of a problem.
MEDIA_TYPE = "application/problem+json"

#: The HTTP status of each of the library's errors; the first that fits counts.
_STATUS: tuple[tuple[type[errors.RelaunchError], int], ...] = (
    (errors.InvalidRequest, 422),
    (errors.RelaunchInFlight, 409),
    (errors.UnknownRelaunch, 404),
    (errors.StoreError, 503),
    (errors.HeldBack, 503),
    (errors.RateLimited, 503),
    (errors.PlatformError, 502),
)
#: Seconds after which it is worth to ask again where nobody said when.
_AGAIN = 2.0


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
    """The answer that tells one of our own errors."""
    if isinstance(error, Refused):
        return problem(error.status, error.code, str(error), headers=error.headers, **error.members)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return unexpected()
    headers = {}
    members: dict[str, Any] = {}
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


def answer_problems(app: FastAPI) -> None:
    """Let ``app`` answer each error as a problem."""

    async def ours(request: Request, error: Exception) -> Response:
        if not isinstance(error, errors.RelaunchError):
            raise error
        return problem_of(error)

    async def invalid(request: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        where = [".".join(str(part) for part in one["loc"]) for one in found]
        what = [str(one["msg"]) for one in found]
        field, said = (where[0], what[0]) if found else ("body", "cannot be read")
        return problem(
            422,
            errors.InvalidRequest.code,
            f"{field}: {said}. Nothing was called; correct it and try again.",
            field=field,
            errors=[{"field": f, "problem": w} for f, w in zip(where, what, strict=True)],
        )

    async def http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        phrase = HTTPStatus(error.status_code).phrase
        code = phrase.lower().replace(" ", "_")
        return problem(
            error.status_code,
            code,
            f"{phrase}: {request.method} is not answered here. Nothing was done."
            if error.status_code in (404, 405)
            else f"{phrase}. Nothing was done.",
            headers=error.headers,
        )

    app.add_exception_handler(errors.RelaunchError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
