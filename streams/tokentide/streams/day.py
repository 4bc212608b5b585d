"""What one entity used on one day, and the records of the spend changelog."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import starmap
from typing import NamedTuple

import msgspec

from tokentide.schemas import DataLossError
from tokentide.streams.clock import EventClock
from tokentide.streams.partition import entity_key
from tokentide.streams.total import Total

__all__ = [
    "FENCE_KEY",
    "Day",
    "Fence",
    "day_key",
    "day_record",
    "fence_record",
    "read_fence",
    "readable",
]

FENCE_KEY = b"#fence"
"""Key of the changelog record that says how far the whole partition is applied; no scope begins with #."""


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


class Day(msgspec.Struct, gc=False):
    """One entity and day.

    Its record of the changelog is decoded when somebody asks for the numbers: most days of a large state are never
    touched again, and as bytes they take a fifth of the memory and no time. The garbage collector leaves it alone, as
    it does what it holds.
    """

    fence: int = -1
    """The last source offset counted in."""
    _record: bytes | None = None
    """What the changelog holds; None when something was counted since."""
    _hours: dict[int, Total] | None = {}
    _total: Total = msgspec.field(default_factory=Total)
    _latest: int = -1
    """The hour that was counted last: all others stand in `_settled` as the changelog has them, or that is None."""
    _settled: bytes | None = b""

    @classmethod
    def read(cls, record: bytes) -> "Day":
        """Return the day of a record; raises DataLossError for one that no meter writes."""
        with readable(record):
            return cls(_decode_day_fence(record).fence, record, None, Total(), -1, None)

    @property
    def hours(self) -> dict[int, Total]:
        """The totals by the hour's start; raises DataLossError as `read` does."""
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
            hours[hour] = used.copy()
        else:
            known.add(used)
        self._total.add(used)
        if hour != self._latest:
            self._latest = hour
            self._settled = b"" if len(hours) == 1 else None
        # Hours come one by one, and the last of them may end before another.
        if last > self.fence:
            self.fence = last
        self._record = None

    def record(self) -> bytes:
        """Return everything, for the changelog."""
        if self._record is not None:
            return self._record
        hours = self.hours
        if self._settled is None:
            settled = [_hour(hour, total) for hour, total in hours.items() if hour != self._latest]
            self._settled = b"".join(text + b"," for text in settled)
        return _day(self.fence, self._settled + _hour(self._latest, hours[self._latest]))

    def _decoded(self) -> dict[int, Total]:
        hours: dict[int, Total] = {}
        record = self._record or b""
        with readable(record):
            for hour, (requests, input_tokens, output_tokens, cost, unpriced) in _decode_day(
                record
            ).hours.items():
                hours[int(hour)] = Total(requests, input_tokens, output_tokens, int(cost), unpriced)
        for total in hours.values():
            self._total.add(total)
        return hours


def day_record(
    scope: str, scope_id: str, day: int, fence: int, hours: Mapping[int, Total]
) -> tuple[bytes, bytes]:
    """Return key and value of an entity's day, from the totals by the hour's start."""
    return day_key(scope, scope_id, day), _day(fence, b",".join(starmap(_hour, hours.items())))


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


@contextmanager
def readable(value: bytes) -> Iterator[None]:
    """Raise DataLossError for what msgspec cannot read."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataLossError(
            f"the spend changelog holds what no meter of this version writes: {value[:80]!r}: {error}"
        ) from error


def _day(fence: int, hours: bytes) -> bytes:
    """Return a `_DayRecord` in JSON: by hand, for that takes a third of the time, and numbers need no escapes."""
    return b'{"fence":%d,"hours":{%b}}' % (fence, hours)


def _hour(hour: int, total: Total) -> bytes:
    return b'"%d":[%d,%d,%d,"%d",%d]' % (
        hour,
        total.requests,
        total.input_tokens,
        total.output_tokens,
        total.cost_pico_usd,
        total.unpriced_requests,
    )


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d")
