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
_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
_ZSTD_STEP_BYTES = 256


class BrokenBody(Exception):
    """The client went away, or sent something that is no HTTP body or no compressed data, before the end."""


class _Decompressor(Protocol):
    """Undoes one compressed frame."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data`, the next part of the frame, holds, in pieces of bounded size."""

    @property
    def rest(self) -> bytes | None:
        """None inside the frame; behind its end the data that was too much."""


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._frame = zlib.decompressobj(wbits=wbits)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        piece = b"first"
        while piece and not self._frame.eof:
            piece = self._frame.decompress(data, PIECE_BYTES)
            data = self._frame.unconsumed_tail
            yield piece

    @property
    def rest(self) -> bytes | None:
        return self._frame.unused_data if self._frame.eof else None


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameDecompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield self._frame.decompress(data, PIECE_BYTES)
        while not self._frame.eof and not self._frame.needs_input:
            yield self._frame.decompress(b"", PIECE_BYTES)

    @property
    def rest(self) -> bytes | None:
        return (self._frame.unused_data or b"") if self._frame.eof else None


class _Zstd:
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
        self._behind = b""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        # It has no limit of its own; a block has at most 128 KiB, and the smallest takes 4 bytes.
        for start in range(0, len(data), _ZSTD_STEP_BYTES):
            if self._frame.eof:
                self._behind = data[start:]
                return
            yield self._frame.decompress(data[start : start + _ZSTD_STEP_BYTES])

    @property
    def rest(self) -> bytes | None:
        return (self._frame.unused_data or b"") + self._behind if self._frame.eof else None


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: _Zlib(31),
    "x-gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
    "lz4": _Lz4,
    "zstd": _Zstd,
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
    frame = None
    for piece in raw:
        rest: bytes | None = piece
        while rest:
            frame = make() if frame is None or frame.rest is not None else frame
            yield from filter(None, frame.pieces(rest))
            rest = frame.rest
    if frame is not None and frame.rest is None:
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
