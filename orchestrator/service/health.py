"""Whether the process is up (``/healthz``), and whether it can do its work (``/readyz``).

Both are open to everybody and say nothing but codes. Being alive takes no I/O. How readiness is
found out costs the store one cheap question in :data:`FRESH` seconds and the platform next to
nothing, however many probes come:

* While the circuit of the gate is open, the platform counts as out of order, without a call, until
  the gate would let a trial through; then the question below is that trial, so that a service which
  nobody sends learners to any more finds back by itself.
* A platform that has answered any call of this process within :data:`RECENT` seconds is in order.
* Only where nothing recent is known it is asked (``stats``, through the gate). A good answer holds
  for :data:`RECENT` seconds, a failure for :data:`FAILED`. A probe waits for that answer for
  :data:`PATIENCE` seconds and else tells what was known before.
* An answer that is a no, or "too many calls", comes from a platform that is there.
"""

from __future__ import annotations

import asyncio
import math
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from orchestrator.errors import (
    CallRefused,
    HeldBack,
    PlatformError,
    PlatformPaused,
    RateLimited,
    RelaunchError,
    StoreUnavailable,
)
from orchestrator.logs import get_logger
from orchestrator.service.parts import Ours, ServiceParts
from orchestrator.traffic import Circuit, PolitePlatform

router = APIRouter(tags=["operations"])

_log = get_logger("orchestrator.service")

#: What is in order; and the platform before anything is known of it.
OK, NOT_KNOWN = "ok", "not_known_yet"
#: Seconds for which an answer to a probe is good for all others.
FRESH = 1.0
#: Seconds for which the platform's last answer shows that it is in order, or a failure that not.
RECENT, FAILED = 60.0, 15.0
#: Seconds that a probe waits for the platform, that the platform gets, and that the store gets.
PATIENCE, PLATFORM_TIMEOUT, STORE_TIMEOUT = 1.0, 5.0, 1.0


class Health(BaseModel):
    """The process is up."""

    alive: bool = True


class Ready(BaseModel):
    """Whether learners may be sent here; of what is not in order, its code."""

    ready: bool
    store: str = Field(examples=[OK, StoreUnavailable.code])
    platform: str = Field(examples=[OK, PlatformPaused.code])
    draining: bool = Field(description="The service is being stopped.")


class Readiness:
    """What is known of the store and the platform; one for each service."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._found: tuple[str, str] | None = None
        self._found_at = -math.inf
        self._looking: asyncio.Task[tuple[str, str]] | None = None
        self._word = NOT_KNOWN
        self._word_until = -math.inf
        self._asking: asyncio.Task[None] | None = None

    async def look(self) -> Ready:
        """How things stand, found out at most once in :data:`FRESH` seconds."""
        found = self._found
        if found is None or self._parts.clock.now() - self._found_at >= FRESH:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            # One who leaves must not take the answer of the others along.
            found = await asyncio.shield(self._looking)
        store, platform = found
        draining = self._parts.draining.is_set()
        ready = store == platform == OK and not draining
        return Ready(ready=ready, store=store, platform=platform, draining=draining)

    async def _look(self) -> tuple[str, str]:
        self._found = found = await self._store(), await self._platform()
        self._found_at = self._parts.clock.now()
        return found

    async def _store(self) -> str:
        # Not waited for beyond its time, even if it takes long to give up.
        asking = asyncio.ensure_future(
            self._parts.store.next_due(None, after=self._parts.clock.now())
        )
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        if not (await asyncio.wait({asking}, timeout=STORE_TIMEOUT))[0]:
            asking.cancel()
            return StoreUnavailable.code
        try:
            await asking
        except RelaunchError as error:
            return error.code
        return OK

    async def _platform(self) -> str:
        platform = self._parts.platform
        if isinstance(platform, PolitePlatform):
            known = platform.gate.snapshot()
            if known.circuit is not Circuit.CLOSED:
                known = await platform.gate.look()  # another process may have found it in order
            if known.circuit is not Circuit.CLOSED:
                if (known.trial_at or 0.0) > self._parts.clock.now():
                    return PlatformPaused.code
                return await self._asked()
        if self._parts.metrics.seconds_since_answer < RECENT:
            return OK
        if self._parts.clock.now() < self._word_until:
            return self._word
        return await self._asked()

    async def _asked(self) -> str:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait({self._asking}, timeout=PATIENCE)
        return self._word

    async def _ask(self) -> None:
        word = OK
        try:
            await self._parts.platform.count_active(timeout=PLATFORM_TIMEOUT)
        except (CallRefused, RateLimited):
            pass
        except PlatformError as error:
            # Held back because many calls are made: that is a platform in full use.
            held_back = isinstance(error, HeldBack) and not isinstance(error, PlatformPaused)
            word = OK if held_back else error.code
        except Exception as error:
            _log.error("port_failed", operation="stats", reason=type(error).__name__)
            word = PlatformError.code
        self._word = word
        self._word_until = self._parts.clock.now() + (RECENT if word == OK else FAILED)


async def _readiness_of(request: Request, ours: Ours) -> Readiness:
    state = request.app.state
    if not hasattr(state, "readiness"):
        state.readiness = Readiness(ours)
    found: Readiness = state.readiness
    return found


@router.get("/healthz", operation_id="healthz")
async def healthz() -> Health:
    """Whether the process is up; nothing else is looked at."""
    return Health()


@router.get(
    "/readyz",
    operation_id="readyz",
    responses={503: {"model": Ready, "description": "Not now: send learners elsewhere."}},
)
async def readyz(
    response: Response, readiness: Annotated[Readiness, Depends(_readiness_of)]
) -> Ready:
    """Whether relaunches can be taken and driven here."""
    ready = await readiness.look()
    if not ready.ready:
        response.status_code = 503
    return ready
