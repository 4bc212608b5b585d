"""Request bodies: read in pieces, decompressed on the way, never cut short in silence."""

import zlib
from collections.abc import Callable, Iterator
from email.message import Message
from io import BufferedIOBase
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]
import zstandard

from tokentide.sinks.embedded.faults import Fault

__all__ = ["BrokenBody", "RequestBody"]

PIECE_BYTES = 256 * 1024
_DRAIN_BYTES = 64 * 1024 * 1024


class BrokenBody(Exception):
    """The client went away, or sent something that is no HTTP body or no compressed data, before the end."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "x-gzip": lambda: zlib.decompressobj(wbits=31),
    "deflate": lambda: zlib.decompressobj(),
    "lz4": lambda: lz4.frame.LZ4FrameDecompressor(),
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_BROKEN = {
    "gzip": (354, "ZLIB_INFLATE_FAILED"),
    "lz4": (618, "LZ4_DECODER_FAILED"),
    "zstd": (561, "ZSTD_DECODER_FAILED"),
}


class RequestBody:
    """The body of one request, read once from the connection."""

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self._encoding = headers.get("Content-Encoding", "identity").strip().lower()
        self._raw = _chunked(stream) if _is_chunked(headers) else _counted(stream, headers)

    def pieces(self) -> Iterator[bytes]:
        """The body as the client meant it; raises Fault for an encoding it cannot undo, or BrokenBody."""
        if self._encoding in ("", "identity"):
            yield from self._raw
            return
        make = _DECOMPRESSORS.get(self._encoding)
        if make is None:
            known = ", ".join(_DECOMPRESSORS)
            message = f"Unknown Content-Encoding {self._encoding}; send one of: {known}"
            raise Fault.new(48, "NOT_IMPLEMENTED", message)
        try:
            yield from _decompressed(self._raw, make)
        except (zlib.error, zstandard.ZstdError, RuntimeError, ValueError) as error:
            message = f"The body is not valid {self._encoding}: {error}"
            raise Fault.new(*_BROKEN.get(self._encoding, _BROKEN["gzip"]), message) from error

    def drain(self) -> bool:
        """Read what is left, so that the client gets to read the answer; False if that is too much."""
        left = _DRAIN_BYTES
        try:
            for piece in self._raw:
                left -= len(piece)
                if left < 0:
                    return False
        except (BrokenBody, OSError):
            return False
        return True


def _decompressed(raw: Iterator[bytes], make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Undo any number of compressed frames, one behind the other."""
    frame = make()
    is_started = False
    for piece in raw:
        rest = piece
        while rest:
            if frame.eof:
                frame = make()
            is_started = True
            if plain := frame.decompress(rest):
                yield plain
            rest = (frame.unused_data or b"") if frame.eof else b""
    if is_started and not frame.eof:
        raise ValueError("it ends inside a frame")


def _is_chunked(headers: Message) -> bool:
    return headers.get("Transfer-Encoding", "").strip().lower() == "chunked"


def _counted(stream: BufferedIOBase, headers: Message) -> Iterator[bytes]:
    try:
        left = int(headers.get("Content-Length") or 0)
    except ValueError:
        raise BrokenBody("Content-Length is not a number") from None
    while left > 0:
        piece = _exactly(stream, min(left, PIECE_BYTES))
        left -= len(piece)
        yield piece


def _chunked(stream: BufferedIOBase) -> Iterator[bytes]:
    while True:
        try:
            left = int(stream.readline(1024).partition(b";")[0], 16)
        except ValueError:
            raise BrokenBody("a chunk of the body has no size") from None
        if left == 0:
            break
        while left > 0:
            piece = _exactly(stream, min(left, PIECE_BYTES))
            left -= len(piece)
            yield piece
        _exactly(stream, 2)
    while stream.readline(65536) not in (b"\r\n", b"\n", b""):
        pass


def _exactly(stream: BufferedIOBase, size: int) -> bytes:
    piece = stream.read(size)
    if len(piece) < size:
        raise BrokenBody("the client closed the connection inside the body")
    return piece
