"""How far one partition of `usage.spend` was read, and how far in event time its source partitions are."""

import msgspec

__all__ = ["POSITION_KEY", "Progress"]

POSITION_KEY = b"#position"
"""Key of the changelog record that holds it; no scope begins with #."""


class _Record(msgspec.Struct):
    position: int
    watermarks: dict[int, int] = {}
    event_time: int = 0


_decode = msgspec.json.Decoder(int | _Record).decode  # an older meter wrote the bare position
_encode = msgspec.json.Encoder().encode


class Progress:
    """It only grows: any order of records and watermarks gives the same."""

    def __init__(self, partitions: int, position: int | None = None) -> None:
        """`partitions` is the number of source partitions."""
        self._partitions = partitions
        self._watermarks: dict[int, int] = {}
        self.position = position
        """The next offset of `usage.spend`; None before the first record."""
        self.complete_up_to: int | None = None
        """The lowest watermark of all source partitions in Unix milliseconds; None while one is not known."""
        self.event_time = 0
        """The largest event time that any of them has met, in Unix milliseconds; 0 for none."""

    @property
    def closing_time(self) -> int | None:
        """Up to when, in Unix milliseconds of event time, periods may be closed; None while nothing is known.

        Partitions at rest say that they are complete up to the present. An old trace that is replayed is no less on
        time for that: no period closes by more than events have come.
        """
        return None if self.complete_up_to is None else min(self.complete_up_to, self.event_time)

    def advance(self, source_partition: int, complete_up_to: int, event_time: int = 0) -> None:
        """Take in a watermark, and the largest event time met, in Unix milliseconds."""
        self.event_time = max(self.event_time, event_time)
        known = self._watermarks.get(source_partition)
        if known is not None and complete_up_to <= known:
            return
        self._watermarks[source_partition] = complete_up_to
        if all(partition in self._watermarks for partition in range(self._partitions)):
            self.complete_up_to = min(self._watermarks.values())

    def merge(self, value: bytes) -> bool:
        """Take in a record of the changelog; raises msgspec.MsgspecError for what is none.

        Returns whether it is as new as any before it.
        """
        record = _decode(value)
        if isinstance(record, int):
            record = _Record(record)
        is_new: bool = record.position >= (self.position or 0)
        self.position = max(self.position or 0, record.position)
        for source_partition, complete_up_to in record.watermarks.items():
            self.advance(source_partition, complete_up_to, record.event_time)
        return is_new

    def record(self) -> bytes:
        """Return everything, for the changelog; there must be a position."""
        assert self.position is not None
        return _encode(_Record(self.position, self._watermarks, self.event_time))
