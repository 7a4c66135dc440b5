"""The door of every route: the caller, known, within its limits, and with the scope it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.refusals import Forbidden, TokenExpired, Unauthenticated

_bearer = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="service key or JWT",
    auto_error=False,
    description="A service key, or a learner token that the LMS's server has signed.",
)


def _with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    async def caller(
        request: Request, ours: Ours, _: Annotated[object, Security(_bearer)]
    ) -> Caller:
        found = await _known(request, ours)
        ours.limits.count_request(found)
        if not found.may(scope):
            raise Forbidden(
                f"This needs the scope {scope.value}, which this key has not. Nothing was done."
            )
        return found

    return caller


async def _known(request: Request, ours: ServiceParts) -> Caller:
    try:
        headers = request.headers.getlist("authorization")
        if len(headers) > 1:
            raise Unauthenticated("There is more than one credential. Nothing was done.")
        return await ours.authority.caller(headers[0] if headers else None)
    except TokenExpired:
        raise  # was good once: nobody is guessing
    except Unauthenticated:
        ours.limits.count_failure(request.client.host if request.client else None)
        raise


#: A caller that may look on.
Reader = Annotated[Caller, Depends(_with(Scope.READ))]
#: A caller that may begin and abort relaunches.
Starter = Annotated[Caller, Depends(_with(Scope.START))]
#: A caller that may do everything.
Admin = Annotated[Caller, Depends(_with(Scope.ADMIN))]
