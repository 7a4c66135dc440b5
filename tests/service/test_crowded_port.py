"""Connections that only take up room: silent ones, ones that don't read, ones that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import httpx
import pytest

from orchestrator.clocks import AsyncSystemClock
from orchestrator.service import server
from orchestrator.service.access.limits import CallerLimits
from orchestrator.service.streams import Stream
from tests.service.world import KEY, OLD, OnPorts, bearer, on_ports

SILENT = 400


@contextlib.contextmanager
def _connected(
    running: OnPorts, number: int, request: bytes = b""
) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(number):
            one = stack.enter_context(socket.create_connection(running.address, timeout=20))
            one.sendall(request)
            connections.append(one)
        yield connections


def _following(relaunch_id: str) -> bytes:
    return (
        f"GET /relaunches/{relaunch_id}/events HTTP/1.1\r\nHost: service\r\n"
        f"Authorization: Bearer {KEY}\r\n\r\n"
    ).encode()


def test_others_are_served_beside_silent_connections_and_those_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADERS_WITHIN", 1.0)
    with on_ports(tmp_path) as running:
        running.sandbox.world.give("ada", OLD)
        with (
            _connected(running, SILENT) as silent,
            _connected(running, SILENT, b"GET /healthz HTTP/1.1\r\nHost: ") as half,
        ):
            relaunch_id = running.begin()["relaunch_id"]
            assert running.follow(relaunch_id)[-1][2]["outcome"] == "launched"
            for one in (*silent, *half):
                # Also one that is told why is closed.
                while one.recv(4096):
                    pass


def _awaited_streams(running: OnPorts, number: int) -> None:
    assert running.server.parts is not None
    while running.server.parts.limits.open_streams != number:
        time.sleep(0.01)


def test_all_streams_taken_by_clients_that_never_read_leave_polling_and_come_free(
    tmp_path: Path,
) -> None:
    with on_ports(tmp_path, teardown="never", limits=CallerLimits(most_streams=3)) as running:
        running.sandbox.world.give("ada", OLD)
        relaunch_id = running.begin()["relaunch_id"]
        with _connected(running, 3, _following(relaunch_id)) as deaf:
            _awaited_streams(running, 3)
            refused = running.client.get(f"/relaunches/{relaunch_id}/events", headers=bearer())
            assert refused.status_code == 429
            assert refused.headers["content-type"] == "application/problem+json"
            assert int(refused.headers["retry-after"]) > 0
            polled = running.client.get(f"/relaunches/{relaunch_id}", headers=bearer())
            assert polled.status_code == 200
            # Gone without a farewell.
            for one in deaf:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _awaited_streams(running, 0)
        running.client.delete(f"/relaunches/{relaunch_id}", headers=bearer())
        assert running.follow(relaunch_id)[-1][2]["outcome"] == "aborted"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system can't tell")
def test_a_peer_that_is_silent_for_a_minute_is_gone(tmp_path: Path) -> None:
    with on_ports(tmp_path) as running, httpx.Client(base_url=running.server.base_url) as client:
        client.get("/healthz")
        assert running.server._server is not None
        (connection,) = running.server._server.server_state.connections
        taken = connection.transport.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_nothing_is_read_ahead_of_what_was_sent() -> None:
    read = 0

    async def source() -> AsyncGenerator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"piece"

    async def main() -> None:
        stream = Stream(
            source(),
            clock=AsyncSystemClock(),
            heartbeat=60,
            retry_milliseconds=1000,
            ends_at=None,
            failed=lambda _: None,
        )
        async with contextlib.aclosing(stream.lines()) as lines:
            for sent in range(1, 6):
                await anext(lines)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert read == sent

    asyncio.run(main())
