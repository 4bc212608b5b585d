"""The records of `usage.rejected` as rows of `rejected_events`."""

from collections.abc import Sequence

import pyarrow as pa

from tokentide.schemas import Rejected
from tokentide.sinks.landing import Landing, Record, place_columns

__all__ = ["REJECTED"]

_COLUMNS: dict[str, tuple[str, pa.DataType]] = {
    "schema_version": ("schema_version", pa.uint8()),
    "source_topic": ("topic", pa.string()),
    "source_partition": ("partition", pa.uint32()),
    "source_offset": ("offset", pa.uint64()),
    "timestamp": ("timestamp", pa.timestamp("us", tz="UTC")),
    "reason": ("reason", pa.string()),
    "key": ("key", pa.binary()),
    "value": ("value", pa.binary()),
}


def _read(record: Record) -> tuple[Record, Rejected]:
    return record, Rejected.model_validate_json(record.value)


def _rows(rejects: Sequence[tuple[Record, Rejected]]) -> pa.Table:
    columns = {
        name: pa.array([getattr(reject, field) for _, reject in rejects], kind)
        for name, (field, kind) in _COLUMNS.items()
    }
    columns["source_row"] = pa.array([reject.row or 0 for _, reject in rejects], pa.uint64())
    columns["kafka_partition"], columns["kafka_offset"], columns["version"] = place_columns(
        [record.partition for record, _ in rejects], [record.offset for record, _ in rejects]
    )
    return pa.table(columns)


REJECTED: Landing[tuple[Record, Rejected]] = Landing("rejected_events", _read, lambda _: 1, _rows)
"""How `usage.rejected` lands. It has no `single`: a refused rejection would be rejected, and that one again."""
