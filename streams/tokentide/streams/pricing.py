"""Validate, dedupe, price: what the agent `pricing` does to one chunk, as a function of values."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from tokentide.schemas import InvalidEventError, Rejected
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.streams.decode import FIELDS, decode
from tokentide.streams.prices import CATALOGUE_VERSION, Catalogue, Counts, Price, PriceContext
from tokentide.streams.seen import SeenIds

__all__ = ["Priced", "price_chunk"]

_columns_of = operator.attrgetter(*FIELDS)
_counts_of = operator.attrgetter(
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "web_searches",
)
# Counts that are rare and not always linear, by the catalogue's name.
_OTHER_COUNTS = (
    "input_audio_tokens",
    "output_audio_tokens",
    "cache_audio_read_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "audio_seconds",
    "input_characters",
)
_others_of = operator.attrgetter(*_OTHER_COUNTS)
_NOTHING: dict[str, int | Decimal] = {}


@dataclass(frozen=True, slots=True)
class Priced:
    """What became of a chunk: rows with PRICED_SCHEMA, refusals, and how many records were duplicates."""

    rows: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    duplicates: int


def price_chunk(
    chunk: Chunk, seen: SeenIds, catalogue: Catalogue, now: datetime, max_future_seconds: int
) -> Priced:
    """Return what becomes of the records of a chunk; `seen` is told of their ids.

    The first record of an id counts. A record seen before at the same offset is a replay after a crash and
    is returned again. An event that lies further in the future of its own record than allowed is refused.
    """
    events: list[Any] = []
    offsets: list[int] = []
    rejected: list[Rejected] = []
    for record in chunk.records:
        try:
            event = decode(record.value)
            _check_future(event.timestamp, record.timestamp, max_future_seconds)
        except InvalidEventError as error:
            rejected.append(_reject(chunk, record, str(error)))
            continue
        if seen.first_offset(event.event_id, record.offset, record.timestamp) == record.offset:
            events.append(event)
            offsets.append(record.offset)
    prices = [_price(event, catalogue) for event in events]
    rows = _rows(events, prices, chunk.partition, offsets, now)
    return Priced(rows, tuple(rejected), len(chunk.records) - len(events) - len(rejected))


def _check_future(event_time: datetime, record_ms: int, max_future_seconds: int) -> None:
    ahead = event_time.timestamp() - record_ms / 1000
    if ahead > max_future_seconds:
        raise InvalidEventError(
            f"timestamp: {event_time.isoformat()} is {ahead:.0f} seconds after its record was produced; "
            f"at most {max_future_seconds} are allowed, correct the producer's clock"
        )


def _reject(chunk: Chunk, record: Record, reason: str) -> Rejected:
    return Rejected.model_construct(
        schema_version=1,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=record.offset,
        timestamp=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        reason=reason[:2048],
        key=record.key,
        value=record.value,
    )


def _price(event: Any, catalogue: Catalogue) -> Price:
    others = _others_of(event)
    other = dict(zip(_OTHER_COUNTS, others, strict=True)) if any(others) else _NOTHING
    return catalogue.price(
        event.provider,
        event.model,
        event.timestamp,
        PriceContext(event.processing, event.service_tier or "", event.speed or ""),
        Counts._make((*_counts_of(event), {name: value for name, value in other.items() if value})),
    )


def _rows(
    events: Sequence[Any], prices: Sequence[Price], partition: int, offsets: Sequence[int], now: datetime
) -> pa.RecordBatch:
    size = len(events)
    if not size:
        return pa.RecordBatch.from_pylist([], schema=PRICED_SCHEMA)
    columns = dict(zip(FIELDS, zip(*map(_columns_of, events), strict=True), strict=True))
    columns["tags"] = tuple(tuple(tags.items()) for tags in columns["tags"])
    columns["metadata"] = tuple(bytes(raw).decode() for raw in columns["metadata"])
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
    money = pa.decimal128(38, 12)
    for name, values in (
        ("input_price_per_mtok", price.input_per_mtok),
        ("output_price_per_mtok", price.output_per_mtok),
        ("cached_price_per_mtok", price.cached_per_mtok),
    ):
        arrays[name] = pa.array(values, money)
    constants: dict[str, Any] = {
        "discount_pct": pa.scalar(Decimal(0), money),
        "currency": pa.scalar("USD"),
        "price_version": pa.scalar(CATALOGUE_VERSION),
        "priced_at": pa.scalar(now, pa.timestamp("us", tz="UTC")),
    }
    arrays |= {name: pa.repeat(value, size) for name, value in constants.items()}
    return pa.RecordBatch.from_arrays([arrays[name] for name in PRICED_SCHEMA.names], schema=PRICED_SCHEMA)


def _usd(picos: Any) -> Any:
    """Return whole pico-USD as decimal128(38, 12) USD: the same integers under another name."""
    integers = pa.array(picos, pa.int64())
    wide = np.zeros((len(integers), 2), dtype=np.int64)
    wide[:, 0] = integers.fill_null(0).to_numpy()
    wide[:, 1] = wide[:, 0] >> 63
    validity = integers.buffers()[0]
    return pa.Array.from_buffers(
        pa.decimal128(38, 12), len(integers), [validity, pa.py_buffer(wide.tobytes())], integers.null_count
    )
