"""The platform's webhooks: what they tell is passed on as a hint, stored before it is answered.

* Which event it is, only the URL says. *Torn Down* is a hint that the slot is free; every other
  event is counted and no more: a teardown that has begun says nothing about its end.
* One that comes early, late, doubled or for a lab that nobody waits for changes nothing and is
  answered 204 all the same, so that the platform doesn't send it again. Where the store is away it
  is answered 503, so that it does.
* Whoever sends one must bring a secret. Even a stolen one does little harm: a hint is checked by
  launching.
"""

from __future__ import annotations

import hmac
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response, Security
from fastapi.security import APIKeyHeader

from orchestrator.errors import InvalidRequest, StoreError
from orchestrator.service.metrics import OTHER
from orchestrator.service.parts import Ours
from orchestrator.service.refusals import Unauthenticated
from orchestrator.service.representations import problems
from orchestrator.skillable import parse_webhook

router = APIRouter(tags=["webhooks"])

#: The event that is a hint, as it stands in the URL.
TORN_DOWN = "torn-down"
#: The platform's life-cycle events, as they stand in URLs and metrics; any other is ``other``.
EVENTS = frozenset(
    {
        TORN_DOWN, "tearing-down", "pre-build", "post-build", "first-displayable", "saving",
        "saved", "resuming", "resumed", "scoring", "scored",
    }
)  # fmt: skip
_LARGEST_INT64 = 2**63 - 1
_BODY = {
    "requestBody": {
        "description": "What the platform tells of the lab instance; only its id is looked at.",
        "required": False,
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"Id": 5001, "LabProfileId": 1001, "UserExternalId": "ada", "State": 20},
            }
        },
    }
}

_secret = APIKeyHeader(
    name="Authorization",
    scheme_name="webhook_secret",
    auto_error=False,
    description="The secret that was set up with the webhook, as the whole value of the header.",
)


class Effect(StrEnum):
    """What came of a webhook."""

    #: A relaunch waited for that lab instance, and was woken.
    AWAITED = "awaited"
    #: None did.
    NOT_AWAITED = "not_awaited"
    #: The event is no hint.
    IGNORED = "ignored"
    #: It did not bring the secret.
    REFUSED = "refused"
    #: It named no lab instance, or two.
    UNREADABLE = "unreadable"
    #: It could not be stored; the platform sends it again.
    NOT_STORED = "not_stored"


def slug_of(event: str) -> str:
    """The event as it stands in metrics: one of a known few."""
    return event if event in EVENTS else OTHER


async def _let_in(request: Request, ours: Ours, _: Annotated[object, Security(_secret)]) -> None:
    brought = [value for name, value in request.headers.raw if name == b"authorization"]
    # Every secret is compared whole, whichever is right, so that time tells nothing.
    right = [
        hmac.compare_digest(value, written)
        for value in brought
        for secret in ours.options.webhook_secrets
        for written in _written(secret)
    ]
    if any(right) and len(brought) == 1:
        return
    ours.metrics.webhook(slug_of(request.path_params["event"]), Effect.REFUSED)
    ours.limits.count_failure(request.client.host if request.client else None)
    raise Unauthenticated("This webhook does not bring the secret. Nothing was done.")


def _written(secret: str) -> tuple[bytes, ...]:
    """A secret as it may stand in a header: nobody says how the platform writes what isn't ASCII.

    An empty one never counts.
    """
    secret = secret.strip()
    if not secret:
        return ()
    try:
        return secret.encode(), secret.encode("latin-1")
    except UnicodeEncodeError:
        return (secret.encode(errors="surrogateescape"),)


async def take(
    request: Request,
    ours: Ours,
    event: Annotated[str, Path(max_length=64, description="The life-cycle event.")],
) -> Response:
    """Take a webhook of the platform; one about a torn down lab wakes the relaunch that waits.

    What is in the body or the query is optional, so long as all places name one lab instance.
    """
    slug = slug_of(event)
    if event != TORN_DOWN:
        ours.metrics.webhook(slug, Effect.IGNORED)
        return Response(status_code=204)
    try:
        webhook = parse_webhook(str(request.url), await request.body())
    except InvalidRequest:
        ours.metrics.webhook(slug, Effect.UNREADABLE)
        raise
    try:
        awaited = await ours.relauncher.announce(webhook.lab_instance_id)
    except StoreError:
        ours.metrics.webhook(slug, Effect.NOT_STORED)
        raise
    ours.metrics.webhook(slug, Effect.AWAITED if awaited else Effect.NOT_AWAITED)
    return Response(status_code=204)


async def take_by_id(
    request: Request,
    ours: Ours,
    event: Annotated[str, Path(max_length=64, description="The life-cycle event.")],
    lab_instance_id: Annotated[
        int, Path(ge=1, le=_LARGEST_INT64, description="The lab instance that it is about.")
    ],
) -> Response:
    """Take a webhook of the platform; one about a torn down lab wakes the relaunch that waits.

    What is in the body or the query is optional, so long as all places name one lab instance.
    """
    return await take(request, ours, event)


for _verb in ("POST", "GET", "PUT"):
    for _path, _endpoint, _name in (
        ("/webhooks/skillable/{event}/{lab_instance_id}", take_by_id, "webhook"),
        # A lab profile's life-cycle action may have the instance in its query alone.
        ("/webhooks/skillable/{event}", take, "webhook_without_id"),
    ):
        router.add_api_route(
            _path,
            _endpoint,
            methods=[_verb],
            status_code=204,
            response_class=Response,
            operation_id=f"{_verb.lower()}_{_name}",
            dependencies=[Depends(_let_in)],
            responses={204: {"description": "Taken."}, **problems(413)},
            openapi_extra=None if _verb == "GET" else _BODY,
        )
