"""Rows that a real ClickHouse refuses, inside batches that are good otherwise."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer

from tokentide.schemas import (
    DataLossError,
    KafkaSettings,
    Period,
    PricedUsage,
    PriceStatus,
    Rejected,
    Scope,
    SpendTotal,
    SpendUpdate,
    StorageRefusedError,
)
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA, read_chunk, write_chunk
from tokentide.sinks import (
    REJECTED,
    SPEND,
    USAGE,
    BatchSettings,
    ClickHouseSettings,
    ClickHouseWriter,
    DeadLetters,
    Landing,
    Sink,
    connect,
)
from tokentide.sinks import Record as Landed

AT_ONCE = BatchSettings(rows=10_000, seconds=0)
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


@pytest.fixture(scope="module")
def host() -> Producer:
    """Librdkafka's own cluster lives as long as this client."""
    return Producer({"test.mock.num.brokers": 1, "log_level": 0})


@pytest.fixture
def kafka(host: Producer) -> KafkaSettings:
    """A broker of librdkafka's own, with the topic of the dead letters."""
    (node,) = host.list_topics(timeout=10).brokers.values()
    return KafkaSettings(f"{node.host}:{node.port}")


def ask(settings: ClickHouseSettings, sql: str) -> Sequence[Sequence[Any]]:
    """The rows of a query."""
    client = connect(settings)
    try:
        return client.query(sql).result_rows
    finally:
        client.close()


def command(settings: ClickHouseSettings, sql: str) -> None:
    client = connect(settings)
    client.command(sql)
    client.close()


def priced(offsets: Sequence[int]) -> bytes:
    """A record of `usage.priced` with a row for each of these offsets of `usage.events`."""
    priced_rows = [
        PricedUsage(
            event_id=f"event-{offset}",
            timestamp=NOON,
            provider="openai",
            model="gpt-4o",
            input_tokens=offset,
            source_partition=2,
            source_offset=offset,
            list_cost_usd=None,
            cost_usd=None,
            input_cost_usd=None,
            cache_cost_usd=None,
            price_status=PriceStatus.UNPRICED,
            priced_at=NOON,
        ).model_dump()
        for offset in offsets
    ]
    for row in priced_rows:
        row |= {"metadata": "{}", "tags": []}
    return write_chunk(pa.RecordBatch.from_pylist(priced_rows, schema=PRICED_SCHEMA))


def update(name: str, periods: int = 1) -> bytes:
    totals = [
        SpendTotal(
            period=Period.HOUR,
            period_start=3600 * number,
            requests=1,
            input_tokens=0,
            output_tokens=0,
            cost_pico_usd=2**40,
            unpriced_requests=0,
        )
        for number in range(periods)
    ]
    record = SpendUpdate(scope=Scope.USER, scope_id=name, source_partition=0, version=1, totals=tuple(totals))
    return record.model_dump_json().encode()


def land(
    settings: ClickHouseSettings,
    topic: str,
    landing: Landing[Any],
    values: Sequence[bytes],
    refuse: Any,
    first: int = 0,
) -> int:
    """Sink the values as records of partition 2; return up to where they are acknowledged."""
    records = tuple(Record(first + at, NOON_MS, None, value) for at, value in enumerate(values))

    async def work() -> int:
        sink = Sink(topic, landing, ClickHouseWriter(settings), lambda *_: None, AT_ONCE, refuse=refuse)
        try:
            await sink.open(2)
            await sink.take(Chunk(topic, 2, records))
            return (await sink.drain())[2]
        finally:
            sink.stop()

    return asyncio.run(work())


def test_rows_that_break_a_constraint_are_rejected_and_all_others_are_stored(
    settings: ClickHouseSettings,
) -> None:
    command(settings, "ALTER TABLE usage_events ADD CONSTRAINT small CHECK input_tokens NOT IN (13, 57)")
    rejects: list[Rejected] = []

    end = land(settings, "usage.priced", USAGE, [priced(range(50)), priced(range(50, 99))], rejects.extend, 7)

    assert end == 9
    stored = ask(settings, "SELECT source_offset FROM usage_events ORDER BY source_offset")
    assert [offset for (offset,) in stored] == [offset for offset in range(99) if offset not in (13, 57)]
    assert [reject.place for reject in rejects] == ["usage.priced/2/7/13", "usage.priced/2/8/57"]
    for reject in rejects:
        assert reject.timestamp == NOON
        assert reject.reason.startswith("ClickHouse: Constraint `small` for table")
        assert reject.reason.endswith("(code 469, VIOLATED_CONSTRAINT)")
        assert read_chunk(reject.value or b"")["event_id"].to_pylist() == [f"event-{reject.row}"]


def test_a_rejected_row_lands_as_it_was_once_the_table_takes_it(settings: ClickHouseSettings) -> None:
    command(settings, "ALTER TABLE usage_events ADD CONSTRAINT small CHECK input_tokens != 3")
    rejects: list[Rejected] = []
    land(settings, "usage.priced", USAGE, [priced(range(6))], rejects.extend, 7)
    command(settings, "ALTER TABLE usage_events DROP CONSTRAINT small")

    (reject,) = rejects
    row = USAGE.build([USAGE.decode(Landed(reject.partition, reject.offset, reject.value or b""))], "it")
    for token in ("first", "second"):
        ClickHouseWriter(settings).insert("usage_events", row, token)

    columns = "event_id, source_offset, priced_partition, priced_offset, version, timestamp"
    found = ask(settings, f"SELECT {columns} FROM usage_events FINAL ORDER BY source_offset")
    assert found == [(f"event-{at}", at, 2, 7, 2**64 - 8, NOON) for at in range(6)]


