"""What the changelog of stage `spend` amounts to, read by hand."""

import calendar
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from confluent_kafka import Message
from support.oracle import Closed, Total

__all__ = ["Remembered", "remembered"]

Cell = tuple[int, str, str, str, int]
"""Partition, scope, id, period, and its start in Unix seconds."""


class Remembered(NamedTuple):
    """What is open, and what is closed; both by partition."""

    totals: dict[Cell, Total]
    closed: dict[int, Closed]


def remembered(changelog: Iterable[Message]) -> Remembered:
    """Return the totals of what is open; of one key the record with the highest fence counts, whatever the order."""
    best: dict[tuple[int, str], dict[str, Any]] = {}
    for message in changelog:
        value = message.value()
        if value is None:
            continue
        place, record = (int(message.partition() or 0), (message.key() or b"").decode()), json.loads(value)
        if place not in best or _rank(record) >= _rank(best[place]):
            best[place] = record
    closed = {
        partition: Closed(record["closed_days"], record["closed_months"], record["event_time"])
        for (partition, key), record in best.items()
        if key == "#fence"
    }
    sums: dict[Cell, list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0), 0])
    for (partition, key), record in best.items():
        if key == "#fence":
            continue
        name, _, date = key.rpartition("|")
        month = calendar.timegm((int(date[:4]), int(date[5:7]), 1, 0, 0, 0))
        folded = best.get((partition, f"{name}|{date[:7]}"), {}).get("through", -1)
        for period, start, amounts in _amounts(record, month, folded):
            over = closed[partition]
            if start >= (over.months if period == "month" else over.days):
                scope, _, scope_id = name.partition(":")
                cell = sums[partition, scope, scope_id, period, start]
                requests, input_tokens, output_tokens, pico, unpriced = amounts
                more = (requests, input_tokens, output_tokens, Decimal(pico) / 10**12, unpriced)
                cell[:] = [a + b for a, b in zip(cell, more, strict=True)]
    return Remembered({cell: Total(*amounts) for cell, amounts in sums.items()}, closed)


def _rank(record: dict[str, Any]) -> tuple[int, int]:
    """Return what the highest of wins: of a fence, of a month, of a day."""
    if "source" in record:
        return record["source"], record["priced"]
    return record["fence"], record.get("through", -1)


def _amounts(record: dict[str, Any], month: int, folded: int) -> Iterator[tuple[str, int, Any]]:
    """Yield what a record says: (period, start, amounts); nothing of a day that is folded into its month."""
    if "total" in record:
        yield "month", month, record["total"]
    for hour, amounts in record.get("hours", {}).items():
        moment = datetime.fromtimestamp(int(hour), UTC)
        day = calendar.timegm((moment.year, moment.month, moment.day, 0, 0, 0))
        if day > folded:
            yield from (("hour", int(hour), amounts), ("day", day, amounts), ("month", month, amounts))
