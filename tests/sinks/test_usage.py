"""Priced chunks landing in `usage_events`, read back through the view `usage` and the table itself."""

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tokentide.schemas import (
    ApiOperation,
    DataLossError,
    PricedUsage,
    PriceStatus,
    Status,
    StorageRefusedError,
)
from tokentide.schemas.columns import PRICED_SCHEMA, write_chunk
from tokentide.sinks import USAGE, Batcher, ClickHouseSettings, ClickHouseWriter, connect

MORNING = datetime(2026, 8, 3, 9, 30, 0, 123456, tzinfo=UTC)
NUMBERS = itertools.count()

FULL = PricedUsage(
    event_id="0197-full",
    timestamp=MORNING,
    user_id="user-ä",
    team_id="team-1",
    org_id="org-1",
    session_id="session",
    conversation_id="conversation",
    subscription_tier="pro",
    service="shop",
    environment="production",
    operation="answer",
    operation_id="operation-7",
    prompt_id="prompt-3",
    run_id="run-2",
    agent_name="clerk",
    api_operation=ApiOperation.RESPONSES,
    provider="openai",
    model="gpt-5",
    request_model="gpt-5-latest",
    model_version="2026-01-01",
    request_id="request-1",
    provider_created=MORNING - timedelta(milliseconds=1),
    system_fingerprint="fp",
    service_tier="flex",
    speed="fast",
    region="eu",
    finish_reason="stop",
    processing="batch",
    input_tokens=1000,
    output_tokens=500,
    cache_read_tokens=300,
    cache_write_tokens=200,
    cache_write_1h_tokens=100,
    reasoning_tokens=50,
    input_audio_tokens=40,
    output_audio_tokens=30,
    input_image_tokens=20,
    output_image_tokens=10,
    cache_audio_read_tokens=5,
    audio_seconds=Decimal("0.000000000001"),
    input_characters=4,
    images=3,
    image_size="1024x1024",
    image_quality="hd",
    pages=2,
    web_searches=1,
    tool_calls=6,
    requests=3,
    estimated=True,
    stream=True,
    latency_ms=1234.5,
    ttft_ms=0.25,
    status=Status.ERROR,
    error_type="Timeout",
    error_message='two\nlines and "quotes"',
    complexity_score=0.5,
    provider_cost_usd=Decimal("1.5"),
    trace_id="trace",
    span_id="span",
    tags={"feature": "search", "empty": ""},
    metadata={"nested": {"list": [1, None, "ü"]}},
    sdk_name="tokentide",
    sdk_version="0.1.0",
    source="http",
    source_partition=3,
    source_offset=2**40,
    list_cost_usd=Decimal("12345678901234567890123456.123456789012"),
    cost_usd=Decimal("12345678901234567890123456.123456789011"),
    input_cost_usd=Decimal("0.1"),
    cache_cost_usd=Decimal("0.02"),
    output_cost_usd=Decimal("0.003"),
    tool_cost_usd=Decimal("0.000000000001"),
    input_price_per_mtok=Decimal("1.25"),
    output_price_per_mtok=Decimal("10"),
    cached_price_per_mtok=Decimal("0.125"),
    discount_pct=Decimal("12.5"),
    currency="USD",
    price_status=PriceStatus.PRICED,
    price_source="genai-prices",
    price_version="0.2.1",
    priced_model="openai/gpt-5",
    priced_at=MORNING + timedelta(seconds=1),
    late=2,
)
"""Every field has a value of its own."""


def event(event_id: str, **fields: Any) -> PricedUsage:
    """A priced event that says no more than it must."""
    values: dict[str, Any] = {
        "timestamp": MORNING,
        "provider": "openai",
        "model": "gpt-5",
        "source_partition": 0,
        "source_offset": 0,
        "list_cost_usd": None,
        "cost_usd": None,
        "input_cost_usd": None,
        "cache_cost_usd": None,
        "price_status": "unpriced",
        "priced_at": MORNING,
    }
    return PricedUsage(event_id=event_id, **(values | fields))


def chunk(*events: PricedUsage) -> bytes:
    """The events as one record of `usage.priced`."""
    columns = {name: [getattr(event, name) for event in events] for name in PRICED_SCHEMA.names}
    columns["tags"] = [list(tags.items()) for tags in columns["tags"]]
    columns["metadata"] = [json.dumps(metadata) for metadata in columns["metadata"]]
    arrays = [pa.array(columns[field.name], field.type) for field in PRICED_SCHEMA]
    return write_chunk(pa.RecordBatch.from_arrays(arrays, schema=PRICED_SCHEMA))


