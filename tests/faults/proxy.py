"""A network that fails between the sinks and ClickHouse."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

__all__ = ["FaultProxy"]

_HOST = "127.0.0.1"
_END = b"\r\n\r\n"


class _Message(NamedTuple):
    """An HTTP request or answer, whole."""

    head: bytes
    body: bytes


class FaultProxy:
    """Passes HTTP on to a server, but for as long as `trouble` says; a context manager with a thread of its own.

    Trouble meets POST requests only, which is what inserts are: `refuse` answers with a status and does nothing,
    `hang` does nothing until the trouble is over, `lose` lets the server answer and closes the connection, `cut`
    closes both connections when half of the body is sent.
    """

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or _HOST, address.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._kind = ""
        self._status = 500
        self._until = 0.0
        self.url = ""
        self.met = Counter[str]()
        """How many requests each kind of trouble met."""
        self.inserting = 0
        """How many requests with a body are with the server now."""

    def trouble(self, kind: str, seconds: float, status: int = 500) -> None:
        """Begin a trouble that ends by itself; it takes the place of an earlier one."""
        self._kind, self._status, self._until = kind, status, time.monotonic() + seconds

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._accept, _HOST, 0), self._loop)
        self._server = starting.result(10)
        self.url = f"http://{_HOST}:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # Either side may break off at any time; that is what we are for.
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Deal with one request; return whether the connection goes on."""
        request = await _read(reader, until_end=False)
        kind = self._kind if request.head.startswith(b"POST") and time.monotonic() < self._until else ""
        if kind:
            self.met[kind] += 1
        if kind == "refuse":
            writer.write(b"HTTP/1.1 %d Trouble\r\nContent-Length: 8\r\n\r\nTrouble\n" % self._status)
            await writer.drain()
            return True
        if kind == "hang":
            await asyncio.sleep(max(0.0, self._until - time.monotonic()))
            return False
        upstream_reader, upstream = await asyncio.open_connection(*self._upstream)
        try:
            if kind == "cut":
                upstream.write(request.head + request.body[: len(request.body) // 2])
                await upstream.drain()
                return False
            self.inserting += bool(request.body)
            try:
                upstream.write(request.head + request.body)
                await upstream.drain()
                answer = await _read(upstream_reader, until_end=True)
            finally:
                self.inserting -= bool(request.body)
        finally:
            upstream.close()
        if kind == "lose":
            return False
        writer.write(answer.head + answer.body)
        await writer.drain()
        return _header(answer.head, b"connection") != b"close" and _has_length(answer.head)


async def _read(reader: asyncio.StreamReader, *, until_end: bool) -> _Message:
    """Return a whole message; one that tells no length has no body, or one `until_end` of the connection."""
    head = await reader.readuntil(_END)
    if _header(head, b"transfer-encoding") == b"chunked":
        return _Message(head, await _chunks(reader))
    length = _header(head, b"content-length")
    if length:
        return _Message(head, await reader.readexactly(int(length)))
    return _Message(head, await reader.read() if until_end else b"")


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Return a chunked body as it stands on the wire."""
    body = b""
    while True:
        line = await reader.readline()
        if not line:
            raise EOFError
        size = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return b""


def _has_length(head: bytes) -> bool:
    return bool(_header(head, b"content-length") or _header(head, b"transfer-encoding"))
