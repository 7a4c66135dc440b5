"""An answer is not held back until the client has acknowledged its head."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from orchestrator.sandbox.server import _listen
from orchestrator.service.server import listen


@pytest.mark.parametrize("listen_on", [listen, _listen], ids=["service", "sandbox"])
def test_what_is_accepted_sends_at_once(listen_on: Callable[[str, int], socket.socket]) -> None:
    async def main() -> None:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Looks(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                one = transport.get_extra_info("socket")
                accepted.set_result(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        with listen_on("127.0.0.1", 0) as listening:
            server = await asyncio.get_running_loop().create_server(Looks, sock=listening)
            _, writer = await asyncio.open_connection(*listening.getsockname())
            assert await accepted
            writer.close()
            server.close()
            await server.wait_closed()

    asyncio.run(main())
