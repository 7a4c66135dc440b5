"""The routes of the demo. Whoever reaches them can be any of its made-up learners."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from string import Template
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from orchestrator.service.button import assets

_STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

Learner = Annotated[str, Query(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Viewed = Mapping[str, Any]


def demo_router(
    *, mint: Callable[[str], str], platform_view: Callable[[str], Viewed | Awaitable[Viewed]]
) -> APIRouter:
    """The demo's routes.

    ``mint`` makes a learner token, as the LMS's server would; ``platform_view`` says what the
    platform shows of a learner: ``{"now", "instances": [{"lab_instance_id", "lab_profile_name",
    "state", "started_at", "ended_at"}, ...]}``.
    """
    router = APIRouter(prefix="/demo", include_in_schema=False)

    @router.get("")
    async def page() -> Response:
        """The course page."""
        module = assets.module()
        content = Template(_read("page.html")).substitute(
            module=module.hashed_name, integrity=module.integrity
        )
        headers = {"Content-Security-Policy": _STRICT}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/demo.css")
    async def style() -> Response:
        """Its style."""
        return Response(_read("demo.css"), media_type="text/css; charset=utf-8")

    @router.get("/demo.js")
    async def script() -> Response:
        """Its script."""
        return Response(_read("demo.js"), media_type="text/javascript; charset=utf-8")

    @router.get("/token")
    async def token(learner: Learner) -> dict[str, str]:
        """A learner token; a real LMS gives one only to the learner who is signed in."""
        return {"token": mint(learner)}

    @router.get("/platform")
    async def platform(learner: Learner) -> Viewed:
        """The platform's own view."""
        seen = platform_view(learner)
        return await seen if inspect.isawaitable(seen) else seen

    return router


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
