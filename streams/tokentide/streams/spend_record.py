"""The records of `usage.spend`, and the keys of what they rest on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from tokentide.schemas import DataLossError, Period, Scope, period_start
from tokentide.streams.clock import DAY_SECONDS
from tokentide.streams.total import Total

__all__ = [
    "TotalRecord",
    "day_start",
    "month_start",
    "place_of",
    "spend_total",
    "update_record",
    "watermark_record",
]

_MONTH_LENGTH = len("2026-11")
_encode = msgspec.json.Encoder().encode


class TotalRecord(msgspec.Struct, gc=False):
    """A SpendTotal, to be encoded: money is a string in JSON."""

    period: str
    period_start: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost_pico_usd: str
    unpriced_requests: int


class _Update(msgspec.Struct, gc=False):
    """A SpendUpdate, to be encoded; without an adjustment it says nothing of it."""

    scope: str
    scope_id: str
    source_partition: int
    version: int
    complete_up_to: int | None
    totals: Sequence[TotalRecord]
    adjustment: str | msgspec.UnsetType = msgspec.UNSET


def update_record(
    entity: tuple[str, str],
    source_partition: int,
    version: int,
    totals: Sequence[TotalRecord],
    complete_up_to: int | None = None,
    adjustment: str = "",
) -> bytes:
    """Return a SpendUpdate about an entity (scope, id) in JSON; `totals` are of `spend_total`."""
    return _encode(
        _Update(*entity, source_partition, version, complete_up_to, totals, adjustment or msgspec.UNSET)
    )


def watermark_record(source_partition: int, complete_up_to: int, event_time: int) -> tuple[bytes, bytes]:
    """Return key and value of the SpendUpdate that tells a watermark, in Unix milliseconds.

    `event_time` is the largest one met, 0 for none.
    """
    record = {"source_partition": source_partition, "complete_up_to": complete_up_to}
    if event_time:
        record["event_time"] = event_time
    return b"#watermark|%d" % source_partition, _encode(record)


def spend_total(period: str, start: int, total: Total) -> TotalRecord:
    """Return what was used in one period."""
    return TotalRecord(
        period,
        start,
        total.requests,
        total.input_tokens,
        total.output_tokens,
        str(total.cost_pico_usd),
        total.unpriced_requests,
    )


def day_start(second: int) -> int:
    """Return the start of the UTC day of a Unix second."""
    return second - second % DAY_SECONDS


def month_start(second: int) -> int:
    """Return the start of the UTC month of a Unix second."""
    return _month_of_day(day_start(second))


@lru_cache(maxsize=4096)
def _month_of_day(day: int) -> int:
    return period_start(Period.MONTH, day)


def place_of(key: bytes) -> tuple[tuple[str, str, int], bool]:
    """Read `scope:scope_id|YYYY-MM-DD` of the changelog, or `...|YYYY-MM`, and return whether it is a month's.

    A scope_id may hold both separators. Raises DataLossError for a key that no meter writes.
    """
    try:
        name, _, date = key.decode().rpartition("|")
        scope, _, scope_id = name.partition(":")
        return (Scope(scope).value, scope_id, _seconds(date)), len(date) == _MONTH_LENGTH
    except ValueError as error:
        raise DataLossError(
            f"the spend changelog holds a record that no meter of this version writes: key {key!r}: {error}"
        ) from error


@lru_cache(maxsize=4096)
def _seconds(date: str) -> int:
    form = "%Y-%m" if len(date) == _MONTH_LENGTH else "%Y-%m-%d"
    return int(datetime.strptime(date, form).replace(tzinfo=UTC).timestamp())
