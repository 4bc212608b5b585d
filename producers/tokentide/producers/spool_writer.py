"""The spool that this process writes."""

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tokentide.producers.segment import MOST_FRAME_BYTES, SEGMENT_BYTES, Segment
from tokentide.producers.spool import Spool
from tokentide.producers.spool_folder import Destination, bytes_of, destination_folder, new_lock, new_owner

__all__ = ["SpoolFullError", "SpoolWriter"]

_AGAIN_SECONDS = 10.0
_MOST_AGE_SECONDS = 3600.0
_LEAST_SEGMENTS = 2
_LOOK_SECONDS = 5.0
# To make a segment takes some milliseconds.
_PATIENCE_SECONDS = 0.1
_LOOK_AGAIN_SECONDS = 0.0005
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
        root: Path,
        where: Destination,
        most_bytes: int,
        fsync_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Wherever the process goes.
        self._root = root.absolute()
        self.destination = destination_folder(self._root, where)
        """The folder of the spools that go there."""
        folder, descriptor = new_owner(self.destination)
        super().__init__(folder, descriptor, ())
        self._where = where
        self._most_bytes = most_bytes
        self._fsync_seconds = fsync_seconds
        self._monotonic = monotonic
        self._numbers = itertools.count(1)
        self._foreign_bytes = 0
        self._again_at = self._looked_at = self._synced_at = 0.0
        # One at most; taken and filled in one step each.
        self._spares: deque[Segment] = deque()
        # An item for each segment that is being made.
        self._under_way: deque[None] = deque()
        self._unsynced: list[Segment] = []
        self._is_sealed = self._is_gone = False
        self.trouble: OSError | None = None
        """Why no segment can be made, while that is so."""
        try:
            self._current = self._make()
        except OSError:
            super().release()
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
        segment = self._take_spare()
        if segment is None:
            if self._monotonic() < self._again_at:
                return False
            try:
                segment = self._make_if_room()
            except SpoolFullError:
                segment = self._await_spare()
            if segment is None:
                return False
        segment.begin()
        before, self._current = self._current, segment
        self._ahead.append(segment)
        before.seal()
        if self._fsync_seconds:
            self._unsynced.append(before)
        return True

    def _take_spare(self) -> Segment | None:
        try:
            return self._spares.pop()
        except IndexError:
            return None

    def _await_spare(self) -> Segment | None:
        """Return the spare that another thread makes at this moment. Raises SpoolFullError when none does.

        Not for long: that thread could wait for a lock which this one holds.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            is_coming = bool(self._under_way)
            segment = self._take_spare()
            if segment is not None:
                return segment
            if not is_coming:
                raise SpoolFullError
            if time.monotonic() > until:
                return None
            time.sleep(_LOOK_AGAIN_SECONDS)

    @property
    def has_room(self) -> bool:
        """Whether the bound allows another segment, or one is ready."""
        return bool(self._spares) or not self._is_full(len(self._under_way))

    def _is_full(self, under_way: int) -> bool:
        own = len(self._segments) + under_way
        return own >= _LEAST_SEGMENTS and (own + 1) * SEGMENT_BYTES + self._foreign_bytes > self._most_bytes

    def _make_if_room(self, spares: deque[Segment] | None = None) -> Segment | None:
        """Return a new segment, put among the spares; None, and the trouble is noted, when the disk takes none.

        Raises SpoolFullError when the bound is reached. Of two threads that want one at once each sees the other.
        """
        self._under_way.append(None)
        try:
            if self._is_full(len(self._under_way) - 1):
                raise SpoolFullError
            segment = self._make()
            if spares is not None:
                spares.append(segment)
        except OSError as error:
            self._note(error)
            return None
        finally:
            self._under_way.pop()
        return segment

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
            self._foreign_bytes = bytes_of(self.destination, but=self.folder)
            self._keep_lock()
        if not self._spares and now >= self._again_at:
            with contextlib.suppress(SpoolFullError):
                self._make_if_room(self._spares)

    def _keep_lock(self) -> None:
        """Have the lock look new to what deletes old files; make it again when it is gone, or another folder."""
        if self._is_sealed or self._descriptor is None:
            return
        try:
            if (self.folder / "lock").exists():
                os.utime(self._descriptor)
                return
            self._hold(new_lock(self.folder))
        except FileNotFoundError:
            self._begin_anew()
        except OSError as error:
            self._note(error)

    def _hold(self, descriptor: int) -> None:
        before, self._descriptor = self._descriptor, descriptor
        if before is not None:
            os.close(before)

    def _begin_anew(self) -> None:
        """Make another folder: somebody deleted this one. What is mapped is still sent, but outlives no process."""
        try:
            folder, descriptor = new_owner(destination_folder(self._root, self._where))
        except OSError as error:
            self._note(error)
            return
        self._hold(descriptor)
        self.folder = folder
        self._again_at = 0.0
        while (spare := self._take_spare()) is not None:
            self._segments.discard(spare)
            spare.unmap()
        self._is_gone = True

    def rotate(self) -> None:
        """Begin a new segment when this one is nearly full, or so old that its age would say little of its events.

        Who tracks an event finds room then, and need not wait for a lock.
        """
        if not self._spares or self._is_sealed:
            return
        is_old = time.time() - self._current.made > _MOST_AGE_SECONDS
        if is_old or self._is_gone or self._current.size > _NEARLY_FULL_BYTES:
            self._next_segment()
            self._is_gone = False

    def release(self) -> None:
        """Give the folder up, as every spool does, when nothing can be written there any more."""
        if not self._is_sealed and self._descriptor is not None:
            self.seal()
        super().release()

    def unmap_ahead(self, lock: threading.RLock) -> None:
        """Unmap segments of which nothing was handed on: an outage may fill many. One thread at a time."""
        for segment in tuple(self._ahead):
            # A deleted file could not be mapped again.
            if segment.is_sealed and not segment.is_counted and segment.path.exists():
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
