"""What both clients share: checked configuration, building requests, bookkeeping.

Counts every HTTP request that is really tried, logs each with an allow-list of fields, and turns
what the transport raises into the error tree.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any, TypedDict

import httpx

from orchestrator.errors import ConfigurationError, PlatformError
from orchestrator.logs import get_logger
from orchestrator.skillable import quiet, transport
from orchestrator.skillable.calls import Call
from orchestrator.skillable.retrying import policy

_log = get_logger("orchestrator.skillable")


#: The platform's documented address.
BASE_URL = "https://labondemand.com/api/v3"


class ClientOptions(TypedDict, total=False):
    """What either client may be given.

    ``base_url``: with or without a trailing slash. ``attempts`` (3) bounds the tries of a call that
    may be repeated, ``longest_wait`` (30) the ``Retry-After`` in seconds that is slept through.
    ``allow_http`` lets the key travel in the clear. ``now`` gives Unix epoch seconds.
    """

    base_url: str
    attempts: int
    longest_wait: float
    allow_http: bool
    now: Callable[[], float]


class Connection:
    """What the sync and the async client share; see the module's docstring."""

    def __init__(self, api_key: str, options: ClientOptions) -> None:
        attempts = options.get("attempts", 3)
        base_url, allow_http = options.get("base_url", BASE_URL), options.get("allow_http", False)
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ConfigurationError(
                "api_key: missing, or not a key (visible ASCII characters, no spaces)."
            )
        if attempts < 1:
            raise ConfigurationError(f"attempts: {attempts!r} is not 1 or more.")
        self.base_url = transport.checked_base_url(base_url, allow_http=allow_http)
        #: HTTP requests that were really tried, repetitions included.
        self.requests_sent = 0
        #: The platform's clock minus ours, in seconds (from its ``Date`` header), once known.
        self.clock_skew: float | None = None
        self._key = api_key
        self._attempts = attempts
        self._longest_wait = options.get("longest_wait", 30.0)
        self._now = options.get("now", time.time)
        quiet.keep_queries_out_of_httpx_logs()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def _options(self) -> dict[str, Any]:
        # trust_env: a proxy or .netrc found in the environment must not see the key.
        headers = {"api_key": self._key, "Accept": "application/json"}
        return {"headers": headers, "follow_redirects": False, "trust_env": False}

    def _limits(self, most: int = 100) -> httpx.Limits:
        # Shorter than servers keep idle connections: a launch sent into one that is just being
        # closed would be a lost answer for nothing.
        return httpx.Limits(max_connections=most, keepalive_expiry=2.0)

    def _request(self, call: Call[Any], limit: float) -> dict[str, Any]:
        return {
            "method": "GET",
            "url": f"{self.base_url}/{call.operation}",
            "params": httpx.QueryParams(list(call.query)),
            "timeout": httpx.Timeout(limit, connect=min(0.9 * limit, 10.0), pool=0.9 * limit),
        }

    def _limit(self, call: Call[Any], timeout: float | None) -> float:
        return call.timeout if timeout is None else max(0.001, min(timeout, call.timeout))

    def _policy(self, call: Call[Any]) -> dict[str, Any]:
        return policy(call.safety, self._attempts, self._longest_wait)

    def _note_response(self, response: httpx.Response) -> None:
        try:
            told = parsedate_to_datetime(response.headers["Date"])
        except (KeyError, ValueError):
            return
        self.clock_skew = told.timestamp() - self._now()

    @contextlib.contextmanager
    def _told(self, call: Call[Any]) -> Iterator[None]:
        """Count and log one request, and turn what the transport raises into our errors."""
        self.requests_sent += 1
        began, outcome, status = time.monotonic(), "interrupted", None
        try:
            try:
                yield
            except (httpx.HTTPError, TimeoutError) as error:
                transport.lost(call, error)
        except PlatformError as error:
            outcome, status = error.code, error.status
            raise
        else:
            outcome, status = "answered", 200
        finally:
            # An allow-list: no URL, no user, nothing of the answer.
            _log.debug(
                "platform_call",
                operation=call.operation,
                outcome=outcome,
                status=status,
                seconds=round(time.monotonic() - began, 3),
            )
