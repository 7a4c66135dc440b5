"""The ASGI application: every route, behind one boundary, over the parts that are injected."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from orchestrator.service import events, health, labs, metrics_route, relaunches, webhooks
from orchestrator.service.access.door import service_key
from orchestrator.service.batches import events as batch_events
from orchestrator.service.batches import report as batch_report
from orchestrator.service.batches import routes as batches
from orchestrator.service.batches.keeper import Keeper
from orchestrator.service.boundary import Boundary, Guard, Larger
from orchestrator.service.button import routes as button
from orchestrator.service.parts import ServiceParts
from orchestrator.service.problems import answer_problems
from orchestrator.service.representations import ConflictProblem, Problem

_DESCRIPTION = """
Relaunches a learner's hands-on lab: ends the old one, waits for its teardown, launches again. Once.

Every error is a problem (RFC 9457) with a stable `code`. A relaunch goes on by itself, whoever
looks on; follow it by its events, or poll it with `If-None-Match`.
"""


def create_app(parts: ServiceParts, *, extra_routers: Iterable[APIRouter] = ()) -> FastAPI:
    """The service. The parts stay the caller's to close, after the server has stopped."""

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        await parts.relauncher.resume_all()
        async with keeper.at_work():
            yield

    options, keeper = parts.options, Keeper(parts)
    batch = Larger(
        path="/batches",
        largest=options.largest_batch,
        slowest=options.slowest_batch,
        admit=lambda request: service_key(request, parts),
    )
    app = FastAPI(
        title="lab-relaunch",
        version=_version(),
        description=_DESCRIPTION,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        # A redirect would be built from what the caller says the host is.
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        middleware=[
            Middleware(
                Guard,
                https=options.public_url.startswith("https:"),
                origins=options.allowed_origins,
            ),
            Middleware(
                CORSMiddleware,
                allow_origins=options.allowed_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "If-None-Match",
                    "Last-Event-ID",
                ],
                expose_headers=["ETag", "Location", "Retry-After"],
            ),
            Middleware(
                Boundary,
                largest=options.largest_body,
                slowest=options.slowest_body,
                larger=batch,
            ),
        ],
    )
    app.state.parts, app.state.keeper = parts, keeper
    modules = (
        relaunches, events, batches, batch_events, batch_report, labs, webhooks, health,
        metrics_route, button,
    )  # fmt: skip
    routers = [*(module.router for module in modules), *extra_routers]
    for router in routers:
        app.include_router(router)
    answer_problems(app, [route for router in routers for route in router.routes])
    _describe_problems(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """What a generated client calls it: as it is called here."""
    return route.name


def _describe_problems(app: FastAPI) -> None:
    """Put the schemas of problems in the OpenAPI, to which the routes refer by name."""
    original = app.openapi

    def described() -> dict[str, Any]:
        told = original()
        schemas = told.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, ConflictProblem):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.setdefault(model.__name__, schema)
        return told

    app.openapi = described  # type: ignore[method-assign]  # the documented way to extend it


def _version() -> str:
    from importlib.metadata import version

    return version("lab-relaunch")
