"""The spool that this process writes."""

import itertools
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tokentide.producers.cloud_event import Record
from tokentide.producers.segment import MOST_BODY_BYTES, SEGMENT_BYTES, Segment, pack
from tokentide.producers.spool import Place, Spool
from tokentide.producers.spool_folder import bytes_of, new_owner

__all__ = ["SpoolFullError", "SpoolWriter"]

_AGAIN_SECONDS = 10.0
_MOST_AGE_SECONDS = 3600.0
_LEAST_SEGMENTS = 2
_LOOK_SECONDS = 5.0
_MOST_FRESH = 256


class SpoolFullError(Exception):
    """Raised when the spool holds as many bytes as it may."""


class SpoolWriter(Spool):
    """A spool with a segment that is written and one, made in advance, that comes next.

    All owners of a destination together hold `most_bytes` at most; each may always have two segments. Raises
    OSError when the first segment cannot be made.
    """

    def __init__(
        self,
        destination: Path,
        most_bytes: int,
        fsync_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        folder, descriptor = new_owner(destination)
        super().__init__(folder, descriptor, ())
        self._destination = destination
        self._most_bytes = most_bytes
        self._fsync_seconds = fsync_seconds
        self._monotonic = monotonic
        self._numbers = itertools.count(1)
        self._foreign_bytes = 0
        self._again_at = self._looked_at = self._synced_at = 0.0
        self._spare: Segment | None = None
        self._unsynced: list[Segment] = []
        self._fresh: deque[tuple[Place, Record]] = deque(maxlen=_MOST_FRESH)
        """The last records that were written and not handed on."""
        self.trouble: OSError | None = None
        """Why no segment can be made, while that is so."""
        try:
            self._current = self._make()
        except OSError:
            self.release()
            raise
        self._ahead.append(self._current)

    def append(self, record: Record) -> Place | None:
        """Write the record and return its place; None when the disk takes no more.

        Raises SpoolFullError when the bound is reached. Costs some microseconds, and some hundred when no spare
        segment is ready.
        """
        body = pack(record)
        size = len(body)
        if not self._current.has_room(size) and (size > MOST_BODY_BYTES or not self._next_segment()):
            return None
        place = Place(self._current, self._current.append(body))
        self.waiting += 1
        self.behind += 1
        self._fresh.append((place, record))
        return place

    def next(self) -> tuple[Place, Record] | None:
        """Return the first record that was not handed on; what was written just now need not be read again."""
        fresh = self._fresh
        while len(fresh) > self.behind:
            fresh.popleft()
        # Only of a segment that is being read: others may have to be mapped first.
        if fresh and len(fresh) == self.behind and fresh[0][0].segment is self._reading:
            return fresh[0]
        return super().next()

    def _next_segment(self) -> bool:
        segment, self._spare = self._spare, None
        if segment is None:
            if self._monotonic() < self._again_at:
                return False
            if self._is_full():
                raise SpoolFullError
            try:
                segment = self._make()
            except OSError as error:
                self._note(error)
                return False
        segment.begin()
        before, self._current = self._current, segment
        self._ahead.append(segment)
        before.is_sealed = True
        if self._fsync_seconds:
            self._unsynced.append(before)
        if before in self._ahead and before.waiting:
            before.unmap()  # none of it was handed on: it is mapped again when its turn comes
        self._finish_if_done(before)
        return True

    @property
    def has_room(self) -> bool:
        """Whether the bound allows another segment, or one is ready."""
        return self._spare is not None or not self._is_full()

    def _is_full(self) -> bool:
        own = len(self._segments)
        return own >= _LEAST_SEGMENTS and (own + 1) * SEGMENT_BYTES + self._foreign_bytes > self._most_bytes

    def _make(self) -> Segment:
        segment = Segment.make(self.folder / f"{next(self._numbers):08}.segment")
        self._segments.add(segment)
        self.trouble = None
        return segment

    def _note(self, error: OSError) -> None:
        self.trouble = error
        self._again_at = self._monotonic() + _AGAIN_SECONDS

    def prepare(self) -> None:
        """Make the spare segment when there is none and it may be. One thread at a time, without the lock."""
        now = self._monotonic()
        if now >= self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._foreign_bytes = bytes_of(self._destination, but=self.folder)
        if self._spare is None and now >= self._again_at and not self._is_full():
            try:
                self._spare = self._make()
            except OSError as error:
                self._note(error)

    def rotate(self) -> None:
        """Begin a new segment when this one is old, so that an age says something of each of its records."""
        is_old = time.time() - self._current.made > _MOST_AGE_SECONDS
        if is_old and self._spare is not None:
            self._next_segment()

    def sync(self) -> None:
        """Have the disk store what was appended, when it is time. Blocks; one thread at a time, without the lock."""
        now = self._monotonic()
        if not self._fsync_seconds or now < self._synced_at + self._fsync_seconds:
            return
        self._synced_at = now
        sealed, self._unsynced = self._unsynced, []
        for segment in (*sealed, self._current):
            try:
                if segment.waiting:
                    segment.sync()
            except OSError:
                continue  # Kafka had it all meanwhile, and it is deleted; or the disk is gone
