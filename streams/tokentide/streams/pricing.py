"""Validate, dedupe, price: what the agent `pricing` does to one chunk, as a function of values."""

import gc
import itertools
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from tokentide.schemas import InvalidEventError, Rejected
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.streams.clock import EventClock
from tokentide.streams.column_prices import price_columns
from tokentide.streams.decode import decode
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.prices import Catalogue
from tokentide.streams.seen import SeenIds

__all__ = ["Priced", "price_chunk"]

_NOTHING_CLOSED = EventClock()
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


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Stop the cyclic collector: a chunk makes no cycles, and the search takes a quarter of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_garbage_kept()
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
    accepted: list[Any] = []
    offsets: list[int] = []
    produced: list[int] = []
    now_ms = int(now.timestamp() * 1000)
    rejected: list[Rejected] = []
    for record in chunk.records:
        try:
            event = decode(record.value)
            _check_future(event.timestamp, record.timestamp, max_future_seconds)
        except InvalidEventError as error:
            rejected.append(_reject(chunk, record, str(error)))
            continue
        accepted.append(event)
        offsets.append(record.offset)
        # A producer's clock that runs ahead must not make the ids of today look old.
        produced.append(min(record.timestamp, now_ms))
    firsts = seen.first_offsets([event.event_id for event in accepted], offsets, produced)
    are_new = list(map(operator.eq, firsts, offsets))
    events = list(itertools.compress(accepted, are_new))
    offsets = list(itertools.compress(offsets, are_new))
    rows = _rows(events, catalogue, chunk.partition, offsets, now, clock)
    newest = max((event.timestamp for event in events), default=_EPOCH)
    return Priced(
        rows,
        tuple(rejected),
        len(chunk.records) - len(events) - len(rejected),
        (newest - _EPOCH) // timedelta(milliseconds=1),
    )


def _check_future(event_time: datetime, record_ms: int, max_future_seconds: int) -> None:
    # Floats are exact to a quarter of a microsecond; near the limit whole ones decide, as in the audit.
    if event_time.timestamp() - record_ms / 1000 < max_future_seconds - 1:
        return
    ahead = (event_time - _EPOCH) // timedelta(microseconds=1) - record_ms * 1000
    if ahead > max_future_seconds * 1_000_000:
        raise InvalidEventError(
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
    events: Sequence[Any],
    catalogue: Catalogue,
    partition: int,
    offsets: Sequence[int],
    now: datetime,
    clock: EventClock,
) -> pa.RecordBatch:
    size = len(events)
    if not size:
        return pa.RecordBatch.from_pylist([], schema=PRICED_SCHEMA)
    columns = EventColumns(events)
    seconds = columns.microseconds() // 1_000_000
    late = (seconds < clock.closed_days).astype(np.int64) + (seconds < clock.closed_months)
    arrays = columns.arrays | price_columns(columns, catalogue)
    arrays |= {"source_offset": pa.array(offsets, pa.int64()), "late": pa.array(late)}
    constants: dict[str, Any] = {
        "source_partition": pa.scalar(partition, pa.int64()),
        "discount_pct": pa.scalar(Decimal(0), pa.decimal128(38, 12)),
        "currency": pa.scalar("USD"),
        "price_version": pa.scalar(catalogue.version),
        "priced_at": pa.scalar(now, pa.timestamp("us", tz="UTC")),
    }
    arrays |= {name: pa.repeat(value, size) for name, value in constants.items()}
    return pa.RecordBatch.from_arrays([arrays[name] for name in PRICED_SCHEMA.names], schema=PRICED_SCHEMA)
