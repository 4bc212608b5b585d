"""The body of a request: within a bound and a time, and unpacked when it is gzip."""

import asyncio
import zlib

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from tokentide.console.ingest.refusal import Refusal

__all__ = ["announced_bytes", "read_body"]

_SECONDS = 30.0
_GZIP = frozenset({"gzip", "x-gzip"})
# With which zlib reads the header of gzip, and nothing else.
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def announced_bytes(headers: Headers, most: int) -> int:
    """Return how long the body is at most, unpacked; raises Refusal, 413, when it is too long by its own account."""
    length = headers.get("content-length", "")
    announced = int(length) if length.isdecimal() else most
    if announced > most:
        raise _too_long(most)
    return announced if _coding(headers) == "identity" else most


async def read_body(request: Request, most: int) -> bytes:
    """Return the body, unpacked; neither it nor what was sent may have more than `most` bytes.

    Raises Refusal: 413 when it has, 415 for a coding that is not read here, 400 for what is not one whole gzip or
    ends too early, 408 when it takes more than 30 seconds, and 503 when the server stops before it is here.
    """
    coding = _coding(request.headers)
    if coding != "identity" and coding not in _GZIP:
        raise Refusal(415, "Send the body as it is, or with Content-Encoding: gzip.")
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise _too_long(most)
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {_SECONDS:.0f} s: send it again.") from None
    except asyncio.CancelledError:
        # By the server, when it stops and has waited long enough.
        raise Refusal(
            503,
            "The door stops, and the body has not arrived: nothing was stored, send the same request again.",
            headers={"Retry-After": "1"},
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "The connection ended before the body.") from None
    return _unpacked(bytes(body), most) if coding in _GZIP else bytes(body)


def _coding(headers: Headers) -> str:
    return headers.get("content-encoding", "identity").strip().lower()


def _unpacked(packed: bytes, most: int) -> bytes:
    member = zlib.decompressobj(_GZIP_WINDOW)
    try:
        # One byte more than allowed is enough to know, however much a small body would become.
        body = member.decompress(packed, most + 1)
    except zlib.error as error:
        raise Refusal(400, f"The body is no gzip: {error}.") from error
    if len(body) > most:
        raise _too_long(most)
    # A second member is allowed by RFC 1952, and sent by nobody.
    if not member.eof or member.unused_data:
        raise Refusal(400, "The body is not one whole gzip: compress it once, and send all of it.")
    return body


def _too_long(most: int) -> Refusal:
    return Refusal(413, f"The body is longer than {most} bytes: send fewer events at once.")
