"""What the service refuses on its own account; the rest of its errors are the library's.

::

    RelaunchError
    └── Refused             answered with its HTTP ``status``, its ``code`` and its ``headers``
        ├── Unauthenticated unauthenticated    401  no credential, or none that is known
        │   └── TokenExpired token_expired     401  ask the LMS for a new one
        ├── Forbidden       forbidden          403  known, but not allowed to do this
        ├── NotFound        not_found          404  not there, or not for this caller
        ├── Conflict        relaunch_in_flight 409 another lab's is in flight; says what may be done
        ├── BatchInTheWay                      409  of a batch with that id; says why
        │   ├── BatchIdTaken batch_id_taken    409  it is another request's
        │   ├── BatchAborted batch_aborted     409  it is never gone on with
        │   └── BatchElsewhere batch_elsewhere 409  it was not begun by the service
        ├── NothingSelected nothing_selected   409  no lab that runs is as it was asked for
        ├── BodyTooLarge    body_too_large     413
        ├── TooMany         too_many_requests  429  of this caller; ``Retry-After`` says when
        ├── PlatformSlow    platform_slow      503  it did not tell in time what runs
        ├── KeySetUnavailable key_set_unavailable 503  no public key of the LMS can be had
        └── Draining        draining           503  the service is being stopped

Neither a message nor a header repeats what the caller sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from orchestrator.errors import RelaunchError, RelaunchInFlight


class Refused(RelaunchError):
    """See the module's docstring."""

    code = "refused"
    status: ClassVar[int] = 400

    def __init__(
        self,
        message: str,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        self.headers = dict(headers or {})
        self.members = dict(members or {})
        super().__init__(message)


class Unauthenticated(Refused):
    """There is no credential, or none that this service knows."""

    code = "unauthenticated"
    status = 401

    def __init__(self, message: str) -> None:
        super().__init__(message, {"WWW-Authenticate": "Bearer"})


class TokenExpired(Unauthenticated):
    """The learner token has run out."""

    code = "token_expired"


class Forbidden(Refused):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403


class NotFound(Refused):
    """There is no such thing, or not for this caller."""

    code = "not_found"
    status = 404


class Conflict(Refused):
    """Another lab's relaunch is in flight for the learner; nothing was begun."""

    code = RelaunchInFlight.code
    status = 409


class BatchInTheWay(Refused):
    """The batch with this id cannot be what was asked for; ``batch_id`` names it."""

    status = 409
    _said: ClassVar[str] = ""

    def __init__(self, batch_id: str) -> None:
        super().__init__(
            f"{self._said} Nothing was changed by this.", members={"batch_id": batch_id}
        )


class BatchIdTaken(BatchInTheWay):
    """The batch with this id was asked for by another request."""

    code = "batch_id_taken"
    _said = "Another request has made the batch of this id; take a new one, or resume that."


class BatchAborted(BatchInTheWay):
    """The batch was aborted, which is for good."""

    code = "batch_aborted"
    _said = (
        "The batch was aborted, which is for good; ask for the learners that are left in a new one."
    )


class BatchElsewhere(BatchInTheWay):
    """The batch is carried out by whoever began it; the service may only stop and abort it."""

    code = "batch_elsewhere"
    _said = (
        "The batch was not begun by the service, which carries out its own alone. Resume it where "
        "it was begun (relaunch batch resume), or ask for it here under another batch_id."
    )


class NothingSelected(Refused):
    """No lab that runs is as it was asked for, so there is nothing to do."""

    code = "nothing_selected"
    status = 409

    def __init__(self) -> None:
        super().__init__(
            "No lab that runs and may be touched fits the selection: there is nothing to do, and "
            "no batch was made. With dry_run it is told what was left alone, and why."
        )


class PlatformSlow(Refused):
    """The platform did not tell in time which labs run."""

    code = "platform_slow"
    status = 503

    def __init__(self, *, retry_after: float) -> None:
        super().__init__(
            "The platform did not tell in time which labs run. Nothing was changed, and no batch "
            "was made; ask again in a moment.",
            {"Retry-After": str(max(1, math.ceil(retry_after)))},
        )


class BodyTooLarge(Refused):
    """The body is larger than any that makes sense here."""

    code = "body_too_large"
    status = 413


class TooMany(Refused):
    """The caller asks more often than it may, or holds more streams; ``retry_after`` in seconds."""

    code = "too_many_requests"
    status = 429

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, {"Retry-After": str(max(1, math.ceil(retry_after)))})


class KeySetUnavailable(Refused):
    """The LMS's public keys cannot be had, so that no token can be told true or false."""

    code = "key_set_unavailable"
    status = 503

    def __init__(self, *, retry_after: float) -> None:
        super().__init__(
            "The keys that learner tokens are verified with cannot be fetched. Nothing was done; "
            "ask again in a moment.",
            {"Retry-After": str(max(1, math.ceil(retry_after)))},
        )


class Draining(Refused):
    """The service is being stopped; another replica, or this one after its restart, will do."""

    code = "draining"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "The service is being stopped; nothing was begun. Ask again in a moment.",
            {"Retry-After": "1"},
        )
