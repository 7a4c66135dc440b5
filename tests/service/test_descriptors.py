"""As many connections as the system allows: tried in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="there is no such limit on this system")

_TRY = """
import resource, sys
from orchestrator.service.descriptors import most_streams
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(most_streams(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def _tried(soft: int, hard: int, wanted: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _TRY, str(soft), str(hard), str(wanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


def test_the_soft_limit_becomes_the_hard_one() -> None:
    assert _tried(200, 900, 500) == [500, 900, 900]


def test_no_more_streams_are_let_in_than_there_can_be() -> None:
    assert _tried(900, 900, 10_000) == [900 - 256, 900, 900]
    assert _tried(200, 200, 10_000) == [1, 200, 200]


def test_connections_leave_something_for_the_rest() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TRY_CONNECTIONS], capture_output=True, text=True, check=True
    )
    assert done.stderr == "", "nobody was turned away for want of a descriptor"
    assert done.stdout == "200\n", "nor was the next one"


_TRY_CONNECTIONS = """
import asyncio, resource, socket, subprocess, sys
import httpx
from orchestrator.service.server import listen, server_of, serving

async def answer(scope, receive, send):
    head = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b""})

class Router:
    lifespan_context = staticmethod(lambda app: asyncio.timeout(None))

answer.router = Router

class Parts:
    def drain(self): pass

async def main():
    listening = listen("127.0.0.1", 0)
    address = listening.getsockname()
    async with serving(server_of(answer, Parts(), proxies=[]), listening):
        await asyncio.to_thread(ask, address)

def ask(address):
    crowd = subprocess.run([sys.executable, "-c", CROWD, str(address[1])], check=True, text=True,
                           capture_output=True)
    print(httpx.get("http://%s:%s/" % address).status_code)

CROWD = '''
import socket, sys
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) for _ in range(600)]
for one in held[-100:]:
    try:
        assert one.recv(1) == b""
    except ConnectionError:
        pass
'''
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
asyncio.run(main())
"""
