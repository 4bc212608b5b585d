"""The records of `usage.alerts` as rows of `alert_events`."""

from collections.abc import Sequence

import pyarrow as pa

from tokentide.schemas import Alert
from tokentide.sinks.landing import Landing, Record, place_columns

__all__ = ["ALERTS"]

_USD = pa.decimal128(38, 12)
_MOMENT = pa.timestamp("us", tz="UTC")

_COLUMNS: dict[str, tuple[str, pa.DataType]] = {
    "schema_version": ("schema_version", pa.uint8()),
    "alert_id": ("alert_id", pa.string()),
    "timestamp": ("timestamp", _MOMENT),
    "kind": ("kind", pa.string()),
    "level": ("level", pa.string()),
    "scope": ("scope", pa.string()),
    "scope_id": ("scope_id", pa.string()),
    "period": ("period", pa.string()),
    "period_start": ("period_start", _MOMENT),
    "period_end": ("period_end", _MOMENT),
    "budget_id": ("budget_id", pa.string()),
    "budget_revision": ("budget_revision", pa.uint64()),
    "threshold_pct": ("threshold_pct", pa.uint32()),
    "unit": ("unit", pa.string()),
    "budget_limit": ("limit", _USD),  # LIMIT is a word of SQL
    "used": ("used", _USD),
    "requests": ("requests", pa.uint64()),
    "message": ("message", pa.string()),
    "complete_up_to": ("complete_up_to", _MOMENT),
}


def _read(record: Record) -> tuple[Record, Alert]:
    return record, Alert.model_validate_json(record.value)


def _rows(alerts: Sequence[tuple[Record, Alert]]) -> pa.Table:
    columns = {
        name: pa.array([getattr(alert, field) for _, alert in alerts], kind)
        for name, (field, kind) in _COLUMNS.items()
    }
    columns["kafka_partition"], columns["kafka_offset"], columns["version"] = place_columns(
        [record.partition for record, _ in alerts], [record.offset for record, _ in alerts]
    )
    return pa.table(columns)


def _single(content: tuple[Record, Alert], index: int) -> tuple[int, bytes]:
    return index, content[1].model_dump_json().encode()


ALERTS: Landing[tuple[Record, Alert]] = Landing("alert_events", _read, lambda _: 1, _rows, _single)
"""How `usage.alerts` lands."""