def land(settings: ClickHouseSettings, *records: tuple[int, bytes], partition: int = 0) -> None:
    """Insert the records (offset, value) as one batch."""
    batcher = Batcher(USAGE, "usage.priced")
    for offset, value in records:
        batcher.add(partition, offset, value)
    batch = batcher.take()
    assert batch is not None
    ClickHouseWriter(settings).insert(batch.table, batch.rows(), batch.token)


def select(settings: ClickHouseSettings, sql: str) -> Sequence[Sequence[Any]]:
    """The rows of a query."""
    client = connect(settings)
    try:
        return client.query(sql).result_rows
    finally:
        client.close()


def stored(settings: ClickHouseSettings) -> list[PricedUsage]:
    """All rows of the view `usage`, as the model that they came from."""
    names = PRICED_SCHEMA.names
    names.remove("schema_version")
    rows = select(
        settings, f"SELECT {', '.join(names)} FROM usage ORDER BY timestamp, event_id, source_partition"
    )
    events = []
    for row in rows:
        values = dict(zip(names, row, strict=True))
        values["metadata"] = json.loads(values["metadata"])
        events.append(PricedUsage(**values))
    return events


def test_every_field_lands_as_it_was_sent(settings: ClickHouseSettings) -> None:
    land(settings, (7, chunk(FULL)), partition=3)

    assert stored(settings) == [FULL]


def test_fields_that_were_not_given_are_null_and_not_zero(settings: ClickHouseSettings) -> None:
    bare = event("bare")

    land(settings, (0, chunk(bare)))

    assert stored(settings) == [bare]
    assert bare.user_id is None
    assert bare.cost_usd is None


def test_the_place_in_both_topics_stands_beside_the_row(settings: ClickHouseSettings) -> None:
    land(settings, (41, chunk(event("a", source_partition=3, source_offset=17))), partition=3)

    places = "source_partition, source_offset, priced_partition, priced_offset, version"
    assert select(settings, f"SELECT {places} FROM usage_events") == [(3, 17, 3, 41, 2**64 - 1 - 41)]


def test_events_of_more_months_than_clickhouse_takes_by_default_land_in_one_insert(
    settings: ClickHouseSettings,
) -> None:
    januaries = [datetime(year, 1, 1, tzinfo=UTC) for year in range(2010, 2030)]
    decembers = [datetime(year, 12, 31, tzinfo=UTC) for year in range(2010, 2100)]
    events = [
        event(f"event-{at}", timestamp=month, source_offset=at, priced_at=month)
        for at, month in enumerate(sorted(januaries + decembers))
    ]

    land(settings, (0, chunk(*events)))

    assert stored(settings) == events
    assert select(settings, "SELECT min(toYYYYMM(timestamp)), max(toYYYYMM(timestamp)) FROM usage") == [
        (201001, 209912)
    ]


@pytest.mark.parametrize("offsets", [(5, 9), (9, 5)], ids=["in order", "late"])
def test_the_first_priced_occurrence_wins_whichever_lands_last(
    settings: ClickHouseSettings, offsets: tuple[int, int]
) -> None:
    first = event("same", cost_usd=Decimal("1.00"), price_status="priced")
    replay = event("same", cost_usd=Decimal("2.00"), price_status="priced")
    by_offset = {5: first, 9: replay}

    for offset in offsets:
        land(settings, (offset, chunk(by_offset[offset])))

    assert stored(settings) == [first]


def test_the_first_priced_occurrence_wins_inside_one_insert(settings: ClickHouseSettings) -> None:
    first = event("same", cost_usd=Decimal("1.00"), price_status="priced")
    replay = event("same", cost_usd=Decimal("2.00"), price_status="priced")

    land(settings, (5, chunk(first)), (9, chunk(replay)))

    assert stored(settings) == [first]


def test_one_id_counts_once_a_source_partition_as_it_does_in_the_totals(
    settings: ClickHouseSettings,
) -> None:
    here, there = event("same", source_partition=0), event("same", source_partition=1)

    land(settings, (0, chunk(here)), partition=0)
    land(settings, (0, chunk(there)), partition=1)

    assert stored(settings) == [here, there]


