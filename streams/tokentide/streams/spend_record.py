"""The records of `usage.spend`, and the keys of what they rest on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from tokentide.schemas import DataLossError, Period, Scope, period_start
from tokentide.streams.clock import DAY_SECONDS

__all__ = ["day_start", "month_start", "place_of", "spend_total", "update_record", "watermark_record"]

_MONTH_LENGTH = len("2026-11")
_encode = msgspec.json.Encoder().encode


def update_record(
    entity: tuple[str, str],
    source_partition: int,
    version: int,
    totals: Sequence[dict[str, Any]],
    complete_up_to: int | None = None,
    adjustment: str = "",
) -> bytes:
    """Return a SpendUpdate about an entity (scope, id) in JSON; `totals` are of `spend_total`."""
    record = {
        "scope": entity[0],
        "scope_id": entity[1],
        "source_partition": source_partition,
        "version": version,
        "complete_up_to": complete_up_to,
        "totals": totals,
    }
    if adjustment:
        record["adjustment"] = adjustment
    return _encode(record)


def watermark_record(source_partition: int, complete_up_to: int, event_time: int) -> tuple[bytes, bytes]:
    """Return key and value of the SpendUpdate that tells a watermark, in Unix milliseconds.

    `event_time` is the largest one met, 0 for none.
    """
    record = {"source_partition": source_partition, "complete_up_to": complete_up_to}
    if event_time:
        record["event_time"] = event_time
    return b"#watermark|%d" % source_partition, _encode(record)


def spend_total(period: str, start: int, total: Sequence[int]) -> dict[str, Any]:
    """Return a SpendTotal; `total` holds requests, input and output tokens, pico-USD and unpriced requests."""
    requests, input_tokens, output_tokens, cost, unpriced = total
    return {
        "period": period,
        "period_start": start,
        "requests": requests,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_pico_usd": str(cost),
        "unpriced_requests": unpriced,
    }


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
