"""The records of `usage.priced`, which are chunks of priced rows, as rows of `usage_events`."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tokentide.schemas.columns import read_chunk, write_chunk
from tokentide.sinks.landing import Landing, Record, place_columns

__all__ = ["LOW_CARDINALITY", "USAGE"]

LOW_CARDINALITY = frozenset(
    {
        *("team_id", "org_id", "subscription_tier", "service", "environment", "operation", "agent_name"),
        *("api_operation", "provider", "model", "request_model", "model_version", "system_fingerprint"),
        *("service_tier", "speed", "region", "finish_reason", "processing", "image_size", "image_quality"),
        *("status", "error_type", "sdk_name", "sdk_version", "source", "currency"),
        *("price_status", "price_source", "price_version", "priced_model"),
    }
)
"""The columns that are LowCardinality in `usage_events`: ClickHouse takes them faster as dictionaries."""

_PLACES = ("priced_partition", "priced_offset", "version")


def _read(record: Record) -> pa.Table:
    """The rows of one chunk, with its place in `usage.priced`.

    A column that the table does not have stays in: ClickHouse then refuses the insert, which loses nothing.
    """
    chunk = read_chunk(record.value)
    places = place_columns(np.full(chunk.num_rows, record.partition), np.full(chunk.num_rows, record.offset))
    for name, column in zip(_PLACES, places, strict=True):
        chunk = chunk.append_column(name, column)
    return chunk


def _rows(chunks: Sequence[pa.Table]) -> pa.Table:
    """One table of all chunks; what an older meter did not write is null there: ClickHouse's default."""
    table = pa.concat_tables(chunks, promote_options="default")
    columns = [
        table.column(name).dictionary_encode() if name in LOW_CARDINALITY else table.column(name)
        for name in table.column_names
    ]
    return pa.table(columns, names=table.column_names).combine_chunks()


def _single(chunk: pa.Table, index: int) -> tuple[int, bytes]:
    """One row, named by the offset of its event: chunk borders differ in a replay, that does not."""
    (row,) = chunk.drop_columns(list(_PLACES)).slice(index, 1).combine_chunks().to_batches()
    return row.column("source_offset")[0].as_py(), write_chunk(row)


USAGE: Landing[pa.Table] = Landing("usage_events", _read, lambda chunk: chunk.num_rows, _rows, _single)
"""How `usage.priced` lands."""
