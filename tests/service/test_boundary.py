"""What comes in is bounded, what goes out is guarded; on real connections where these matter."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.durable.memory import MemoryRunStore
from orchestrator.durable.store import StoredRun
from orchestrator.service import server
from orchestrator.service.boundary import GUARDING, Boundary
from orchestrator.testing.virtual import run_virtual
from tests.service.world import NEW, OLD, OnPorts, Within, bearer, learner, on_ports

PAGE = "https://lms.example"
ASKED = {"user_id": "ada", "lab_profile_id": NEW}


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/relaunches", 200),
        ("GET", "/relaunches/" + "0" * 32, 404),
        ("GET", "/relaunches/no id", 422),
        ("GET", "/", 404),
        ("GET", "/relaunches/", 404),
        ("GET", "//evil.example", 404),
        ("PUT", "/relaunches", 405),
        ("HEAD", "/relaunches", 405),
        ("OPTIONS", "/relaunches", 405),
        ("TRACE", "/relaunches", 405),
        ("POST", "/relaunches", 422),
        ("GET", "/openapi.json", 200),
        ("GET", "/button/snippet.html", 200),
    ],
)
def test_every_answer_is_guarded(verb: str, path: str, status: int) -> None:
    async def main() -> None:
        service = Within(public_url="https://relaunch.example")
        async with service.client() as client:
            answer = await client.request(verb, path, headers=bearer())
            assert answer.status_code == status
            for name in ("x-content-type-options", "referrer-policy", "content-security-policy"):
                assert answer.headers[name] == GUARDING[name]
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert "set-cookie" not in answer.headers
            assert "server" not in answer.headers
            if status >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert verb == "HEAD" or answer.json()["status"] == status
                assert answer.headers["cache-control"] == "no-store"

    run_virtual(main())


def test_without_https_nobody_is_told_to_stay_with_it() -> None:
    async def main() -> None:
        async with Within().client() as client:
            assert "strict-transport-security" not in (await client.get("/healthz")).headers

    run_virtual(main())


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/relaunches", "GET, POST"),
        ("/relaunches/" + "0" * 32, "DELETE, GET"),
        ("/users/ada/labs", "GET"),
        ("/users/ada/labs/5/access-url", "POST"),
        ("/webhooks/skillable/torn-down/5", "GET, POST, PUT"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(path: str, allow: str) -> None:
    async def main() -> None:
        async with Within().client() as client:
            answer = await client.patch(path, headers=bearer())
            assert (answer.status_code, answer.headers["allow"]) == (405, allow)
            assert answer.json()["code"] == "method_not_allowed"

    run_virtual(main())


def test_pages_of_the_allowed_origins_alone_may_ask() -> None:
    async def main() -> None:
        service = Within(allowed_origins=(PAGE,))
        async with service.client() as client:
            asks = {
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
            }
            allowed = await client.options("/relaunches", headers={"Origin": PAGE} | asks)
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == PAGE
            assert "POST" in allowed.headers["access-control-allow-methods"]
            assert allowed.headers["x-content-type-options"] == "nosniff"
            for origin in ("https://evil.example", "null", PAGE + ".evil", "http://lms.example"):
                refused = await client.options("/relaunches", headers={"Origin": origin} | asks)
                assert refused.status_code == 400
                assert "access-control-allow-origin" not in refused.headers
                plain = await client.get("/relaunches", headers=bearer() | {"Origin": origin})
                assert "access-control-allow-origin" not in plain.headers
            for answer in (allowed, plain):
                assert "access-control-allow-credentials" not in answer.headers
            # What a page must be able to read: errors, too, those of the boundary included.
            for content in (b"{}", b"x" * 70_000):
                answer = await client.post(
                    "/relaunches", content=content, headers=bearer() | {"Origin": PAGE}
                )
                assert answer.is_client_error
                assert answer.headers["access-control-allow-origin"] == PAGE
                assert "Retry-After" in answer.headers["access-control-expose-headers"]
                assert "origin" in answer.headers["vary"].lower()

    run_virtual(main())


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("content", [b" " * 65_537, _chunks], ids=["announced", "in-chunks"])
def test_a_huge_body_is_refused(content: Any) -> None:
    async def main() -> None:
        service = Within()
        async with service.client() as client:
            sent = content(100_000) if callable(content) else content
            answer = await client.post("/relaunches", content=sent, headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert await service.store.unfinished() == 0

    run_virtual(main())


@pytest.mark.parametrize("length", ["65537", "9" * 18, "9" * 5000, "-1", "+5", "x", "1e3"])
def test_a_length_that_is_none_is_too_large(length: str) -> None:
    async def main() -> None:
        async with Within().client() as client:
            headers = bearer() | {"Content-Length": length}
            answer = await client.post("/relaunches", content=b"{}", headers=headers)
            assert answer.status_code == 413

    run_virtual(main())


def test_a_slow_body_is_not_waited_for() -> None:
    async def dribble() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(1)

    async def main() -> None:
        service = Within()
        async with service.client() as client:
            began = service.clock.now()
            answer = await client.post("/relaunches", content=dribble(), headers=bearer())
            assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
            assert answer.headers["connection"] == "close"
            assert service.clock.now() - began == 10.0

    run_virtual(main())


def test_a_body_that_breaks_off_does_nothing() -> None:
    async def main() -> None:
        service = Within()
        sent: list[Any] = []
        parts = [
            {"type": "http.request", "body": b"", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return parts.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        async with service.client() as client:
            made = await client.post("/relaunches", json=ASKED, headers=bearer())
            place = made.headers["location"]
            scope = {
                "type": "http",
                "method": "DELETE",
                "path": place,
                "query_string": b"",
                "headers": [(k.lower().encode(), v.encode()) for k, v in bearer().items()],
            }
            await service.app(scope, receive, send)
            assert sent == []
            signals = await service.store.signals(made.json()["relaunch_id"])
            assert not signals.abort_requested

    run_virtual(main())


class _Bug(MemoryRunStore):
    """A store with a bug: which one, the id says."""

    async def load(self, relaunch_id: str) -> StoredRun:
        raise {"ValueError": ValueError, "TimeoutError": TimeoutError}[relaunch_id](
            "the secret of ada"
        )


def test_a_bug_tells_nothing_and_is_logged_by_its_place(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        service = Within(store=_Bug())
        async with service.client() as client:
            for kind in ("ValueError", "TimeoutError"):
                caplog.clear()
                answer = await client.get("/relaunches/" + kind, headers=bearer())
                assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
                assert "secret" not in answer.text
                assert kind not in answer.text
                (record,) = [r for r in caplog.records if r.message == "request_failed"]
                told = vars(record)
                assert told["reason"] == kind
                assert re.fullmatch(r"service/relaunches\.py:\d+ visible", told["where"])
                assert "secret" not in caplog.text

    caplog.set_level(logging.DEBUG, logger="orchestrator")
    run_virtual(main())


def test_an_answer_that_breaks_off_is_not_answered_twice() -> None:
    sent: list[str] = []

    async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("a secret")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    run_virtual(Boundary(breaks_off, largest=1, slowest=1.0)(scope, receive, send))
    assert sent == ["http.response.start"]


def test_a_page_that_may_not_ask_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        service = Within(allowed_origins=(PAGE,))
        async with service.client() as client:
            own = str(client.base_url).rstrip("/")
            forged = "https://a b\\nforged=1"
            for origin in ("https://other.example", "https://other.example", PAGE, own, forged):
                await client.get("/healthz", headers={"Origin": origin})
            for number in range(100):
                await client.get("/healthz", headers={"Origin": f"https://x{number}.example"})

    run_virtual(main())
    told = [vars(r)["origin"] for r in caplog.records if r.message == "origin_not_allowed"]
    assert told[0] == "https://other.example"
    assert told == ["https://other.example", *(f"https://x{n}.example" for n in range(19))]


def test_requests_are_logged_by_their_route(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Within().client() as client:
            await client.get("/users/ada/labs", headers=learner())
            await client.get("/nothing/ada", headers=learner())
            await client.request("ADA", "/relaunches", headers=learner())
            told = [vars(r) for r in caplog.records if r.message == "request"]
            assert [(t["operation"], t["status"]) for t in told] == [
                ("GET /users/{user_id}/labs", 200),
                ("GET (none)", 404),
                ("OTHER /relaunches", 405),
            ]

    caplog.set_level(logging.INFO, logger="orchestrator.service")
    run_virtual(main())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnPorts]:
    monkeypatch.setattr(server, "HEADERS_WITHIN", 0.3)
    options = {"slowest_body": 0.3, "heartbeat_seconds": 0.05}
    with on_ports(tmp_path, teardown="never", options=options) as made:
        yield made


def _rest_of(connection: socket.socket) -> bytes:
    """What comes up to the end of the connection."""
    told = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            told += piece
    return told


_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("before", "begin"),
    [(0, b""), (0, _HEAD), (0, b"GE"), (2, _HEAD), (2, b"GE")],
    ids=["silent", "half-a-head", "two-letters", "later-half-a-head", "later-two-letters"],
)
def test_a_connection_without_a_whole_request_is_closed(
    here: OnPorts, before: int, begin: bytes
) -> None:
    with socket.create_connection(here.address, timeout=10) as connection:
        for _ in range(before):
            connection.sendall(_HEAD + b"\r\n")
            told = b""
            while b"true}" not in told:
                told += connection.recv(65_536)
        connection.sendall(begin)
        assert _rest_of(connection) == b""


def test_silence_between_two_requests_is_allowed_for_longer(here: OnPorts) -> None:
    with socket.create_connection(here.address, timeout=10) as connection:
        for pause in (2 * server.HEADERS_WITHIN, 0):
            connection.sendall(_HEAD + b"\r\n")
            told = b""
            while b"true}" not in told:
                piece = connection.recv(65_536)
                assert piece, "it was closed"
                told += piece
            time.sleep(pause)


@pytest.mark.parametrize("begin", [b"", _HEAD + b"\r\n"], ids=["the-first", "the-second"])
def test_and_so_is_one_on_which_the_head_never_ends(here: OnPorts, begin: bytes) -> None:
    with socket.create_connection(here.address, timeout=10) as connection:
        connection.sendall(begin + _HEAD)
        _dribble(connection, b"X: y\r\n")


@pytest.mark.parametrize("sent", [b" ", b" " * 70_000], ids=["slow", "huge"])
def test_whoever_goes_on_with_a_refused_body_is_cut_off(here: OnPorts, sent: bytes) -> None:
    with socket.create_connection(here.address, timeout=10) as connection:
        head = b"POST /relaunches HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n"
        if len(sent) > 65_536:
            head = head.replace(b"65000", b"900000")
        connection.sendall(head + sent)
        _dribble(connection, b" ")


def _dribble(connection: socket.socket, piece: bytes) -> None:
    """Send and send, up to the end of the connection, which must come."""
    try:
        while True:
            connection.sendall(piece)
            time.sleep(0.02)
    except (BrokenPipeError, ConnectionResetError):
        return


def test_a_stream_is_no_silent_connection(here: OnPorts) -> None:
    here.sandbox.world.give("ada", OLD)
    begun = here.begin()
    url = f"/relaunches/{begun['relaunch_id']}/events"
    with here.client.stream("GET", url, headers=bearer()) as stream:
        signs = 0
        for line in stream.iter_lines():
            signs += line == ": still here"
            if signs > 10:
                break
    here.client.delete(f"/relaunches/{begun['relaunch_id']}", headers=bearer())


def test_a_client_that_vanishes_from_a_real_stream_gives_its_place_back(here: OnPorts) -> None:
    here.sandbox.world.give("ada", OLD)
    begun = here.begin()
    parts = here.server.parts
    assert parts is not None
    for abrupt in (False, True):
        connection = socket.create_connection(here.address, timeout=10)
        head = f"GET /relaunches/{begun['relaunch_id']}/events HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(f"{head}Authorization: {bearer()['Authorization']}\r\n\r\n".encode())
        assert b"200 OK" in connection.recv(1000)
        assert parts.limits.open_streams == 1
        if abrupt:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        _until(lambda: parts.limits.open_streams == 0)
    assert len(parts.streams) == 0
    here.client.delete(f"/relaunches/{begun['relaunch_id']}", headers=bearer())


def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.01)


def test_headers_beyond_all_measure(here: OnPorts) -> None:
    for request in (
        {"url": "/healthz", "headers": {"X-Much": "y" * 17_000}},
        {"url": "/healthz", "headers": [("X-Many", "y")] * 3000},
        {"url": "/healthz?" + "y" * 17_000},
        {"url": "/" + "y" * 17_000},
    ):
        answer = here.client.get(**request)
        assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        answer = here.client.get("/healthz", headers={"X-Much": "y" * 10_000_000})
        assert answer.status_code == 400
    assert here.client.get("/healthz").status_code == 200
