"""How an event stands in the spool: length and CRC32 of the body, a mark, and the body.

The mark says whether Kafka has the event. The body is the CloudEvents source, behind its length, and the JSON.
"""

import struct
import zlib
from functools import lru_cache

import msgspec

from tokentide.producers.cloud_event import Record, record_from

__all__ = ["DONE", "FRAME", "LENGTH", "MARK", "WAITING", "DamagedError", "body_of", "pack", "unpack"]

FRAME = struct.Struct("<IIB")
"""Length, CRC32, mark."""
LENGTH = struct.Struct("<I")
MARK = 8
"""Where in a frame its mark is."""
WAITING, DONE = 0, 1


class DamagedError(Exception):
    """Raised when the bytes at a place are no event."""


def pack(value: bytes, source: bytes) -> bytes:
    """Return the frame of the event that has this JSON and this CloudEvents source."""
    begin, crc = _beginning(source)
    return FRAME.pack(len(begin) + len(value), zlib.crc32(value, crc), WAITING) + begin + value


@lru_cache(maxsize=256)
def _beginning(source: bytes) -> tuple[bytes, int]:
    """Return how the body begins, and its CRC32."""
    begin = LENGTH.pack(len(source)) + source
    return begin, zlib.crc32(begin)


def body_of(frame: bytes) -> bytes:
    """Return the body in a frame that `pack` made."""
    return frame[FRAME.size :]


def unpack(body: bytes) -> Record:
    """Return the record of a body. Raises DamagedError for bytes that are none."""
    try:
        (length,) = LENGTH.unpack_from(body)
        start = LENGTH.size + length
        return record_from(body[start:], body[LENGTH.size : start])
    except (struct.error, msgspec.MsgspecError) as error:
        raise DamagedError(str(error)) from error
