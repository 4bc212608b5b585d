"""Where records wait while librdkafka's queue is full."""

from collections import deque

from tokentide.producers.cloud_event import Record

__all__ = ["Fallback"]


class Fallback:
    """A bounded queue in memory, first in first out; the caller holds a lock around each call."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._records: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def put(self, record: Record) -> bool:
        """Add the record at the end; return False when there is no room for it."""
        if len(self._records) >= self._capacity:
            return False
        self._records.append(record)
        return True

    def first(self) -> Record | None:
        """Return the record that waits longest, without removing it."""
        return self._records[0] if self._records else None

    def remove_first(self) -> None:
        """Remove the record that `first` returned."""
        self._records.popleft()

    def clear(self) -> int:
        """Remove all records; return how many there were."""
        removed = len(self._records)
        self._records.clear()
        return removed
