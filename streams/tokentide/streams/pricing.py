"""Validate, dedupe, price: what the agent `pricing` does to one chunk, as a function of values."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from tokentide.schemas import Rejected
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.schemas.usage_struct import FIELDS
from tokentide.streams.clock import EventClock
from tokentide.streams.column_prices import price_columns
from tokentide.streams.decode import decode
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.prices import Catalogue
from tokentide.streams.seen import SeenIds

__all__ = ["Priced", "price_chunk"]

_NOTHING_CLOSED = EventClock()
# Beyond any time of an event, and its microseconds fit into 64 bits.
_FAR_MS = 10**15
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Priced:
    """What became of a chunk: rows with PRICED_SCHEMA, refusals, and how many records were duplicates."""

    rows: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    duplicates: int
    newest: int
    """The largest event time of the rows, in Unix milliseconds; 0 without rows."""


def price_chunk(
    chunk: Chunk,
    seen: SeenIds,
    catalogue: Catalogue,
    now: datetime,
    max_future_seconds: int,
    clock: EventClock = _NOTHING_CLOSED,
) -> Priced:
    """Return what becomes of the records of a chunk; `seen` is told of their ids.

    The first record of an id counts. A record seen before at the same offset is a replay after a crash and
    is returned again. An event that lies further in the future of its own record than allowed is refused. `clock`
    says what was closed when the chunk came: rows of that are marked late.
    """
    records = chunk.records
    events, places, refused = decode([record.value for record in records])
    produced = np.array([records[place].timestamp for place in places], np.int64)
    ahead = events.microseconds - np.clip(produced, -_FAR_MS, _FAR_MS) * 1000
    is_timely = ahead <= max_future_seconds * 1_000_000
    for row in np.flatnonzero(~is_timely).tolist():
        refused[places[row]] = _too_far_ahead(events.moment(row), records[places[row]], max_future_seconds)
    events = events.kept(is_timely)
    offsets = np.array([records[place].offset for place in places], np.int64)[is_timely]
    # A producer's clock that runs ahead must not make the ids of today look old.
    known_at = np.minimum(produced[is_timely], int(now.timestamp() * 1000))
    firsts = seen.first_offsets(events.values("event_id"), offsets.tolist(), known_at.tolist())
    is_new = np.array(firsts, np.int64) == offsets
    events = events.kept(is_new)
    rows = _rows(events, catalogue, chunk.partition, offsets[is_new], now, clock)
    rejected = tuple(_reject(chunk, records[place], refused[place]) for place in sorted(refused))
    newest = int(events.microseconds.max(initial=0)) // 1000
    return Priced(rows, rejected, len(records) - len(events) - len(rejected), newest)


def _too_far_ahead(event_time: datetime, record: Record, max_future_seconds: int) -> str:
    ahead = (event_time - _EPOCH) // timedelta(microseconds=1) - record.timestamp * 1000
    return (
        f"timestamp: {event_time.isoformat()} is {ahead // 1_000_000} seconds after its record was "
        f"produced; at most {max_future_seconds} are allowed, correct the producer's clock"
    )


def _reject(chunk: Chunk, record: Record, reason: str) -> Rejected:
    return Rejected.model_construct(
        schema_version=1,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=record.offset,
        timestamp=_moment(record.timestamp),
        reason=reason[:2048],
        key=record.key,
        value=record.value,
    )


def _moment(milliseconds: int) -> datetime:
    """Return the time of a record; what no calendar holds becomes its nearest end."""
    return _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MS))


def _rows(
    events: EventColumns,
    catalogue: Catalogue,
    partition: int,
    offsets: Any,
    now: datetime,
    clock: EventClock,
) -> pa.RecordBatch:
    size = len(events)
    if not size:
        return pa.RecordBatch.from_pylist([], schema=PRICED_SCHEMA)
    arrays = {name: events.array(name) for name in FIELDS} | price_columns(events, catalogue)
    seconds = events.microseconds // 1_000_000
    arrays |= {
        "source_offset": pa.array(offsets),
        "late": pa.array((seconds < clock.closed_days).astype(np.int64) + (seconds < clock.closed_months)),
    }
    constants: dict[str, Any] = {
        "source_partition": pa.scalar(partition, pa.int64()),
        "discount_pct": pa.scalar(Decimal(0), pa.decimal128(38, 12)),
        "currency": pa.scalar("USD"),
        "price_version": pa.scalar(catalogue.version),
        "priced_at": pa.scalar(now, pa.timestamp("us", tz="UTC")),
    }
    arrays |= {name: pa.repeat(value, size) for name, value in constants.items()}
    return pa.RecordBatch.from_arrays([arrays[name] for name in PRICED_SCHEMA.names], schema=PRICED_SCHEMA)
