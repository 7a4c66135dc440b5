"""Structured logs with an allow-list: what is not named here never gets out.

structlog in front, the standard library's ``logging`` behind, so that an embedder's handlers decide
where records go (nowhere, unless configured). No URL, key, name, email or answer of the platform is
on the list. User ids can be hashed: :func:`hash_user_ids`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

#: The only fields that a record may carry.
FIELDS = frozenset(
    {
        "event", "relaunch_id", "user_id", "lab_profile_id", "lab_instance_id", "phase", "attempt",
        "calling", "elapsed_seconds", "outcome", "reason", "operation", "status", "seconds",
        "where", "origin",
    }
)  # fmt: skip

_salt: list[bytes] = []


def hash_user_ids(salt: str | None) -> None:
    """From now on show user ids as a keyed hash; the same id gives the same hash. None: as is."""
    _salt[:] = [] if salt is None else [salt.encode()]


def shown_user_id(user_id: str) -> str:
    """A user id as it may stand in a log."""
    if not _salt:
        return user_id
    return "user-" + hmac.new(_salt[0], user_id.encode(), hashlib.sha256).hexdigest()[:16]


def _allow_listed(
    logger: Any, method: str, record: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    shown = {name: value for name, value in record.items() if name in FIELDS}
    if "user_id" in shown:
        shown["user_id"] = shown_user_id(str(shown["user_id"]))
    return shown


def get_logger(name: str) -> Any:
    """A logger whose records are allow-listed and go through ``logging.getLogger(name)``."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[
            structlog.stdlib.filter_by_level,
            _allow_listed,
            structlog.stdlib.render_to_log_kwargs,
        ],
    )
