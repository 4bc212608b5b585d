"""How long the door waits for a request, with a server in this process and little patience."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from tokentide.console.ingest.connection import Connection

REQUEST = b"GET / HTTP/1.1\r\nHost: door\r\n\r\n"
PATIENCE_SECONDS = 60


class Impatient(Connection):
    """Waits a second."""

    head_seconds = 1.0


async def app(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer later than a head may take."""
    await asyncio.sleep(1.5 * Impatient.head_seconds)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server of such connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=Impatient, timeout_keep_alive=3600, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield reader, writer
        writer.close()
        server.should_exit = True
        await serving


@pytest.mark.parametrize("bytes_sent", [0, 5, len(REQUEST)])
def test_a_connection_without_a_whole_head_is_closed_though_bytes_come(bytes_sent: int) -> None:
    async def trickle() -> bytes:
        async with connection() as (reader, writer):
            # Closed while something was on its way, which may show as a reset.
            with suppress(ConnectionError):
                for place in range(bytes_sent):
                    writer.write(REQUEST[place : place + 1])
                    await asyncio.sleep(0.05)
                return await reader.read()
            return b""

    assert asyncio.run(trickle()) == b""


def test_a_request_is_answered_however_long_that_takes_and_the_next_must_come_whole() -> None:
    async def twice() -> tuple[bytes, bytes]:
        async with connection() as (reader, writer):
            writer.write(REQUEST)
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(REQUEST[:5])
            return answer, await reader.read()

    answer, rest = asyncio.run(twice())

    assert answer.startswith(b"HTTP/1.1 204 ")
    assert rest == b""