@examples(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_replays_collapse_however_they_are_batched_and_ordered(
    settings: ClickHouseSettings, data: st.DataObject
) -> None:
    run = f"run-{next(NUMBERS)}"
    cuts = sorted(data.draw(st.sets(st.integers(1, 11), max_size=4), label="chunk borders"))
    events = [
        event(f"{run}-{at:02}", run_id=run, source_offset=at, cost_usd=Decimal(at), price_status="priced")
        for at in range(12)
    ]
    borders = list(itertools.pairwise([0, *cuts, 12]))
    records = [chunk(*events[start:end]) for start, end in borders]
    # A replay stands at higher offsets, has other borders, and found other prices.
    replayed = [item.model_copy(update={"cost_usd": Decimal(1000)}) for item in events]
    records += [chunk(*replayed[:7]), chunk(*replayed[3:])]
    deliveries = data.draw(
        st.permutations([*range(len(records)), *range(len(records))]).map(
            lambda order: [sorted({*order[start : start + 3]}) for start in range(0, len(order), 3)]
        ),
        label="batches",
    )

    for batch in deliveries:
        land(settings, *((offset, records[offset]) for offset in batch))

    rows = select(settings, f"SELECT event_id, cost_usd FROM usage WHERE run_id = '{run}' ORDER BY event_id")
    assert rows == [(item.event_id, item.cost_usd) for item in events]


def test_a_batch_that_is_sent_again_is_dropped_before_it_is_stored(settings: ClickHouseSettings) -> None:
    for _ in range(3):
        land(settings, (5, chunk(event("a"), event("b"))))

    assert select(settings, "SELECT count() FROM usage_events") == [(2,)]


def test_the_same_offsets_of_a_topic_made_anew_are_not_dropped(settings: ClickHouseSettings) -> None:
    land(settings, (0, chunk(event("before"))))

    land(settings, (0, chunk(event("after"))))

    assert [row.event_id for row in stored(settings)] == ["after", "before"]


def test_a_chunk_of_an_older_meter_lands_without_the_columns_that_it_lacks(
    settings: ClickHouseSettings,
) -> None:
    newer = chunk(event("newer", agent_name="clerk"))
    with pa.ipc.open_stream(chunk(event("older", agent_name="clerk"))) as reader:
        older = write_chunk(reader.read_all().drop_columns(["agent_name"]).to_batches()[0])

    land(settings, (0, older), (1, newer))

    assert select(settings, "SELECT event_id, agent_name FROM usage ORDER BY event_id") == [
        ("newer", "clerk"),
        ("older", None),
    ]


def test_a_column_that_the_table_lacks_stops_the_insert_instead_of_being_dropped(
    settings: ClickHouseSettings,
) -> None:
    with pa.ipc.open_stream(chunk(event("a"))) as reader:
        rows = reader.read_all().append_column("carbon_grams", pa.array([1]))

    with pytest.raises(StorageRefusedError, match=r"carbon_grams.*run `tokentide migrate`"):
        land(settings, (0, write_chunk(rows.to_batches()[0])))

    assert stored(settings) == []


def test_a_record_that_is_no_chunk_is_named_by_its_place() -> None:
    batcher = Batcher(USAGE, "usage.priced")

    with pytest.raises(DataLossError, match=r"usage_events at partition 2, offset 9 cannot be read"):
        batcher.add(2, 9, b'{"event_id": "not a chunk"}')

    assert batcher.take() is None


def test_days_add_up_as_plain_python_does(settings: ClickHouseSettings) -> None:
    events = [
        event(
            f"event-{at:03}",
            timestamp=MORNING + timedelta(hours=at),
            source_offset=at,
            org_id=("org-1", None)[at % 2],
            team_id=f"team-{at % 3}",
            model=f"model-{at % 2}",
            input_tokens=at * 7,
            output_tokens=at,
            cache_read_tokens=at,
            requests=1 + at % 4,
            list_cost_usd=None if at % 5 == 0 else Decimal(at) / 1000,
            cost_usd=None if at % 5 == 0 else Decimal(at).scaleb(-12),
            price_status="unpriced" if at % 5 == 0 else "priced",
        )
        for at in range(100)
    ]
    expected: dict[tuple[Any, ...], list[Any]] = {}
    for item in events:
        key = (item.timestamp.date(), item.org_id, item.team_id, item.provider, item.model)
        total = expected.setdefault(key, [0, 0, 0, 0, 0, Decimal(0), Decimal(0), 0])
        total[0] += item.requests
        total[1] += item.input_tokens
        total[2] += item.output_tokens
        total[3] += item.total_tokens
        total[4] += item.cache_read_tokens
        total[5] += item.list_cost_usd or 0
        total[6] += item.cost_usd or 0
        total[7] += item.requests if item.price_status == "unpriced" else 0

    land(settings, (0, chunk(*events)))
    land(settings, (1, chunk(*events[:50])))

    columns = (
        "requests, input_tokens, output_tokens, total_tokens, cache_read_tokens, list_cost_usd, cost_usd"
    )
    rows = select(
        settings,
        f"SELECT day, org_id, team_id, provider, model, {columns}, unpriced_requests FROM spend_daily",
    )
    assert {tuple(row[:5]): list(row[5:]) for row in rows} == expected
