"""State from ClickHouse, on a real Kafka and a real ClickHouse engine: it is the state that the stages had."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from support.databases import make_database

from tokentide.console.broker import reach
from tokentide.console.rebuild import Rebuilt, run_rebuild
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import ensure_topics
from tokentide.schemas import (
    Alert,
    Budget,
    DataLossError,
    Period,
    PricedUsage,
    Scope,
    SettingsError,
    changelog_name,
    period_start,
)
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import COVERED_FROM, COVERED_TO, PRICED_SCHEMA, write_chunk
from tokentide.sinks import ALERTS, SPEND, USAGE, Batcher, ClickHouseWriter, Landing
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.budgets import BudgetState
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.partition import entity_partition
from tokentide.streams.spend import SpendState
from tokentide.streams.stages import BudgetStage, SpendStage

NOON = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
RED = entity_partition("team:red", 2)
Covered = tuple[int, int, dict[int, str | None]]
# What each record of usage.priced covers, and the cost of its rows by source offset.
PRICED: list[Covered] = [
    (0, 2, {0: "0.000000000001", 1: None}),
    (3, 5, {3: "1.5", 5: "123456789012345.123456789012"}),
    # From a worker that had lost the partition and some of its own records: it comes again.
    (9, 9, {9: "0.9"}),
    # A replay, priced otherwise: the first occurrence wins.
    (3, 6, {3: "7", 5: None, 6: "0.6"}),
    (7, 10, {7: "0.7", 9: "0.9"}),
    (11, 12, {}),
    (13, 14, {13: "1.3", 14: "1.4"}),
]


@pytest.fixture
def settings(on_kafka: dict[str, str], on_clickhouse: dict[str, str]) -> ConsoleSettings:
    """A pipeline of its own: topics of two partitions, empty tables."""
    settings = ConsoleSettings.from_env({**on_kafka, **on_clickhouse, "TOKENTIDE_PARTITIONS": "2"})
    ensure_topics(reach(settings.kafka), settings.topic_plans())
    make_database(settings.clickhouse)
    return settings


@pytest.fixture
def lost(settings: ConsoleSettings) -> ConsoleSettings:
    """The same pipeline, with changelogs that are empty."""
    settings = replace(settings, meter_id=f"{settings.meter_id}-lost")
    ensure_topics(reach(settings.kafka), settings.topic_plans())
    return settings


def row(offset: int, cost: str | None) -> PricedUsage:
    """One call; every third has no team, and from offset 6 on it is another month."""
    return PricedUsage(
        event_id=f"e-{offset}",
        timestamp=NOON.replace(month=11, day=1) if offset > 5 else NOON,
        user_id=f"user:{offset % 2}|ä",
        team_id="red" if offset % 3 else None,
        provider="openai",
        model="gpt-4o",
        operation="" if offset % 2 else "search",
        input_tokens=100 + offset,
        output_tokens=offset,
        requests=offset + 1,
        source_partition=0,
        source_offset=offset,
        list_cost_usd=None,
        cost_usd=None if cost is None else Decimal(cost),
        input_cost_usd=None,
        cache_cost_usd=None,
        price_status="unpriced" if cost is None else "priced",  # type: ignore[arg-type]
        priced_at=NOON,
    )


def chunk(rows: dict[int, str | None]) -> bytes:
    """The value of a record of usage.priced."""
    events = [row(*each) for each in rows.items()]
    columns = {name: [getattr(event, name) for event in events] for name in PRICED_SCHEMA.names}
    columns["tags"] = [[] for _ in events]
    columns["metadata"] = ["{}" for _ in events]
    arrays = [pa.array(columns[field.name], field.type) for field in PRICED_SCHEMA]
    return write_chunk(pa.RecordBatch.from_arrays(arrays, schema=PRICED_SCHEMA))


def covering(first: int, last: int) -> list[tuple[str, bytes]]:
    """The headers of a record of usage.priced."""
    return [(COVERED_FROM, b"%d" % first), (COVERED_TO, b"%d" % last)]


def publish(settings: ConsoleSettings, topic: str, partition: int, *records: tuple[bytes, Any]) -> None:
    """Send values with their headers."""
    producer = Producer(settings.kafka.librdkafka())
    for value, headers in records:
        producer.produce(topic, value, partition=partition, headers=headers)
    assert producer.flush(20) == 0


def land(
    settings: ConsoleSettings, how: Landing[Any], *records: tuple[int, bytes], partition: int = 0
) -> None:
    """Insert records (offset, value) as the sink does."""
    batcher = Batcher(how, "topic")
    for offset, value in records:
        batcher.add(partition, offset, value)
    batch = batcher.take()
    assert batch is not None
    ClickHouseWriter(settings.clickhouse).insert(batch.table, batch.rows(), batch.token)


def commit(settings: ConsoleSettings, group: str, topic: str, offset: int, partition: int = 0) -> None:
    worker = Consumer({**settings.kafka.librdkafka(), "group.id": group})
    worker.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    worker.close()


def changelog(settings: ConsoleSettings, table: str, partition: int = 0) -> Iterator[Record]:
    return Log(settings.kafka).read(changelog_name(settings.meter_id, table), partition, 0)


def priced_pipeline(settings: ConsoleSettings, counted: int, stored: int) -> None:
    """All of PRICED in Kafka; both groups have committed; ClickHouse has more, torn, than the sink has committed."""
    topic = settings.topics.priced
    publish(
        settings,
        topic,
        0,
        *((chunk(rows), covering(first, last)) for first, last, rows in PRICED),
    )
    land(settings, USAGE, *((offset, chunk(PRICED[offset][2])) for offset in range(stored)))
    land(settings, USAGE, (6, chunk({14: "1.4"})))
    commit(settings, settings.meter_id, topic, counted)
    commit(settings, settings.sink_id, topic, stored)


def stage_state(settings: ConsoleSettings, position: int) -> SpendState:
    """What the stage itself remembers below the position."""

    async def work() -> None:
        failures: list[DataLossError] = []
        outbox = Outbox(settings.kafka, 30, failures.append)
        log = Log(settings.kafka)
        name = changelog_name(settings.meter_id, "spend")
        stage = SpendStage(settings.topics, name, 2, outbox, log, committed=lambda *place: None)
        await stage.open(0)
        records = [r for r in log.read(settings.topics.priced, 0, 0) if r.offset < position]
        await stage.take(Chunk(settings.topics.priced, 0, tuple(records)))
        await stage.drain()
        outbox.close()
        assert failures == []

    asyncio.run(work())
    return spend_state(settings)


def spend_state(settings: ConsoleSettings) -> SpendState:
    state = SpendState(0)
    for record in changelog(settings, "spend"):
        assert record.key is not None
        state.load(record.key, record.value)
    state.loaded()
    return state


def contents(state: SpendState) -> tuple[Any, ...]:
    days = {key: json.loads(value) for key, value in state.rewrites(1000)}
    return state.fence, state.priced, state.is_catching_up, days


@pytest.mark.parametrize(
    ("counted", "stored"), [(7, 7), (6, 6), (5, 7), (4, 7), (3, 7), (7, 4), (7, 3), (1, 2)], ids=str
)
def test_the_rebuilt_totals_are_those_the_stage_had_where_both_groups_have_committed(
    settings: ConsoleSettings, lost: ConsoleSettings, counted: int, stored: int
) -> None:
    priced_pipeline(lost, counted, stored)
    position = min(counted, stored)

    preview = run_rebuild(lost, dry_run=True)
    untouched = list(changelog(lost, "spend"))
    rebuilt = run_rebuild(lost)

    expected = contents(stage_state(settings, position))
    assert contents(spend_state(lost)) == expected
    assert rebuilt == preview == [Rebuilt("spend", 0, len(expected[3]), position, 0)]
    assert untouched == []
    assert Log(lost.kafka).committed(lost.meter_id, lost.topics.priced, 0) == position


def test_what_no_sink_ever_stored_is_counted_from_the_start(lost: ConsoleSettings) -> None:
    publish(lost, lost.topics.priced, 0, (chunk({0: "1"}), covering(0, 0)))
    commit(lost, lost.meter_id, lost.topics.priced, 1)

    rebuilt = run_rebuild(lost)

    assert rebuilt == [Rebuilt("spend", 0, 0, 0, 0)]
    assert contents(spend_state(lost)) == (-1, 0, False, {})


@pytest.mark.parametrize(("first_kept", "position", "fence"), [(4, 4, 6), (7, 7, 14), (6, 4, 12)])
def test_a_log_whose_beginning_is_gone_still_says_how_far_the_rows_go(
    lost: ConsoleSettings, first_kept: int, position: int, fence: int
) -> None:
    priced_pipeline(lost, 7, position)
    commit(lost, lost.meter_id, lost.topics.events, 15)
    broker = reach(lost.kafka)
    place = TopicPartition(lost.topics.priced, 0, first_kept)
    broker.admin.delete_records([place])[place].result(20)

    (rebuilt,) = run_rebuild(lost)

    state = spend_state(lost)
    assert (state.fence, state.priced) == (fence, position)
    assert rebuilt.missing == first_kept - position


def test_a_rebuild_that_was_cut_off_is_done_again(settings: ConsoleSettings, lost: ConsoleSettings) -> None:
    priced_pipeline(lost, 7, 7)
    stale = b'{"fence":3,"hours":{"1793487600":[1,1,1,"1",0]}}'
    producer = Producer(lost.kafka.librdkafka())
    producer.produce(changelog_name(lost.meter_id, "spend"), stale, b"team:red|2026-11-01", partition=0)
    assert producer.flush(20) == 0

    run_rebuild(lost)

    assert contents(spend_state(lost)) == contents(stage_state(settings, 7))


def update(version: int, usd: int, source: int = 0, adjustment: str = "") -> bytes:
    """A record of usage.spend about the team red: its day and month."""
    second = int(NOON.timestamp())
    totals = [
        {
            "period": period,
            "period_start": period_start(Period(period), second),
            "requests": 1,
            "input_tokens": version,
            "output_tokens": 1,
            "cost_pico_usd": str(usd * 10**12),
            "unpriced_requests": 0,
        }
        for period in ("hour", "day", "month")
    ]
    return json.dumps(
        {
            "scope": "team",
            "scope_id": "red",
            "source_partition": source,
            "version": version,
            "adjustment": adjustment,
            "totals": totals,
        }
    ).encode()


def index() -> BudgetIndex:
    budget = Budget(
        budget_id="b",
        scope=Scope.TEAM,
        scope_id="red",
        limit=Decimal(10),
        period=Period.DAY,
        thresholds=(40, 50, 75, 100),
    )
    found = BudgetIndex()
    found.apply(Record(0, 0, b"b", budget.model_dump_json().encode()))
    return found


def raised(state: BudgetState) -> Sequence[Alert]:
    changes = state.take_changes(NOON)
    return () if changes is None else changes.alerts


def test_rebuilt_budgets_repeat_no_alert_and_miss_none_that_was_due(lost: ConsoleSettings) -> None:
    # The meter got to the second record, the sink to the end: but for one alert.
    updates = [update(1, 4), update(9, 1, source=1), update(2, 8), update(3, 9)]
    before = BudgetState(index(), 4)
    before.apply(updates[0], 0)
    (first,) = raised(before)
    before.apply(updates[1], 1)
    (second,) = raised(before)
    publish(lost, lost.topics.spend, RED, *((value, None) for value in updates))
    publish(lost, lost.topics.alerts, RED, *((a.model_dump_json().encode(), None) for a in (first, second)))
    land(lost, SPEND, *enumerate(updates), partition=RED)
    land(lost, ALERTS, (0, first.model_dump_json().encode()), partition=RED)
    commit(lost, lost.meter_id, lost.topics.spend, 2, RED)
    commit(lost, lost.sink_id, lost.topics.spend, 4, RED)
    commit(lost, lost.sink_id, lost.topics.alerts, 1, RED)

    rebuilt = run_rebuild(lost)

    assert rebuilt == [Rebuilt("budgets", RED, 1, 2, 0)]
    state = BudgetState(index(), 4)
    for record in changelog(lost, "budgets", RED):
        assert record.key is not None
        state.load(record.key, record.value)
    state.loaded()
    assert (state.position, state.sizes()["entities"]) == (2, 1)
    for offset in (2, 3):
        state.apply(updates[offset], offset)
    changes = state.take_changes(NOON)
    assert changes is not None
    assert [alert.threshold_pct for alert in changes.alerts] == [75, 100]
    assert [limit.used for limits in changes.limits for limit in limits.limits] == [Decimal(10)]
    assert [limits.version for limits in changes.limits] == [4]


def test_rebuilt_budgets_hold_each_adjustment_and_no_watermark(lost: ConsoleSettings) -> None:
    watermark = b'{"source_partition":0,"complete_up_to":1790000000000}'
    updates = [update(1, 4), update(5, 3, adjustment="late/5"), update(9, -2, adjustment="audit"), watermark]
    publish(lost, lost.topics.spend, RED, *((value, None) for value in updates))
    land(lost, SPEND, *enumerate(updates), partition=RED)
    commit(lost, lost.meter_id, lost.topics.spend, 4, RED)
    commit(lost, lost.sink_id, lost.topics.spend, 4, RED)

    assert run_rebuild(lost) == [Rebuilt("budgets", RED, 1, 4, 0)]

    state = BudgetState(index(), 4)
    for record in changelog(lost, "budgets", RED):
        assert record.key is not None
        state.load(record.key, record.value)
    state.loaded()
    assert (state.position, state.complete_up_to, state.sizes()["entities"]) == (4, None, 1)
    # The same again, as it may be published: no news, and no part counts twice.
    for offset, value in enumerate(updates, 4):
        state.apply(value, offset)
    changes = state.take_changes(NOON)
    assert changes is not None
    assert [alert.used for alert in changes.alerts] == [Decimal(5), Decimal(5)]


@pytest.mark.parametrize("table", ["spend", "budgets"])
def test_a_stage_whose_changelog_is_gone_says_what_to_do(lost: ConsoleSettings, table: str) -> None:
    failures: list[DataLossError] = []
    outbox = Outbox(lost.kafka, 30, failures.append)
    log = Log(lost.kafka)
    name = changelog_name(lost.meter_id, table)

    def stage(committed: int | None) -> SpendStage | BudgetStage:
        kind = SpendStage if table == "spend" else BudgetStage
        return kind(lost.topics, name, 2, outbox, log, committed=lambda topic, partition: committed)

    assert asyncio.run(stage(None).open(0)) is None
    with pytest.raises(DataLossError, match=rf"\[0\] was counted up to offset 7, but {name} does .*rebuild`"):
        asyncio.run(stage(7).open(0))
    outbox.close()
    assert failures == []


def test_nothing_is_written_while_a_meter_is_in_the_group(lost: ConsoleSettings) -> None:
    priced_pipeline(lost, 7, 7)
    meter = Consumer({**lost.kafka.librdkafka(), "group.id": lost.meter_id, "client.id": "meter-7"})
    meter.subscribe([lost.topics.priced])
    while not meter.assignment():
        meter.poll(0.1)

    with pytest.raises(SettingsError, match=r"has members \(meter-7\): stop all its meters"):
        run_rebuild(lost)

    assert list(changelog(lost, "spend")) == []
    meter.close()
    assert [each.table for each in run_rebuild(lost, wait_seconds=10)] == ["spend"]


def test_a_pipeline_that_has_its_state_is_left_alone(lost: ConsoleSettings) -> None:
    with pytest.raises(SettingsError, match="Nothing is lost"):
        run_rebuild(lost)
    priced_pipeline(lost, 7, 7)
    run_rebuild(lost)

    with pytest.raises(SettingsError, match="Nothing is lost"):
        run_rebuild(lost)


def test_missing_topics_are_named(lost: ConsoleSettings) -> None:
    nobody = replace(lost, meter_id="nobody")

    with pytest.raises(
        SettingsError, match=r"lacks the topics nobody-budgets-changelog, nobody-spend-changelog;"
    ):
        run_rebuild(nobody)
