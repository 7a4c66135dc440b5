"""The platform's webhooks, read: which lab instance is one about?

The platform tells of a life-cycle event in one of three documented shapes: a JSON body, a query
appended to the URL (a lab profile's "send web request"), or just the instance's id where ``{id}``
stood in the URL. The body does not name the event; the URL that was set up must. Everything here is
pure: hand in what came, from whatever web framework, and give ``lab_instance_id`` to
``Relauncher.hint``. Whoever sent it need not be believed: a hint is checked by launching.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.errors import InvalidRequest
from orchestrator.skillable import reading as read

#: A body larger than this many bytes is none of the platform's.
LARGEST_BODY = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What a webhook tells. ``None`` where its shape does not say."""

    lab_instance_id: int
    lab_profile_id: int | None = None
    user_id: str | None = None
    tag: str | None = None


def parse_webhook(url: str, body: bytes | str | None = None) -> Webhook:
    """Read a webhook from the URL that was called (or its path and query) and its body.

    Raises :class:`~orchestrator.errors.InvalidRequest` if it names no lab instance, or two.
    """
    if body is not None and len(body) > LARGEST_BODY:
        raise InvalidRequest("webhook", f"its body is larger than {LARGEST_BODY} bytes.")
    parts = urlsplit(url)
    told = _json(body)
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    numbers = re.findall(r"(?<=/)\d{1,19}(?=/|$)", parts.path)
    ids = {
        found
        for found in (
            read.identifier(told, "Id", "LabInstanceId"),
            read.identifier(asked, "labInstanceId", "LabInstanceId"),
            read.identifier({"id": numbers[-1]}, "id") if numbers else None,
        )
        if found is not None
    }
    if len(ids) != 1:
        problem = "names no lab instance" if not ids else "names two different lab instances"
        raise InvalidRequest("webhook", f"it {problem}, in its body, its query and its path.")
    return Webhook(
        lab_instance_id=ids.pop(),
        lab_profile_id=read.identifier({**asked, **told}, "LabProfileId", "labProfileId"),
        user_id=read.filled_text(told, "UserExternalId") or asked.get("userExternalId"),
        tag=read.filled_text(told, "Tag") or asked.get("tag"),
    )


def _json(body: bytes | str | None) -> Mapping[str, Any]:
    """The body's object; empty if it is something else, for the URL may name the instance."""
    try:
        told = json.loads(body or "{}")
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
