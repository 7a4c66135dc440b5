"""The emulated API, sans I/O: a request value in, a reply value out.

Keys, faults and the frame of every answer are handled here; what an operation does is in
``operations``. A reply says how the adapter (``app`` over sockets, ``transport`` without) is to
treat the connection: answer late, break it, or never answer.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Literal
from urllib.parse import unquote

from orchestrator.sandbox.faults import Fault, FaultPlan, parse_faults
from orchestrator.sandbox.ledger import Ledger, Request
from orchestrator.sandbox.operations import OPERATIONS, Desk, Parameters, first
from orchestrator.sandbox.readings import Readings
from orchestrator.sandbox.shapes import Json
from orchestrator.sandbox.teardown import Teardown, parse_teardown
from orchestrator.sandbox.world import Consumer, Profile, World

_PREFIX = "/api/v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What goes back. ``delay`` in seconds; ``connection`` is what becomes of the connection."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    connection: Literal["answer", "break", "hang"] = "answer"


class Sandbox:
    """A faithful emulator of the platform's API for one process.

    ``teardown`` is a law or its text form; ``faults`` likewise; ``now`` gives Unix epoch seconds.
    Comes with the lab profiles 1001, 1002 and 1003 (an exam) and one API consumer with ``api_key``.
    ``base_url`` is where the URLs it hands out point to; a server sets it.
    """

    def __init__(
        self,
        *,
        readings: Readings | None = None,
        max_active_per_user: int = 1,
        max_active: int | None = None,
        max_calls_per_second: int | None = None,
        teardown: str | Teardown = "fixed:20",
        startup_seconds: float = 0.0,
        faults: str | Iterable[Fault] = (),
        seed: int = 0,
        now: Callable[[], float] = time.time,
        api_key: str = "sandbox-key",
    ) -> None:
        self.world = World(now, seed)
        self.readings = readings or Readings()
        self.faults = FaultPlan(parse_faults(faults) if isinstance(faults, str) else faults)
        self.base_url = "https://sandbox.invalid"
        law = parse_teardown(teardown) if isinstance(teardown, str) else teardown
        for number, (name, is_exam) in enumerate(
            (("Networking basics", False), ("Cloud security", False), ("Final exam", True))
        ):
            self.world.add_profile(
                Profile(
                    profile_id=1001 + number,
                    name=name,
                    number=f"LAB00{number + 1}",
                    is_exam=is_exam,
                    teardown=law,
                    startup_seconds=startup_seconds,
                )
            )
        self.consumer = self.world.add_consumer(
            Consumer(
                api_key=api_key,
                max_active=max_active,
                max_active_per_user=max_active_per_user,
                max_calls_per_second=max_calls_per_second,
            )
        )
        #: When each consumer's calls of the last second were served, by its key.
        self._served: dict[str, deque[float]] = defaultdict(deque)
        #: Held while the world is used; whoever looks at it from another thread takes it too.
        self.lock = threading.RLock()

    @property
    def ledger(self) -> Ledger:
        """What happened."""
        return self.world.ledger

    def handle(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Answer one request. Paths and parameter names are not case-sensitive (documented)."""
        with self.lock:
            self.world.settle()
            operation = unquote(path).lower().rstrip("/").removeprefix(_PREFIX).lstrip("/")
            parameters: Parameters = {}
            for name, value in query:
                parameters.setdefault(name.lower(), []).append(value)
            reply = self._handle(method.upper(), operation, parameters, headers or {})
            self.ledger.requests.append(
                Request(
                    at=self.world.now(),
                    operation=operation,
                    instance_id=first(parameters, "labinstanceid"),
                    user_id=first(parameters, "userid"),
                    status=reply.status if reply.connection == "answer" else None,
                )
            )
            return reply

    def _handle(
        self, method: str, operation: str, parameters: Parameters, headers: Mapping[str, str]
    ) -> Reply:
        if operation not in OPERATIONS:
            return _html(404, "Not found")
        if method not in ("GET", "POST"):
            return _html(405, "Method not allowed")
        given = {name.lower(): value for name, value in headers.items()}.get("api_key", "")
        consumer = self.world.consumers.get(given)
        if consumer is None:
            return self._bad_key()
        if self._is_too_fast(consumer):
            return _html(429, "Too many requests", {"Retry-After": "1"})
        desk = Desk(self.world, self.readings, consumer, self.base_url)

        def carry_out() -> Reply:
            return self._json(OPERATIONS[operation](desk, parameters))

        fault = self.faults.next(operation)
        return carry_out() if fault is None else self._faulty(fault, carry_out)

    def _is_too_fast(self, consumer: Consumer) -> bool:
        if consumer.max_calls_per_second is None:
            return False
        now, served = self.world.now(), self._served[consumer.api_key]
        while served and served[0] <= now - 1.0:
            served.popleft()
        if len(served) >= consumer.max_calls_per_second:
            return True
        served.append(now)
        return False

    def _bad_key(self) -> Reply:
        if self.readings.bad_key == "status_0":
            return self._json({"Status": 0, "Error": "Invalid API key"})
        return _html(int(self.readings.bad_key), "Unauthorized")

    def _json(self, answer: Json) -> Reply:
        if self.readings.extra_fields:
            answer = answer | {"Undocumented": {"Nested": [1, None]}, "ServerName": "sandbox"}
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Date": formatdate(self.world.now(), usegmt=True),
        }
        return Reply(headers=headers, body=json.dumps(answer).encode())

    def _faulty(self, fault: Fault, carry_out: Callable[[], Reply]) -> Reply:
        number = fault.number
        match fault.name:
            case "lose_before":
                return Reply(connection="break")
            case "lose_after":
                carry_out()
                return Reply(connection="break")
            case "late_effect":
                self.world.later(3.0 if number is None else number, carry_out)
                return Reply(connection="break")
            case "hang":
                carry_out()
                return Reply(connection="hang")
            case "http_500":
                return _html(500, "Server error")
            case "http_503":
                after = 1.0 if number is None else number
                return _html(503, "Unavailable", {"Retry-After": f"{after:g}"} if after else {})
            case "http_502" | "http_504":
                carry_out()
                return _html(int(fault.name[-3:]), "Bad gateway")
            case "rate_limit":
                after = 1.0 if number is None else number
                return _html(429, "Too many requests", {"Retry-After": f"{after:g}"})
            case "rate_limit_date":
                when = formatdate(self.world.now() + (number or 1.0), usegmt=True)
                return _html(429, "Too many requests", {"Retry-After": when})
            case "rate_limit_bare":
                return _html(429, "Too many requests")
            case "html":
                carry_out()
                return _html(200, "We are improving the platform for you")
            case "login_redirect":
                return Reply(status=302, headers={"Location": "/Account/Login?ReturnUrl=x"})
            case "truncated":
                reply = carry_out()
                return Reply(headers=reply.headers, body=reply.body[: len(reply.body) // 2])
            case "huge":
                reply = carry_out()
                return Reply(headers=reply.headers, body=reply.body + b" " * (2 * 1024 * 1024))
            case "wrong_types":
                reply = carry_out()
                return Reply(headers=reply.headers, body=b"[" + reply.body + b"]")
            case "status_0":
                return self._json({"Status": 0, "Error": "An error has occurred"})
            case _:
                reply = carry_out()
                return Reply(
                    headers=reply.headers,
                    body=reply.body,
                    delay=1.0 if number is None else number,
                )


def _html(status: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    page = f"<!doctype html><html><title>{text}</title><body><h1>{text}</h1></body></html>"
    return Reply(
        status=status,
        headers={"Content-Type": "text/html; charset=utf-8", **(headers or {})},
        body=page.encode(),
    )
