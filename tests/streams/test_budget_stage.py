"""The stage on a Kafka of librdkafka's: what it remembers, what it deletes, and what it measures."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from tokentide.schemas import DataLossError, KafkaSettings, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.clock import Grace
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.partition import entity_partition
from tokentide.streams.progress import POSITION_KEY
from tokentide.streams.stages import BudgetStage

DAY = int(datetime(2026, 10, 28, tzinfo=UTC).timestamp())
ANN = entity_partition("user:ann", 4)


@pytest.fixture
def names(cluster: Producer) -> TopicNames:
    unique = uuid.uuid4().hex
    names = TopicNames(limits=f"limits-{unique}", alerts=f"alerts-{unique}", spend=f"spend-{unique}")
    for name in (names.limits, names.alerts, names.spend):
        cluster.list_topics(name, timeout=10)
    return names


def chunk(*contents: dict[str, object], first: int = 0) -> Chunk:
    records = [
        Record(first + number, 0, None, json.dumps(each).encode()) for number, each in enumerate(contents)
    ]
    return Chunk("usage.spend", ANN, tuple(records))


def spent(day: int) -> dict[str, object]:
    numbers = {"requests": 1, "input_tokens": 1, "output_tokens": 1, "unpriced_requests": 0}
    total = {"period": "day", "period_start": day, "cost_pico_usd": "5", **numbers}
    return {"scope": "user", "scope_id": "ann", "source_partition": 1, "version": 1, "totals": [total]}


def watermarks(second: int) -> list[dict[str, object]]:
    told = {"complete_up_to": second * 1000, "event_time": second * 1000}
    return [{"source_partition": source, **told} for source in range(4)]


def test_a_closed_entity_is_deleted_and_a_new_owner_measures_the_same(
    kafka: KafkaSettings, topic: str, names: TopicNames
) -> None:
    failures: list[DataLossError] = []
    log = Log(kafka)

    def stage() -> BudgetStage:
        outbox = Outbox(kafka, 10.0, failures.append)
        return BudgetStage(names, topic, 4, outbox, log, committed=lambda *place: None, grace=Grace(3600))

    async def run() -> None:
        first = stage()
        await first.open(ANN)
        await first.take(chunk(spent(DAY)))
        await first.flush()
        assert dict(labelled(first)) == {"tokentide_state_entities": 1, **sizes(cells=1)}
        await first.take(chunk(*watermarks(DAY + 86_400 + 3600), first=1))
        assert await first.flush() == {ANN: 5}
        assert await first.flush() == {}
        after = {
            "tokentide_state_entities": 0,
            **sizes(cells=0),
            "tokentide_complete_up_to_seconds": DAY + 90_000,
        }
        assert dict(labelled(first)) == after
        second = stage()
        assert await second.open(ANN) == 5
        assert dict(labelled(second)) == after

    asyncio.run(run())

    records = [(record.key, record.value) for record in log.read(topic, ANN, 0)]
    kept = dict(records)
    assert kept[b"user:ann"] is None
    assert json.loads(kept[POSITION_KEY] or b"")["position"] == 5
    assert failures == []


def sizes(cells: int) -> dict[str, float]:
    return {"tokentide_state_cells": cells, "tokentide_state_fired": 0}


def labelled(stage: BudgetStage) -> Iterator[tuple[str, float]]:
    for name, labels, value in stage.gauges():
        of_state = {"stage": "budgets"} if name.startswith("tokentide_state") else {}
        assert labels == {**of_state, "partition": str(ANN)}
        yield name, value
