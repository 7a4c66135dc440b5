"""Which calls are repeated, by what is safe: tenacity policies, one for each safety.

Allow-lists of exceptions, never deny-lists: those would swallow a task's cancellation. A read is
repeated after any failure of transport; a call with an effect only if the connection could not be
made at all. A ``Retry-After`` is kept if it is short enough to sleep through, else the error goes
up to whoever can wait better.
"""

from __future__ import annotations

from typing import Any

from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from orchestrator.errors import AnswerLost, NotSent, PlatformError, PlatformUnreachable
from orchestrator.skillable.calls import Safety

_REPEATABLE: dict[Safety, tuple[type[PlatformError], ...]] = {
    Safety.READ: (NotSent, AnswerLost),
    Safety.EFFECT: (PlatformUnreachable,),
}
_jitter = wait_random_exponential(multiplier=0.2, max=5)


def policy(safety: Safety, attempts: int, longest_wait: float) -> dict[str, Any]:
    """Keyword arguments for tenacity's ``Retrying`` and ``AsyncRetrying``."""

    def may_repeat(error: BaseException) -> bool:
        if not isinstance(error, _REPEATABLE[safety]):
            return False
        return error.retry_after is None or error.retry_after <= longest_wait

    return {
        "retry": retry_if_exception(may_repeat),
        "stop": stop_after_attempt(attempts),
        "wait": _wait,
        "reraise": True,
    }


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    told = error.retry_after if isinstance(error, PlatformError) else None
    return _jitter(state) if told is None else told
