"""Answers: held back while an error can still change the status, then sent in chunks."""

import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, Protocol

from tokentide.sinks.embedded.encodings import Encoder, make_encoder
from tokentide.sinks.embedded.faults import Fault

__all__ = ["Answer", "Connection"]

_HELD_BYTES = 1024 * 1024
_HELD_IN_MEMORY_BYTES = 8 * 1024 * 1024
_COPY_BYTES = 256 * 1024


class Connection(Protocol):
    """What an answer needs of the HTTP connection."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers."""

    def write(self, data: bytes) -> None:
        """Send a part of the body as it is; may block until the client reads."""

    def cut(self) -> None:
        """Close the connection behind what was sent, so that the client sees a broken answer."""


class Answer:
    """One answer on `connection`; exactly one of its methods is called, once."""

    def __init__(self, connection: Connection, headers: Mapping[str, str], folder: Path) -> None:
        self._connection = connection
        self._headers = dict(headers)
        self._folder = folder

    def send_fault(self, fault: Fault, version: str) -> None:
        """Answer with an error before anything else was sent."""
        text = f"{fault.text} (version {version})\n".encode(errors="surrogateescape")
        own = {"X-ClickHouse-Exception-Code": str(fault.code), "Content-Type": "text/plain; charset=UTF-8"}
        self._send_whole(fault.status, own, text)

    def send_summary(self, summary: Mapping[str, int], body: bytes = b"") -> None:
        """Answer a statement that has run, with what it wrote."""
        self._send_whole(200, _summary(summary), body)

    def send_result(
        self, pieces: Iterator[bytes], encoding: str | None, version: str, *, holds_all: bool
    ) -> None:
        """Answer with a result while it is made.

        A Fault in the first MiB (with `holds_all`: anywhere) is raised and nothing was sent. A later one is
        written into the body as ClickHouse does since 25.11, and the answer ends without its last chunk.
        """
        if encoding:
            self._headers["Content-Encoding"] = encoding
        encoder = make_encoder(encoding) if encoding else None
        with (
            closing(_Closable(pieces)) as source,
            tempfile.SpooledTemporaryFile(_HELD_IN_MEMORY_BYTES, dir=str(self._folder)) as held,
        ):
            size = 0
            for piece in source:
                size += held.write(encoder.compress(piece) if encoder else piece)
                if size >= _HELD_BYTES and not holds_all:
                    break
            else:
                held.write(encoder.flush() if encoder else b"")
                self._send_held(held)
                return
            self._send_chunks(held, source, encoder, version)

    def _send_held(self, held: IO[bytes]) -> None:
        self._connection.start(200, {**self._headers, **_summary({}), "Content-Length": str(held.tell())})
        held.seek(0)
        while data := held.read(_COPY_BYTES):
            self._connection.write(data)

    def _send_chunks(
        self, held: IO[bytes], source: Iterator[bytes], encoder: Encoder | None, version: str
    ) -> None:
        tag = secrets.token_hex(8)
        own = {"Transfer-Encoding": "chunked", "X-ClickHouse-Exception-Tag": tag}
        self._connection.start(200, {**self._headers, **_summary({}), **own})
        held.seek(0)
        self._send_chunk(held.read())
        held.seek(0)
        held.truncate()
        try:
            for piece in source:
                self._send_chunk(encoder.compress(piece) if encoder else piece)
        except Fault as fault:
            notice = _notice(fault, tag, version)
            self._send_chunk(encoder.compress(notice) + encoder.flush() if encoder else notice)
            self._connection.cut()
            return
        self._send_chunk(encoder.flush() if encoder else b"")
        self._connection.write(b"0\r\n\r\n")

    def _send_chunk(self, data: bytes) -> None:
        if data:
            self._connection.write(b"%x\r\n" % len(data))
            self._connection.write(data)
            self._connection.write(b"\r\n")

    def _send_whole(self, status: int, own: Mapping[str, str], body: bytes) -> None:
        self._connection.start(status, {**self._headers, **own, "Content-Length": str(len(body))})
        self._connection.write(body)


class _Closable(Iterator[bytes]):
    """An iterator with a `close` that cancels the statement behind it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def _summary(known: Mapping[str, int]) -> dict[str, str]:
    names = ("read_rows", "read_bytes", "written_rows", "written_bytes", "total_rows_to_read", "result_rows")
    return {"X-ClickHouse-Summary": json.dumps({name: str(known.get(name, 0)) for name in names})}


def _notice(fault: Fault, tag: str, version: str) -> bytes:
    text = f"{fault.text} (version {version})".encode(errors="surrogateescape")
    mark = tag.encode()
    return b"\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n" % (mark, text, len(text) + 1, mark)
