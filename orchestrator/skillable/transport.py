"""From a call to an httpx request, and from a response or an exception to JSON or a typed error.

Sans-I/O but for the httpx types. The rule that everything rests on: an exception or status is
``NotSent`` only if the platform provably did nothing; a connection that could not be made, or a
429. Messages name the operation and the status, never the query (it has personal data) and never
the key; excerpts are short and redacted, and there is none where an answer carries credentials.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx

from orchestrator.errors import (
    AnswerLost,
    AnswerUnreadable,
    CallRefused,
    ConfigurationError,
    KeyRejected,
    NotSent,
    PlatformUnavailable,
    PlatformUnreachable,
    RateLimited,
)
from orchestrator.skillable.calls import Call, Safety
from orchestrator.skillable.reading import Json

_EXCERPT = 120
_SECRETS = re.compile(
    r"(?i)(pass(word|wd)?|secret|token|key|credential)s?[\"']?\s*[:=]\s*[\"']?[^\s\"',;}<]+"
)


def checked_base_url(base_url: str, *, allow_http: bool) -> str:
    """The base URL without a trailing slash; refuses what would send the key in the clear."""
    try:
        url = httpx.URL(base_url.strip())
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"base_url: {base_url!r} is no URL ({error}).") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"base_url: {base_url!r} must begin with https://.")
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("base_url: must have no user name, query or fragment in it.")
    if url.scheme == "http" and not (allow_http or _is_loopback(url.host)):
        raise ConfigurationError(
            f"base_url: {base_url!r} would send the API key in the clear; use https://, "
            "or allow plain HTTP explicitly."
        )
    return str(url).rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def lost(call: Call[Any], error: httpx.HTTPError | TimeoutError) -> NoReturn:
    """Raise what an exception of the transport means. ``from None``: it holds the whole URL."""
    name, what = type(error).__name__, call.operation
    if isinstance(error, httpx.PoolTimeout):
        # Our own congestion says nothing about the platform.
        raise NotSent(
            f"No connection was free for {what}; nothing was sent. Try again in a moment.",
            operation=what,
        ) from None
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        raise PlatformUnreachable(
            f"No connection to the platform for {what} ({name}); nothing was sent. "
            "Check the base URL and the network.",
            operation=what,
        ) from None
    after = "It may have taken effect." if call.safety is Safety.EFFECT else "Nothing was changed."
    raise AnswerLost(
        f"The platform's answer to {what} did not arrive ({name}). {after}", operation=what
    ) from None


def check_status(call: Call[Any], response: httpx.Response, now: Callable[[], float]) -> None:
    """Raise for every HTTP status but 200, before the body is read."""
    status, what = response.status_code, call.operation
    if status == httpx.codes.OK:
        return
    wait = retry_after(response.headers.get("Retry-After"), now())
    if status in (401, 403):
        raise KeyRejected(
            f"The platform does not accept the API key ({what}: HTTP {status}); nothing was done. "
            "Check the key and the base URL.",
            operation=what,
            status=status,
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(
            f"The platform turned {what} away for now (HTTP 429); nothing was done.",
            operation=what,
            status=status,
            retry_after=wait,
        )
    if status == httpx.codes.REQUEST_TIMEOUT or status >= 500:
        raise PlatformUnavailable(
            f"The platform failed while serving {what} (HTTP {status}).",
            operation=what,
            status=status,
            retry_after=wait,
        )
    if response.is_redirect or status < 400:
        raise AnswerUnreadable(
            f"The platform answered {what} with HTTP {status}{_destination(response)} instead of "
            "an answer. Check the base URL and the key.",
            operation=what,
            status=status,
        )
    raise CallRefused(
        f"The platform refused {what} (HTTP {status}). Check the base URL.",
        operation=what,
        status=status,
        error=f"HTTP {status}",
    )


def _destination(response: httpx.Response) -> str:
    try:
        url = httpx.URL(response.headers.get("Location", ""))
    except httpx.InvalidURL:
        return ""
    return f" to {url.host}{url.path}" if url.host or url.path != "/" else ""


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, from seconds or an HTTP date; ``None`` for garbage."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)


def check_size(call: Call[Any], body: bytearray) -> None:
    """Raise for an answer that goes on and on."""
    if len(body) > call.largest_body:
        raise AnswerUnreadable(
            f"The platform's answer to {call.operation} is larger than {call.largest_body} bytes; "
            "the rest was not read.",
            operation=call.operation,
            status=200,
        )


def decode(call: Call[Any], body: bytes, key: str) -> Json:
    """The JSON object of a 200 answer."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, Mapping):
        return data
    shown = "" if call.credentials else excerpt(body, key)
    raise AnswerUnreadable(
        f"The platform's answer to {call.operation} is no JSON object"
        + (f": {shown!r}" if shown else ".")
        + " Check the base URL.",
        operation=call.operation,
        status=200,
        excerpt=shown,
    )


def excerpt(body: bytes, key: str) -> str:
    """A short piece of an answer that is safe to show."""
    text = " ".join(body[:2000].decode("utf-8", "replace").split())
    text = _SECRETS.sub(r"\1=***", text.replace(key, "***"))
    return text[:_EXCERPT]
