"""The door of every route: the caller, known, within its limits, and with the scope it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.service.refusals import Forbidden, NotFound, TokenExpired, Unauthenticated

_bearer = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="service key or JWT",
    auto_error=False,
    description="A service key, or a learner token that the LMS's server has signed.",
)


#: What a learner is told of what only service keys may see.
NOT_FOR_LEARNERS = "There is nothing here for a learner. Nothing was done."


def _needs(scope: Scope) -> str:
    return f"This needs the scope {scope.value}, which this key has not. Nothing was done."


def _with(scope: Scope, *, keys_only: bool = False) -> Callable[..., Awaitable[Caller]]:
    async def caller(
        request: Request, ours: Ours, _: Annotated[object, Security(_bearer)]
    ) -> Caller:
        found = await _known(request, ours)
        ours.limits.count_request(found)
        if keys_only and found.is_learner:
            raise NotFound(NOT_FOR_LEARNERS)
        if not found.may(scope):
            raise Forbidden(_needs(scope))
        return found

    return caller


async def service_key(request: Request, ours: ServiceParts) -> Caller:
    """The service key that asks, before anything of its request was read but the headers.

    Raises what the door of a route for those that may begin relaunches would.
    """
    found = await _known(request, ours)
    if found.is_learner:
        raise NotFound(NOT_FOR_LEARNERS)
    if not found.may(Scope.START):
        raise Forbidden(_needs(Scope.START))
    return found


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
#: A service key that may look on, and one that may begin and abort; a learner finds nothing there.
KeyReader = Annotated[Caller, Depends(_with(Scope.READ, keys_only=True))]
KeyStarter = Annotated[Caller, Depends(_with(Scope.START, keys_only=True))]
#: A caller that may do everything.
Admin = Annotated[Caller, Depends(_with(Scope.ADMIN))]
