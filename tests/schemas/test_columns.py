"""The Arrow form of priced rows."""

import pyarrow as pa
import pytest

from tokentide.schemas import PricedUsage
from tokentide.schemas.columns import PRICED_SCHEMA, read_chunk, write_chunk

WHOLE = write_chunk(pa.RecordBatch.from_pylist([], schema=PRICED_SCHEMA))


def test_there_is_a_column_for_every_field_of_a_priced_event() -> None:
    assert PRICED_SCHEMA.names == list(PricedUsage.model_fields)


def test_money_is_never_a_float_and_moments_know_their_zone() -> None:
    kinds = {field.name: field.type for field in PRICED_SCHEMA}

    money = {
        name for name in kinds if name.endswith(("_usd", "_per_mtok", "_pct")) or name == "audio_seconds"
    }
    assert {kinds[name] for name in money} == {pa.decimal128(38, 12)}
    assert {name for name, kind in kinds.items() if pa.types.is_floating(kind)} == {
        "latency_ms",
        "ttft_ms",
        "complexity_score",
    }
    assert kinds["timestamp"] == pa.timestamp("us", tz="UTC")


def test_only_what_may_be_unknown_may_be_null() -> None:
    nullable = {field.name for field in PRICED_SCHEMA if field.nullable}

    assert {"event_id", "provider", "model", "tags", "metadata", "source_offset"}.isdisjoint(nullable)
    assert {"user_id", "cost_usd", "latency_ms"} <= nullable


def test_chosen_columns_are_read_alone() -> None:
    assert read_chunk(WHOLE, ["event_id", "cost_usd"]).schema.names == ["event_id", "cost_usd"]


@pytest.mark.parametrize(
    "value",
    [b"", b"not arrow", b"\xff" * 100, WHOLE[:-20], WHOLE[: len(WHOLE) // 2]],
    ids=["nothing", "text", "bytes", "the end is missing", "half"],
)
def test_other_bytes_are_refused(value: bytes) -> None:
    with pytest.raises(pa.ArrowInvalid):
        read_chunk(value)
