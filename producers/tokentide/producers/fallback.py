"""Where events wait while librdkafka's queue is full, and the disk takes nothing."""

from collections import deque

__all__ = ["Fallback"]


class Fallback:
    """A bounded queue in memory, first in first out; the caller holds a lock around each call."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> bool:
        """Add the event at the end; return False when there is no room for it."""
        if len(self._frames) >= self._capacity:
            return False
        self._frames.append(frame)
        return True

    def first(self) -> bytes | None:
        """Return the frame of the event that waits longest, without removing it."""
        return self._frames[0] if self._frames else None

    def remove_first(self) -> None:
        """Remove the event that `first` returned."""
        self._frames.popleft()

    def clear(self) -> int:
        """Remove all events; return how many there were."""
        removed = len(self._frames)
        self._frames.clear()
        return removed
