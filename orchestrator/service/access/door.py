"""The door of every route: the caller, known, within its limits, and with the scope it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from orchestrator.service.access.callers import Caller, Scope
from orchestrator.service.parts import Ours
from orchestrator.service.refusals import Forbidden

_bearer = HTTPBearer(
    auto_error=False,
    description="A service key, or a learner token that the LMS's server has signed.",
)


def _with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    async def caller(
        request: Request, ours: Ours, _: Annotated[object, Security(_bearer)]
    ) -> Caller:
        found = await ours.authority.caller(request.headers.get("authorization"))
        if not found.may(scope):
            raise Forbidden(
                f"This needs the scope {scope.value}, which this key has not. Nothing was done."
            )
        return found

    return caller


#: A caller that may look on.
Reader = Annotated[Caller, Depends(_with(Scope.READ))]
#: A caller that may begin and abort relaunches.
Starter = Annotated[Caller, Depends(_with(Scope.START))]
#: A caller that may do everything.
Admin = Annotated[Caller, Depends(_with(Scope.ADMIN))]
