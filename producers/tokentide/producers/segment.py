"""One file of the spool: framed records, each with a mark that says whether Kafka has it.

The file is allocated in full when it is made and written through a memory map: an append is a copy into the page
cache, without a system call, so it neither waits for the disk nor gives up the interpreter's lock. What was copied
outlives the process. After the header (magic, when it was made) stand records: length and CRC32 of the body, the
mark, the body. A length of zero ends them; it is written last, so a record is there whole or not at all.
"""

import errno
import mmap
import os
import struct
import time
import zlib
from functools import lru_cache
from pathlib import Path

from tokentide.producers.cloud_event import Headers, Record

__all__ = ["FIRST", "MOST_BODY_BYTES", "SEGMENT_BYTES", "DamagedError", "Segment", "pack", "unpack"]

SEGMENT_BYTES = 4 * 1024 * 1024
_MAGIC = b"tktspool"
_HEADER = struct.Struct("<8sQ")
_FRAME = struct.Struct("<IIB")
_LENGTH = struct.Struct("<I")
_REST = struct.Struct("<IB")
_MARK = 8
_WAITING, _DONE = 0, 1
_PAGE = mmap.PAGESIZE

FIRST = _HEADER.size
"""Where the first record stands."""
MOST_BODY_BYTES = SEGMENT_BYTES - FIRST - _FRAME.size


class DamagedError(Exception):
    """Raised when the bytes at a place are no record."""


class Segment:
    """One file; the caller holds a lock around each call. Sizes and places are bytes."""

    def __init__(self, path: Path, made: float, end: int, waiting: int, *, is_sealed: bool) -> None:
        self.path = path
        self.made = made
        """Unix seconds."""
        self.end = end
        self.waiting = waiting
        """Records that Kafka has not."""
        self.is_sealed = is_sealed
        """Nothing is appended any more."""
        self.is_damaged = False
        self._map: mmap.mmap | None = None

    @classmethod
    def make(cls, path: Path) -> "Segment":
        """Allocate a new file and touch each of its pages, so that appends find them there.

        Raises OSError when the disk is full or cannot be written; no file is left then.
        """
        made = time.time()
        segment = cls(path, made, FIRST, 0, is_sealed=False)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _allocate(descriptor)
            os.pwrite(descriptor, _HEADER.pack(_MAGIC, int(made * 1000)), 0)
            segment._map = view = mmap.mmap(descriptor, SEGMENT_BYTES)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        for page in range(_PAGE, SEGMENT_BYTES, _PAGE):
            view[page] = 0
        return segment

    @classmethod
    def found(cls, path: Path) -> "Segment":
        """Return a segment that another process left. Raises OSError when it cannot be read."""
        size = path.stat().st_size
        segment = cls(path, 0.0, FIRST, 0, is_sealed=True)
        if size < FIRST:
            return segment  # its maker died before the first byte
        segment.map()
        view = segment._mapped()
        magic, made = _HEADER.unpack_from(view, 0)
        segment.made = made / 1000
        segment.is_damaged = magic != _MAGIC and any(view[:FIRST])
        if magic == _MAGIC:
            segment._count(size)
        segment.unmap()
        return segment

    def _count(self, size: int) -> None:
        view = self._mapped()
        while self.end + _FRAME.size <= size:
            length, _, mark = _FRAME.unpack_from(view, self.end)
            if length == 0:
                return
            after = self.end + _FRAME.size + length
            if after > size:
                self.is_damaged = True
                return
            self.waiting += mark != _DONE
            self.end = after

    def begin(self) -> None:
        """Say that the first record comes now: how old a segment is counts from here."""
        self.made = time.time()
        self._mapped()[:FIRST] = _HEADER.pack(_MAGIC, int(self.made * 1000))

    def has_room(self, size: int) -> bool:
        """Return whether a body of so many bytes fits in."""
        return self.end + _FRAME.size + size <= SEGMENT_BYTES

    def append(self, body: bytes) -> int:
        """Write the body, for which there must be room, and return its place."""
        view, place, length = self._mapped(), self.end, len(body)
        start = place + _FRAME.size
        view[start : start + length] = body
        view[place + 4 : start] = _REST.pack(zlib.crc32(body), _WAITING)
        view[place : place + 4] = _LENGTH.pack(length)
        self.end = start + length
        self.waiting += 1
        return place

    def after(self, place: int) -> int:
        """Return the place behind the record."""
        (length,) = _LENGTH.unpack_from(self._mapped(), place)
        return int(place + _FRAME.size + length)

    def is_done(self, place: int) -> bool:
        """Return whether Kafka has the record."""
        return self._mapped()[place + _MARK] == _DONE

    def read(self, place: int) -> Record:
        """Return the record. Raises DamagedError when its bytes are not those that were written."""
        view = self._mapped()
        length, crc, _ = _FRAME.unpack_from(view, place)
        start = place + _FRAME.size
        body = view[start : start + length]
        if zlib.crc32(body) != crc:
            raise DamagedError(f"{self.path} is damaged at byte {place}")
        return unpack(body)

    def mark_done(self, place: int) -> None:
        """Remember that Kafka has the record, or will never take it."""
        self._mapped()[place + _MARK] = _DONE
        self.waiting -= 1

    def map(self) -> None:
        """Make the records readable. Raises OSError when the file is gone or too many are open."""
        if self._map is None:
            descriptor = os.open(self.path, os.O_RDWR)
            try:
                self._map = mmap.mmap(descriptor, 0)
            except ValueError as error:  # an empty file
                raise OSError(str(error)) from error
            finally:
                os.close(descriptor)

    def unmap(self) -> None:
        """Give the map and its descriptor back; the file stays."""
        view, self._map = self._map, None
        if view is not None:
            view.close()

    def sync(self) -> None:
        """Wait until the disk has what was appended. Raises OSError. Needs no lock."""
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            raise DamagedError(f"{self.path} is not open")
        return self._map


def _allocate(descriptor: int) -> None:
    """Reserve all blocks: writing a map for which the disk has no room would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, SEGMENT_BYTES)
    elif os.write(descriptor, bytes(SEGMENT_BYTES)) != SEGMENT_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def pack(record: Record) -> bytes:
    """Return the body of a record: how many parts, the length of each, then key, value, names and values."""
    parts = [record.key, record.value]
    for name, value in record.headers:
        parts.append(name.encode())
        parts.append(value if isinstance(value, bytes) else (value or "").encode())
    count = len(parts)
    return _lengths(count).pack(count, *map(len, parts)) + b"".join(parts)


@lru_cache(maxsize=64)
def _lengths(count: int) -> struct.Struct:
    return struct.Struct(f"<I{count}I")


def unpack(body: bytes) -> Record:
    """Return the record of a body that `pack` made. Raises DamagedError for other bytes."""
    try:
        (count,) = _LENGTH.unpack_from(body)
        lengths = struct.unpack_from(f"<{count}I", body, 4)
    except struct.error as error:
        raise DamagedError(str(error)) from error
    parts, start = [], 4 + 4 * count
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    if count < 2 or start != len(body):
        raise DamagedError("the parts of a record do not fill it")
    headers: Headers = [(parts[at].decode(), parts[at + 1]) for at in range(2, count - 1, 2)]
    return Record(parts[0], parts[1], headers)
