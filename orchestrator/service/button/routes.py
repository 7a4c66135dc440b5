"""The routes of the button's files. Public: any page may load them, and there is no secret in them.

Only the module's hashed name is kept by browsers for good; the plain name leads to it.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.service.button import assets
from orchestrator.service.parts import Ours
from orchestrator.service.refusals import NotFound

router = APIRouter(prefix="/button", include_in_schema=False)

_FOR_ANY_PAGE = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_FOR_GOOD = "public, max-age=31536000, immutable"
_CHECKED = "public, no-cache"


@router.get("/relaunch-button.js")
async def plain_name() -> Response:
    """Lead to the module's hashed name."""
    headers = _FOR_ANY_PAGE | {"Cache-Control": _CHECKED}
    return RedirectResponse(assets.module().hashed_name, status_code=302, headers=headers)


@router.get("/relaunch-button.css")
async def style(request: Request) -> Response:
    """The style sheet."""
    return _answer(assets.style(), request, _CHECKED)


@router.get("/texts/{language}.json")
async def texts(language: str, request: Request) -> Response:
    """The texts in one language."""
    found = assets.texts().get(language.lower())
    if found is None:
        # Not a problem document: the button's page may be of any origin.
        return Response(status_code=404, headers=_FOR_ANY_PAGE)
    return _answer(found, request, _CHECKED)


@router.get("/snippet.html")
async def snippet(ours: Ours) -> Response:
    """The lines to put into a course page, as text."""
    return Response(assets.snippet(ours.options.public_url), media_type="text/plain")


@router.get("/{name}")
async def hashed_name(name: str, request: Request) -> Response:
    """The module, under the name that has its hash in it."""
    if name != assets.module().hashed_name:
        raise NotFound(
            "There is no such version of the button here; /button/snippet.html has today's."
        )
    return _answer(assets.module(), request, _FOR_GOOD)


def _answer(asset: assets.Asset, request: Request, keeping: str) -> Response:
    headers = _FOR_ANY_PAGE | {"Cache-Control": keeping, "ETag": asset.etag}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
