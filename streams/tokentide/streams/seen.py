"""Which event ids one partition of the events topic has held: the memory behind "counts once"."""

from collections.abc import Iterable

__all__ = ["SeenIds"]

_DAY_MS = 86_400_000


class SeenIds:
    """The event ids of one partition and the offset of each one's first record.

    It remembers `window_days` by the time the record was produced; ids of older days are dropped whole. Time only
    goes forward here: a record that says it is older than the newest one is remembered like the newest one. About
    200 bytes an id.
    """

    def __init__(self, window_days: int) -> None:
        self._window_days = window_days
        self._newest = -1
        self._today: dict[str, int] = {}
        self._earlier: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._today) + sum(map(len, self._earlier.values()))

    def first_offset(self, event_id: str, offset: int, timestamp: int) -> int:
        """Return the offset of the id's first record, which is `offset` when the id is new; remember it.

        `timestamp` is when the record was produced, in Unix milliseconds.
        """
        if timestamp // _DAY_MS > self._newest:
            self._open(timestamp // _DAY_MS)
        for ids in self._earlier.values():
            if (known := ids.get(event_id)) is not None:
                return known
        return self._today.setdefault(event_id, offset)

    def remember(self, rows: Iterable[tuple[str, int]], timestamp: int) -> None:
        """Take in (event id, offset) pairs of rows priced earlier, in offset order."""
        for event_id, offset in rows:
            self.first_offset(event_id, offset, timestamp)

    def _open(self, day: int) -> None:
        if self._today:
            self._earlier[self._newest] = self._today
        for old in [other for other in self._earlier if other < day - self._window_days]:
            del self._earlier[old]
        self._newest, self._today = day, {}
