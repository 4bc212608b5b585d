"""What one entity used on one day, and the records of the spend changelog."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from tokentide.schemas import DataLossError
from tokentide.streams.clock import EventClock
from tokentide.streams.partition import entity_key

__all__ = [
    "FENCE_KEY",
    "Day",
    "Fence",
    "Total",
    "add_total",
    "day_key",
    "day_record",
    "empty_total",
    "fence_record",
    "read_fence",
    "readable",
]

FENCE_KEY = b"#fence"
"""Key of the changelog record that says how far the whole partition is applied; no scope begins with #."""

Total = list[int]
"""Requests, input tokens, output tokens, cost in pico-USD, unpriced requests."""


class _DayRecord(msgspec.Struct):
    """What the changelog holds of one entity and day: totals by the hour's start in Unix seconds."""

    fence: int
    hours: dict[str, tuple[int, int, int, str, int]]


class _DayFence(msgspec.Struct):
    """A `_DayRecord` whose hours are not looked at."""

    fence: int


class _FenceRecord(msgspec.Struct):
    """A `Fence`, its clock spread out; meters before it wrote no clock."""

    source: int
    priced: int
    event_time: int = 0
    closed_days: int = 0
    closed_months: int = 0


class Fence(NamedTuple):
    """How far a partition is applied."""

    source: int
    """The last source offset; -1 for none."""
    priced: int
    """The next offset of `usage.priced`."""
    clock: EventClock = EventClock()


_encode = msgspec.json.Encoder().encode
_decode_day = msgspec.json.Decoder(_DayRecord).decode
_decode_day_fence = msgspec.json.Decoder(_DayFence).decode
_decode_fence = msgspec.json.Decoder(_FenceRecord).decode


class Day:
    """One entity and day.

    Its record of the changelog is decoded when somebody asks for the numbers: most days of a large state are never
    touched again, and as bytes they take a fifth of the memory and no time.
    """

    __slots__ = ("_hours", "_total", "fence", "record")

    def __init__(self, record: bytes | None = None) -> None:
        """A day without usage, or that of a record; raises DataLossError for one that no meter writes."""
        self.record = record
        """What the changelog holds; None when something was counted since."""
        self.fence = -1
        """The last source offset counted in."""
        self._hours: dict[int, Total] | None = {}
        self._total = empty_total()
        if record is not None:
            with readable(record):
                self.fence = _decode_day_fence(record).fence
            self._hours = None

    @property
    def hours(self) -> dict[int, Total]:
        """The totals by the hour's start; raises DataLossError as the constructor does."""
        if self._hours is None:
            self._hours = self._decoded()
        return self._hours

    @property
    def total(self) -> Total:
        """The sum of the hours; raises as `hours` does."""
        if self._hours is None:
            self._hours = self._decoded()
        return self._total

    def count(self, hour: int, used: Total, last: int) -> None:
        """Add what was used in an hour; `last` is the last offset that is in it."""
        hours = self.hours if self._hours is None else self._hours
        known = hours.get(hour)
        if known is None:
            known = hours[hour] = empty_total()
        add_total(known, used)
        add_total(self._total, used)
        # Hours come one by one, and the last of them may end before another.
        self.fence = max(self.fence, last)
        self.record = None

    def _decoded(self) -> dict[int, Total]:
        hours: dict[int, Total] = {}
        record = self.record or b""
        with readable(record):
            for hour, (requests, input_tokens, output_tokens, cost, unpriced) in _decode_day(
                record
            ).hours.items():
                hours[int(hour)] = [requests, input_tokens, output_tokens, int(cost), unpriced]
        for total in hours.values():
            add_total(self._total, total)
        return hours


def day_record(
    scope: str, scope_id: str, day: int, fence: int, hours: Mapping[int, Sequence[int]]
) -> tuple[bytes, bytes]:
    """Return key and value of an entity's day; behind each hour's start stand the five numbers of a Total."""
    numbers = {str(hour): (r, i, o, str(cost), u) for hour, (r, i, o, cost, u) in hours.items()}
    return day_key(scope, scope_id, day), _encode(_DayRecord(fence, numbers))


def day_key(scope: str, scope_id: str, day: int) -> bytes:
    """Return the key of an entity's day, which is given by its start in Unix seconds."""
    return f"{entity_key(scope, scope_id)}|{_date(day)}".encode()


def fence_record(fence: Fence) -> tuple[bytes, bytes]:
    """Return key and value of the record that says how far a partition is applied."""
    return FENCE_KEY, _encode(_FenceRecord(fence.source, fence.priced, *fence.clock))


def read_fence(value: bytes) -> Fence:
    """Return what `fence_record` was given; raises DataLossError for what no meter writes."""
    with readable(value):
        record = _decode_fence(value)
        clock = EventClock(record.event_time, record.closed_days, record.closed_months)
        return Fence(record.source, record.priced, clock)


def empty_total() -> Total:
    """Return the total of nothing."""
    return [0, 0, 0, 0, 0]


def add_total(total: Total, more: Total) -> None:
    """Add to a total."""
    for place in range(5):
        total[place] += more[place]


@contextmanager
def readable(value: bytes) -> Iterator[None]:
    """Raise DataLossError for what msgspec cannot read."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataLossError(
            f"the spend changelog holds what no meter of this version writes: {value[:80]!r}: {error}"
        ) from error


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d")