def test_a_value_that_a_changed_column_cannot_hold_is_rejected(settings: ClickHouseSettings) -> None:
    command(settings, "ALTER TABLE spend_totals MODIFY COLUMN cost_usd Decimal(18, 12)")
    command(settings, "ALTER TABLE spend_totals ADD CONSTRAINT not_late CHECK period_start < 7200")
    rejects: list[Rejected] = []
    large = update("ann").replace(str(2**40).encode(), str(2**80).encode())

    end = land(settings, "usage.spend", SPEND, [update("bob", 3), large], rejects.extend)

    assert end == 2
    assert [(reject.place, reject.reason.rpartition("(")[2]) for reject in rejects] == [
        ("usage.spend/2/0/2", "code 469, VIOLATED_CONSTRAINT)"),
        ("usage.spend/2/1/0", "code 407, DECIMAL_OVERFLOW)"),
    ]
    assert ask(settings, "SELECT scope_id, toUnixTimestamp(period_start) FROM spend_totals ORDER BY 2") == [
        ("bob", 0),
        ("bob", 3600),
    ]
    alone = SpendUpdate.model_validate_json(rejects[0].value or b"", strict=False)
    assert [total.period_start for total in alone.totals] == [7200]
    assert alone.totals[0].cost_pico_usd == 2**40


def test_an_offset_is_not_acknowledged_before_its_rejection_is_stored_and_a_repeat_rejects_the_same(
    settings: ClickHouseSettings,
) -> None:
    command(settings, "ALTER TABLE usage_events ADD CONSTRAINT small CHECK input_tokens != 4")
    told: list[Rejected] = []

    def crash(rejects: Sequence[Rejected]) -> None:
        told.extend(rejects)
        raise DataLossError("the broker is gone")

    with pytest.raises(DataLossError, match="the broker is gone"):
        land(settings, "usage.priced", USAGE, [priced(range(9))], crash)
    assert land(settings, "usage.priced", USAGE, [priced(range(9))], told.extend) == 1

    assert told[0] == told[1]
    assert len(told) == 2
    assert ask(settings, "SELECT count() FROM usage_events FINAL") == [(8,)]


def test_two_rejected_rows_of_one_record_are_two_rejections_and_a_repeat_is_none(
    settings: ClickHouseSettings,
) -> None:
    def reject(row: int | None, reason: str = "no") -> bytes:
        record = Rejected(
            topic="usage.priced", partition=2, offset=7, row=row, timestamp=NOON, reason=reason, value=b"eA=="
        )
        return record.model_dump_json().encode()

    land(
        settings,
        "usage.rejected",
        REJECTED,
        [reject(13), reject(57), reject(13, "later"), reject(None)],
        None,
    )

    found = ask(settings, "SELECT source_row, reason FROM rejected ORDER BY source_row")
    assert found == [(0, "no"), (13, "no"), (57, "no")]


def test_a_table_that_lacks_a_column_stops_the_sink_and_rejects_nothing(settings: ClickHouseSettings) -> None:
    command(settings, "ALTER TABLE usage_events DROP COLUMN metadata")
    rejects: list[Rejected] = []

    with pytest.raises(StorageRefusedError, match="run `tokentide migrate`"):
        land(settings, "usage.priced", USAGE, [priced(range(9))], rejects.extend)

    assert rejects == []


def test_a_rejection_that_is_refused_itself_stops_the_sink(settings: ClickHouseSettings) -> None:
    command(settings, "ALTER TABLE rejected_events ADD CONSTRAINT none CHECK source_offset != 7")
    rejects: list[Rejected] = []
    record = Rejected(topic="usage.events", partition=0, offset=7, timestamp=NOON, reason="no")

    with pytest.raises(StorageRefusedError, match="Constraint"):
        land(settings, "usage.rejected", REJECTED, [record.model_dump_json().encode()], rejects.extend)

    assert rejects == []


def test_dead_letters_are_stored_when_the_call_returns(kafka: KafkaSettings) -> None:
    letters = [
        Rejected(
            topic="usage.priced", partition=2, offset=7, row=row, timestamp=NOON, reason="no", value=b"eA=="
        )
        for row in (1, 2)
    ]

    refuse = DeadLetters(kafka, "usage.rejected")
    refuse(letters)
    refuse(letters[:1])

    consumer = Consumer({**kafka.librdkafka(), "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["usage.rejected"])
    messages = consumer.consume(3, timeout=30)
    consumer.close()
    assert [message.key() for message in messages] == [
        *(b"usage.priced/2/7/1", b"usage.priced/2/7/2", b"usage.priced/2/7/1")
    ]
    assert {message.partition() for message in messages} == {2}
    assert Rejected.model_validate_json(messages[0].value() or b"") == letters[0]


def test_a_dead_letter_that_finds_no_partition_is_an_error(kafka: KafkaSettings) -> None:
    letter = Rejected(topic="usage.priced", partition=99, offset=7, timestamp=NOON, reason="no")

    with pytest.raises(DataLossError, match=r"not delivered to usage\.rejected"):
        DeadLetters(kafka, "usage.rejected")([letter])
