"""Compression of answers."""

import zlib
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]
import zstandard

__all__ = ["Encoder", "choose_encoding", "make_encoder"]


class Encoder(Protocol):
    """Compresses one answer piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Take the next piece; what comes back is sent."""

    def flush(self) -> bytes:
        """End the answer."""


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._header: bytes = self._frame.begin()

    def compress(self, data: bytes, /) -> bytes:
        header, self._header = self._header, b""
        return header + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        return self._header + bytes(self._frame.flush())


# The cheapest first: the way is a loopback.
_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lz4": _Lz4,
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "gzip": lambda: zlib.compressobj(level=1, wbits=31),
    "deflate": lambda: zlib.compressobj(level=1),
}


def choose_encoding(headers: Message, settings: Mapping[str, str]) -> str | None:
    """The encoding of the answer; as in ClickHouse only with the setting `enable_http_compression`."""
    if settings.get("enable_http_compression") not in ("1", "true"):
        return None
    accepted = {
        name.partition(";")[0].strip() for name in headers.get("Accept-Encoding", "").lower().split(",")
    }
    return next((name for name in _ENCODERS if name in accepted), None)


def make_encoder(name: str) -> Encoder:
    """A new encoder for a name that `choose_encoding` gave."""
    return _ENCODERS[name]()
