"""The spool that this process writes."""

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tokentide.producers.segment import MOST_FRAME_BYTES, SEGMENT_BYTES, Segment
from tokentide.producers.spool import Spool
from tokentide.producers.spool_folder import bytes_of, new_owner

__all__ = ["SpoolFullError", "SpoolWriter"]

_AGAIN_SECONDS = 10.0
_MOST_AGE_SECONDS = 3600.0
_LEAST_SEGMENTS = 2
_LOOK_SECONDS = 5.0
_NEARLY_FULL_BYTES = SEGMENT_BYTES * 7 // 8


class SpoolFullError(Exception):
    """Raised when the spool holds as many bytes as it may."""


class SpoolWriter(Spool):
    """A spool with a segment that is written and one, made in advance, that comes next.

    All owners of a destination together hold `most_bytes` at most; each may always have two segments. The caller
    holds a lock around each call, except of `append`. Raises OSError when the first segment cannot be made.
    """

    is_own = True

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
        self._is_sealed = False
        self._making = threading.RLock()
        self.trouble: OSError | None = None
        """Why no segment can be made, while that is so."""
        try:
            self._current = self._make()
        except OSError:
            self.release()
            raise
        self._ahead.append(self._current)

    def append(self, frame: bytes) -> bool:
        """Write the event; return False, nothing is written then, when `put` must be asked. Needs no lock."""
        try:
            self._current.write(frame)
        except ValueError:
            return False
        return True

    def put(self, frame: bytes) -> bool:
        """Write the event, into a new segment if need be; return False when the disk takes no more.

        Raises SpoolFullError when the bound is reached. Costs some hundred microseconds when no spare is ready.
        """
        while not self.append(frame):
            if len(frame) > MOST_FRAME_BYTES or self._is_sealed or not self._next_segment():
                return False
        return True

    def seal(self) -> None:
        """Take nothing any more."""
        self._is_sealed = True
        self._current.seal()

    def _next_segment(self) -> bool:
        with self._making:  # whoever makes the spare at this moment makes it for this thread
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
        before.seal()
        if self._fsync_seconds:
            self._unsynced.append(before)
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
        with self._making:
            if self._spare is None and now >= self._again_at and not self._is_full():
                try:
                    self._spare = self._make()
                except OSError as error:
                    self._note(error)

    def rotate(self) -> None:
        """Begin a new segment when this one is nearly full, or so old that its age would say little of its events.

        Who tracks an event finds room then, and need not wait for a lock.
        """
        if self._spare is None or self._is_sealed:
            return
        is_old = time.time() - self._current.made > _MOST_AGE_SECONDS
        if is_old or self._current.size > _NEARLY_FULL_BYTES:
            self._next_segment()

    def unmap_ahead(self, lock: threading.RLock) -> None:
        """Unmap segments of which nothing was handed on: an outage may fill many. One thread at a time."""
        for segment in tuple(self._ahead):
            if segment.is_sealed and not segment.is_counted:
                waiting = segment.count(is_patient=True)
                with lock:
                    if segment in self._ahead:
                        segment.is_counted = True
                        segment.waiting = waiting
                        self.waiting += waiting
                        segment.unmap()

    def sync(self) -> None:
        """Have the disk store what was appended, when it is time. Blocks; one thread at a time, without the lock."""
        now = self._monotonic()
        if not self._fsync_seconds or now < self._synced_at + self._fsync_seconds:
            return
        self._synced_at = now
        sealed, self._unsynced = self._unsynced, []
        for segment in (*sealed, self._current):
            try:
                segment.sync()
            except OSError:
                continue  # Kafka had it all meanwhile, and it is deleted; or the disk is gone
