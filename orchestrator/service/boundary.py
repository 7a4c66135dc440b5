"""The outermost layers: what comes in is bounded, what goes out is guarded, nothing escapes unseen.

* A request's head is taken up to a size. A body is read whole before anybody looks at it, up to a
  size and within a time; one that breaks off reaches nobody. Where a route takes more, nothing
  beyond the ordinary size is read for whoever may not use that route.
* Every answer carries the headers that keep browsers from guessing, framing, caching and referring.
* An error that nobody expected is logged by its kind and place, without values, and told as such.
* Each request is logged by its route's template: no path, query or header as it was sent. Only the
  origin of a page that may not ask is named, once: its author sees nothing but that nobody answers.
"""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import RelaunchError
from orchestrator.logs import get_logger
from orchestrator.service.problems import problem, problem_of, unexpected
from orchestrator.service.refusals import BodyTooLarge, Refused

_log = get_logger("orchestrator.service")

#: Unless a route says otherwise.
GUARDING = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}
_HTTPS_ONLY = "max-age=31536000"
#: Bytes of a request's path, query and headers; a learner's token may be half of it.
LARGEST_HEAD = 16_384
#: Whoever sent a request that was not read to its end is not read any further.
_NO_MORE = {"Connection": "close"}
#: So many origins are told of, and only what looks like one.
_MOST_TOLD = 20
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,200}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guard:
    """Outside of everything: headers on each answer, and a line in the log."""

    def __init__(self, app: ASGIApp, *, https: bool, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins
        self._told: set[str] = set()
        self._guarding = GUARDING | ({"strict-transport-security": _HTTPS_ONLY} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._tell_of_stranger(Headers(scope=scope))
        began = time.perf_counter()
        status = 0

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in self._guarding.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        finally:
            _log.info(
                "request",
                operation=_operation(scope),
                status=status,
                seconds=round(time.perf_counter() - began, 4),
            )

    def _tell_of_stranger(self, headers: Headers) -> None:
        origin = headers.get("origin", "")
        if origin in self._origins or origin in self._told or len(self._told) >= _MOST_TOLD:
            return
        if _ORIGIN.fullmatch(origin) and origin.rpartition("/")[2] != headers.get("host"):
            self._told.add(origin)
            _log.warning("origin_not_allowed", origin=origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Larger:
    """The one route that takes larger bodies, and for them more time; ``POST`` to ``path``.

    ``admit`` raises for whoever may not use it.
    """

    path: str
    largest: int
    slowest: float
    admit: Callable[[Request], Awaitable[object]]


class Boundary:
    """Inside of CORS, so that pages can read its refusals too: bodies, and errors of ours.

    ``largest`` in bytes, ``slowest`` in seconds.
    """

    def __init__(
        self, app: ASGIApp, *, largest: int, slowest: float, larger: Larger | None = None
    ) -> None:
        self._app = app
        self._largest = largest
        self._slowest = slowest
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _head(scope) > LARGEST_HEAD:
            detail = f"Its path and headers are larger than {LARGEST_HEAD} bytes. Nothing was done."
            await problem(431, "head_too_large", detail, headers=_NO_MORE)(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._slowest) as time_left:
                body = await self._body(scope, receive, time_left)
        except TimeoutError:
            detail = "The request's body did not come in time. Nothing was done."
            await problem(408, "request_timeout", detail, headers=_NO_MORE)(scope, receive, send)
            return
        except RelaunchError as error:
            answer = problem_of(error)
            answer.headers.update(_NO_MORE)
            await answer(scope, receive, send)
            return
        if body is None:
            return
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, _again(body, receive), sending)
        except Exception as error:  # a bug of ours: it must not show what it was about
            _log.error("request_failed", reason=type(error).__name__, where=_place(error))
            if not has_begun:
                await unexpected()(scope, receive, send)

    async def _body(
        self, scope: Scope, receive: Receive, time_left: asyncio.Timeout
    ) -> bytes | None:
        """The body; ``None`` if its sender has left."""
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or len(length) > 18:
            raise _too_large(self._largest)
        chunks: list[bytes] = []
        size, expected, largest, is_whole = 0, int(length), self._largest, False
        while not is_whole or size > largest:
            if max(size, expected) > largest:
                if largest != self._largest:
                    raise _too_large(largest)
                largest = await self._more(scope, receive, time_left)
                continue
            message = await receive()
            if message["type"] != "http.request":
                return None
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            is_whole = not message.get("more_body")
        return b"".join(chunks)

    async def _more(self, scope: Scope, receive: Receive, time_left: asyncio.Timeout) -> int:
        """How many bytes this request may have beyond the ordinary; it gets the time for them."""
        larger = self._larger
        if larger is None or (scope["method"], scope["path"]) != ("POST", larger.path):
            raise _too_large(self._largest)
        await larger.admit(Request(scope, receive))
        time_left.reschedule(asyncio.get_running_loop().time() + larger.slowest)
        return larger.largest


def _too_large(largest: int) -> Refused:
    return BodyTooLarge(f"The body is larger than {largest} bytes. Nothing was done.")


def _again(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read, and then whatever else comes (the caller leaving)."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receiving


def _head(scope: Scope) -> int:
    lines = sum(len(name) + len(value) for name, value in scope["headers"])
    return len(scope["path"]) + len(scope["query_string"]) + lines


def _operation(scope: Scope) -> str:
    # Also a method is what somebody sent.
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    route = scope.get("route")
    return f"{method} {getattr(route, 'path_format', '(none)')}"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "orchestrator" in f.filename] or list(frames)
    last = ours[-1]
    return f"{last.filename.rpartition('orchestrator')[2].lstrip('/')}:{last.lineno} {last.name}"
