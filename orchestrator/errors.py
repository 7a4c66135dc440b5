"""The error tree. Each class carries a stable machine-readable ``code``.

::

    RelaunchError
    ├── InvalidRequest              invalid_request       refused at the door; names the field
    │   └── InvalidBatch            invalid_request       every problem of a batch at once
    ├── ConfigurationError          configuration         names the file and the key
    ├── IllegalTransition           illegal_transition    a driver broke the state machine's rules
    ├── RelaunchNotLaunched         (the outcome's reason) raised by Outcome.raise_for_outcome()
    ├── RelaunchInFlight            relaunch_in_flight    the learner has another one; says which
    ├── StoreError                  a store of relaunches cannot do what it was asked
    │   ├── UnknownRelaunch         unknown_relaunch      there is none with this id
    │   ├── UnknownBatch            unknown_batch         there is none with this id
    │   ├── LeaseLost               lease_lost            another process drives the run now
    │   ├── StoreUnavailable        store_unavailable     no connection, or locked for too long
    │   └── StoreIncompatible       store_incompatible    made by a program too new (or too old)
    └── PlatformError               a call to the platform brought no usable answer
        ├── NotSent                 not_sent              provably without effect: may be repeated
        │   ├── PlatformUnreachable platform_unreachable
        │   ├── HeldBack            held_back             not even tried: the call budget is spent
        │   │   └── PlatformPaused  platform_paused       not even tried: the circuit is open
        │   └── RateLimited         rate_limited
        ├── AnswerLost              answer_lost           perhaps with effect: look, don't repeat
        │   ├── PlatformUnavailable platform_unavailable  HTTP 5xx
        │   └── AnswerUnreadable    answer_unreadable     HTML, cut JSON, huge, a redirect
        ├── CallRefused             call_refused          the platform read the call and said no
        └── KeyRejected             key_rejected          401, 403 or an invalid key: final

The three branches under ``PlatformError`` are what every decision about repeating rests on:
*without effect*, *effect unknown*, *answered no*. Whoever writes a platform of their own raises
these classes; anything else that escapes a port is a bug of that port and ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class RelaunchError(Exception):
    """Base of everything this package raises on purpose."""

    code: ClassVar[str] = "relaunch_error"


class InvalidRequest(RelaunchError):
    """A value was refused before any call was made. ``field`` names it."""

    code = "invalid_request"

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem} Nothing was called; correct it and try again.")


class InvalidBatch(InvalidRequest):
    """A batch was refused before anything was stored; ``problems`` are (field, problem), all."""

    #: So many are told in the message.
    TOLD: ClassVar[int] = 20

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        told = [f"{field}: {problem}" for field, problem in self.problems[: self.TOLD]]
        more = len(self.problems) - len(told)
        if more > 0:
            told.append(f"and {more:,} more.")
        super().__init__("batch", " ".join(told))


class ConfigurationError(RelaunchError):
    """A setting is missing, unknown or wrong; the message names the source and the key."""

    code = "configuration"


class IllegalTransition(RelaunchError):
    """An event reached the state machine in a state that has no row for it; nothing changed."""

    code = "illegal_transition"


class RelaunchNotLaunched(RelaunchError):
    """A relaunch ended without a lab. ``reason`` is the outcome's stable reason code."""

    code = "not_launched"

    def __init__(self, outcome: str, reason: str | None, message: str) -> None:
        self.outcome = outcome
        self.reason = reason
        super().__init__(message)


class RelaunchInFlight(RelaunchError):
    """The learner has an unfinished relaunch of another lab; nothing was begun, or changed there.

    Or of the same lab, if one of the two launches nothing.

    ``relaunch_id`` and ``lab_profile_id`` name the one in flight; ``harmless`` says that it has
    changed nothing yet, so that another request may still supersede it.
    """

    code = "relaunch_in_flight"

    def __init__(
        self, message: str, *, relaunch_id: str, lab_profile_id: int, harmless: bool
    ) -> None:
        self.relaunch_id = relaunch_id
        self.lab_profile_id = lab_profile_id
        self.harmless = harmless
        super().__init__(message)


class StoreError(RelaunchError):
    """A store of relaunches cannot do what it was asked; what it holds is as it was."""

    code = "store_error"


class UnknownRelaunch(StoreError):
    """There is no relaunch with this id (any more) in this store."""

    code = "unknown_relaunch"

    def __init__(self, relaunch_id: str) -> None:
        self.relaunch_id = relaunch_id
        super().__init__(
            f"There is no relaunch {relaunch_id!r} in this store; it may have been pruned, or be "
            "kept elsewhere. Nothing was changed."
        )


class UnknownBatch(StoreError):
    """There is no batch with this id (any more) in this store."""

    code = "unknown_batch"

    def __init__(self, batch_id: str) -> None:
        self.batch_id = batch_id
        super().__init__(
            f"There is no batch {batch_id!r} in this store; it may have been pruned, or be kept "
            "elsewhere. Nothing was changed."
        )


class LeaseLost(StoreError):
    """Another process drives the run now: nothing was recorded, and nothing more may be called."""

    code = "lease_lost"


class StoreUnavailable(StoreError):
    """The store cannot be reached, or stayed locked for too long. May be tried again."""

    code = "store_unavailable"


class StoreIncompatible(StoreError):
    """The store was made by a program that this one cannot share it with."""

    code = "store_incompatible"


class PlatformError(RelaunchError):
    """A call to the platform brought no usable answer.

    ``operation`` is the platform's name of the call, ``status`` the HTTP status if there was one,
    ``excerpt`` a short redacted piece of the answer, ``retry_after`` the seconds the platform asked
    us to stay away (``None`` if it didn't say).
    """

    code = "platform_error"

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        status: int | None = None,
        excerpt: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.operation = operation
        self.status = status
        self.excerpt = excerpt
        self.retry_after = retry_after
        super().__init__(message)


class NotSent(PlatformError):
    """The call provably had no effect: it never left, or was turned away unread."""

    code = "not_sent"


class PlatformUnreachable(NotSent):
    """No connection: DNS, refused, TLS, or no answer to the connection attempt."""

    code = "platform_unreachable"


class HeldBack(NotSent):
    """Not even tried, for everybody's sake; ``retry_after`` says when its turn may come."""

    code = "held_back"


class PlatformPaused(HeldBack):
    """Not even tried: the platform is out of order, and left in peace for a while."""

    code = "platform_paused"


class RateLimited(NotSent):
    """HTTP 429: turned away for now; ``retry_after`` if the platform named a time."""

    code = "rate_limited"


class AnswerLost(PlatformError):
    """The call left and its answer did not arrive: it may or may not have taken effect."""

    code = "answer_lost"


class PlatformUnavailable(AnswerLost):
    """HTTP 5xx (or 408): the platform, or something before it, failed while serving the call."""

    code = "platform_unavailable"


class AnswerUnreadable(AnswerLost):
    """An answer that can't be read: HTML, cut JSON, wrong types, over 1 MiB, a redirect."""

    code = "answer_unreadable"


class CallRefused(PlatformError):
    """The platform read the call and refused it; ``error`` is its own word for why."""

    code = "call_refused"

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        status: int | None = None,
        excerpt: str = "",
        error: str | None = None,
    ) -> None:
        self.error = error
        super().__init__(message, operation=operation, status=status, excerpt=excerpt)


class KeyRejected(PlatformError):
    """The platform does not accept the API key. Final: nothing is retried."""

    code = "key_rejected"
