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

import msgspec
import numpy as np
import pyarrow as pa

from tokentide.schemas import InvalidEventError, Rejected, usd_from_pico
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.streams.clock import EventClock
from tokentide.streams.decode import FIELDS, decode
from tokentide.streams.prices import Catalogue, Counts, Price, PriceContext
from tokentide.streams.seen import SeenIds

__all__ = ["Priced", "price_chunk"]

_counts_of = operator.attrgetter(*Counts._fields)

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
    prices = [_price(event, catalogue) for event in events]
    rows = _rows(events, prices, catalogue.version, chunk.partition, offsets, now, clock)
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


def _price(event: Any, catalogue: Catalogue) -> Price:
    return catalogue.price(
        event.provider,
        event.model,
        event.timestamp,
        PriceContext(event.processing, event.service_tier or "", event.speed or ""),
        Counts._make(_counts_of(event)),
        event.requests,
    )


def _rows(
    events: Sequence[Any],
    prices: Sequence[Price],
    price_version: str,
    partition: int,
    offsets: Sequence[int],
    now: datetime,
    clock: EventClock,
) -> pa.RecordBatch:
    size = len(events)
    if not size:
        return pa.RecordBatch.from_pylist([], schema=PRICED_SCHEMA)
    columns = dict(zip(FIELDS, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True))
    columns["tags"] = tuple([tuple(tags.items()) for tags in columns["tags"]])
    columns["metadata"] = tuple([bytes(raw).decode() for raw in columns["metadata"]])
    arrays = {name: pa.array(values, PRICED_SCHEMA.field(name).type) for name, values in columns.items()}
    price: Any = Price(*zip(*prices, strict=True))  # type: ignore[arg-type]  # columns of Price
    arrays |= {
        "source_partition": pa.array(np.full(size, partition)),
        "source_offset": pa.array(offsets, pa.int64()),
        "list_cost_usd": _usd(price.total),
        "cost_usd": _usd(price.total),
        "input_cost_usd": _usd(price.input),
        "cache_cost_usd": _usd(price.cache),
        "output_cost_usd": _usd(price.output),
        "tool_cost_usd": _usd(price.tool),
        "price_status": pa.array(price.status, pa.string()),
        "price_source": pa.array(price.source, pa.string()),
        "priced_model": pa.array(price.model, pa.string()),
    }
    seconds = arrays["timestamp"].cast(pa.int64()).to_numpy() // 1_000_000
    arrays["late"] = pa.array(
        (seconds < clock.closed_days).astype(np.int64) + (seconds < clock.closed_months)
    )
    money = pa.decimal128(38, 12)
    for name, rates in (
        ("input_price_per_mtok", price.input_per_mtok),
        ("output_price_per_mtok", price.output_per_mtok),
        ("cached_price_per_mtok", price.cached_per_mtok),
    ):
        arrays[name] = _few(rates, money)
    constants: dict[str, Any] = {
        "discount_pct": pa.scalar(Decimal(0), money),
        "currency": pa.scalar("USD"),
        "price_version": pa.scalar(price_version),
        "priced_at": pa.scalar(now, pa.timestamp("us", tz="UTC")),
    }
    arrays |= {name: pa.repeat(value, size) for name, value in constants.items()}
    return pa.RecordBatch.from_arrays([arrays[name] for name in PRICED_SCHEMA.names], schema=PRICED_SCHEMA)


def _few(values: Sequence[Any], kind: pa.DataType) -> Any:
    """Return an array of objects that are few and occur often: each is converted once."""
    few = {id(value): value for value in values}
    places = {name: place for place, name in enumerate(few)}
    return pa.array(list(few.values()), kind).take(pa.array([places[id(value)] for value in values]))


def _usd(picos: Sequence[int | None]) -> Any:
    """Return whole pico-USD as decimal128(38, 12) USD: the same integers under another name."""
    try:
        integers: Any = pa.array(picos, pa.int64())
    except OverflowError:
        return _wide_usd(picos)
    wide = np.zeros((len(integers), 2), dtype=np.int64)
    wide[:, 0] = integers.fill_null(0).to_numpy()
    wide[:, 1] = wide[:, 0] >> 63
    validity = integers.buffers()[0]
    return pa.Array.from_buffers(
        pa.decimal128(38, 12), len(integers), [validity, pa.py_buffer(wide.tobytes())], integers.null_count
    )


def _wide_usd(picos: Sequence[int | None]) -> Any:
    """Do the same, slower, where a cost is above 9.2 million dollars."""
    amounts = [None if pico is None else usd_from_pico(pico) for pico in picos]
    return pa.array(amounts, pa.decimal128(38, 12))
