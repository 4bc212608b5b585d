"""Which event ids one partition of the events topic has held: the memory behind "counts once"."""

from collections.abc import Iterable

__all__ = ["SeenIds"]

_DAY_MS = 86_400_000


class SeenIds:
    """The event ids of one partition and the offset of each one's first record.

    It remembers `window_days` by the time the record was produced; ids of older days are dropped whole. About
    200 bytes an id.
    """

    def __init__(self, window_days: int) -> None:
        self._window_days = window_days
        self._days: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._days.values()))

    def first_offset(self, event_id: str, offset: int, timestamp: int) -> int:
        """Return the offset of the id's first record, which is `offset` when the id is new; remember it.

        `timestamp` is when the record was produced, in Unix milliseconds.
        """
        day = timestamp // _DAY_MS
        today = self._days.get(day)
        if today is None:
            today = self._open(day)
        if len(self._days) > 1:
            for other in self._days.values():
                if other is not today and (known := other.get(event_id)) is not None:
                    return known
        return today.setdefault(event_id, offset)

    def remember(self, rows: Iterable[tuple[str, int]], timestamp: int) -> None:
        """Take in (event id, offset) pairs of rows priced earlier, in offset order."""
        for event_id, offset in rows:
            self.first_offset(event_id, offset, timestamp)

    def _open(self, day: int) -> dict[str, int]:
        ids = self._days[day] = {}
        newest = max(self._days)
        for old in [other for other in self._days if other < newest - self._window_days]:
            del self._days[old]
        return self._days.get(day, ids)
