"""One file of the spool: framed events, each with a mark that says whether Kafka has it.

The file is allocated in full when it is made and written through a memory map: an append is a copy into the page
cache, without a system call, so it neither waits for the disk nor gives up the interpreter's lock. What was copied
outlives the process. After the header (magic, when it was made) stand the frames. A length of zero ends them.

Appending needs no lock: the map copies a whole frame to its position and moves that on, in one call of C under the
interpreter's lock, or refuses. So a thread of the service that tracks an event never waits for another one.
"""

import errno
import mmap
import os
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tokentide.producers.frame import DONE, FRAME, LENGTH, MARK, DamagedError

__all__ = ["FIRST", "MOST_FRAME_BYTES", "SEGMENT_BYTES", "Segment"]

SEGMENT_BYTES = 4 * 1024 * 1024
_MAGIC = b"tktspol2"
_HEADER = struct.Struct("<8sQ")
_PAGE = mmap.PAGESIZE
# How a frame begins: a length within the file, any CRC, a mark.
_BEGINNING = re.compile(rb"(?s)(?=..[\x00-\x40]\x00....[\x00\x01])")
# Between two pauses for the service's threads.
_COUNT_BATCH = 64
_COUNT_PAUSE_SECONDS = 0.0002

FIRST = _HEADER.size
"""Where the first record stands."""
MOST_FRAME_BYTES = SEGMENT_BYTES - FIRST


def _refuse(frame: bytes) -> NoReturn:
    raise ValueError("nothing is written here any more")


class Segment:
    """One file; the caller holds a lock around each call, except of `write`. Sizes and places are bytes."""

    def __init__(self, path: Path, made: float, end: int) -> None:
        self.path = path
        self.made = made
        """Unix seconds."""
        self.write: Callable[[bytes], object] = _refuse
        """Appends a frame. Raises ValueError when there is no room for it, or none is taken any more."""
        self.is_sealed = True
        """Nothing is appended any more."""
        self.is_damaged = False
        self.is_counted = False
        """Whether `waiting` counts all its events, not only those that were handed on."""
        self.waiting = 0
        """Events that Kafka has not."""
        self._end = end
        self._gaps: dict[int, int] = {}
        """Where damaged bytes begin, and the next whole event, or the end, is."""
        self._map: mmap.mmap | None = None

    @classmethod
    def make(cls, path: Path) -> "Segment":
        """Allocate a new file and touch each of its pages, so that appends find them there.

        Raises OSError when the disk is full or cannot be written; no file is left then.
        """
        made = time.time()
        segment = cls(path, made, SEGMENT_BYTES)
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
        view.seek(FIRST)
        segment.write = view.write
        segment.is_sealed = False
        return segment

    @classmethod
    def found(cls, path: Path) -> "Segment":
        """Return a segment that another process left. Raises OSError when it cannot be read."""
        size = path.stat().st_size
        segment = cls(path, 0.0, size)
        segment.is_counted = True
        if size < FIRST:
            segment._end = FIRST
            return segment  # its maker died before the first byte
        segment.map()
        view = segment._mapped()
        magic, made = _HEADER.unpack_from(view, 0)
        segment.made = made / 1000
        # All zeros: its maker died before the first event.
        segment.is_damaged = magic != _MAGIC and bool(view[:].strip(b"\0"))
        if magic == _MAGIC:
            segment.waiting = segment.count()
            if segment.is_damaged or view[segment._end : size].strip(b"\0"):
                segment._end = size
                segment.waiting = segment._count_around_damage()
        else:
            segment._end = FIRST
        segment.unmap()
        return segment

    def count(self, *, is_patient: bool = False) -> int:
        """Return how many events Kafka has not, and find where the last one ends. Needs no lock when it is sealed.

        Who is patient pauses now and then, for the threads of the service.
        """
        view, place, waiting, seen = self._mapped(), FIRST, 0, 0
        while place + FRAME.size <= self._end:
            length, _, mark = FRAME.unpack_from(view, place)
            if length == 0:
                break
            after = place + FRAME.size + length
            if after > self._end:
                self.is_damaged = True
                break
            waiting += mark != DONE
            place = after
            seen += 1
            if is_patient and seen % _COUNT_BATCH == 0:
                time.sleep(_COUNT_PAUSE_SECONDS)
        self._end = place
        return waiting

    def _count_around_damage(self) -> int:
        """Count as `count` does, and find the whole events behind damaged bytes, which stand for one."""
        content = self._mapped()[: self._end]
        last = len(content.rstrip(b"\0"))
        place, waiting = FIRST, 0
        while place < last:
            after = self._behind(place)
            if after is None:
                self.is_damaged = True
                starts = (found.start() for found in _BEGINNING.finditer(content, place + 1))
                after = next((start for start in starts if self._behind(start)), self._end)
                self._gaps[place] = after
                waiting += 1
            else:
                waiting += content[place + MARK] != DONE
            place = after
        self._end = place
        return waiting

    def _behind(self, place: int) -> int | None:
        """Return the place behind the event that stands there; None when it is none, or damaged."""
        start = place + FRAME.size
        if start > self._end:
            return None
        view = self._mapped()
        length, crc, _ = FRAME.unpack_from(view, place)
        end = int(start + length)
        return end if 0 < length <= self._end - start and zlib.crc32(view[start:end]) == crc else None

    def begin(self) -> None:
        """Say that the first record comes now: how old a segment is counts from here."""
        self.made = time.time()
        self._mapped()[:FIRST] = _HEADER.pack(_MAGIC, int(self.made * 1000))

    @property
    def size(self) -> int:
        """Where the next frame will stand, while none is refused."""
        return self._mapped().tell()

    def seal(self) -> None:
        """Have nothing appended any more. What was appended is there when this returns."""
        # Whoever has got hold of `write` before finds no room behind the end.
        self._mapped().seek(0, os.SEEK_END)
        self.write = _refuse
        self.is_sealed = True

    def after(self, place: int) -> int:
        """Return the place behind the event, or behind damaged bytes."""
        if place in self._gaps:
            return self._gaps[place]
        (length,) = LENGTH.unpack_from(self._mapped(), place)
        return int(place + FRAME.size + length)

    def read(self, place: int) -> tuple[bytes | None, int] | None:
        """Return the body of the event at the place, without it when Kafka has the event, and the place behind it.

        None when no event stands there, behind all that stand before it. Raises DamagedError when the bytes are not
        those that were written.
        """
        if place in self._gaps:
            raise DamagedError(f"{self.path} is damaged from byte {place} on")
        start = place + FRAME.size
        if start > self._end:
            return None
        view = self._mapped()
        length, crc, mark = FRAME.unpack_from(view, place)
        if length == 0:
            return None
        end = start + length
        if mark == DONE:
            return None, end
        body = view[start:end]
        if zlib.crc32(body) != crc:
            raise DamagedError(f"{self.path} is damaged at byte {place}")
        return body, end

    def mark_done(self, place: int) -> None:
        """Remember that Kafka has the event, or will never take it."""
        self._mapped()[place + MARK] = DONE
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
