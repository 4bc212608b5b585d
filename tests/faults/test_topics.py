"""Topics that are not what a meter expects."""

import asyncio
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from faults.brokers import Brokers
from support.commands import run, variables
from support.oracle import read_topic

from tokentide.console.broker import reach
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import ensure_topics
from tokentide.schemas import DataLossError, ServiceUnavailableError, TopicNames
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox
from tokentide.streams.prices import Catalogue
from tokentide.streams.stages import PricingStage

EVENT = b'{"event_id":"a","timestamp":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-4o","input_tokens":1}'


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One Kafka node."""
    with Brokers(tmp_path_factory.mktemp("kafka"), 1).open() as running:
        yield running


def settings_for(brokers: Brokers, prefix: str) -> ConsoleSettings:
    base = ConsoleSettings.from_env({}, broker=brokers.bootstrap, partitions=4)
    names = TopicNames(**{field.name: f"{prefix}.{field.name}" for field in fields(TopicNames)})
    return replace(base, topics=names, meter_id=prefix)


@pytest.mark.slow
def test_a_meter_refuses_a_topic_with_more_partitions_than_before(brokers: Brokers) -> None:
    settings = settings_for(brokers, "grown")
    ensure_topics(reach(settings.kafka), settings.topic_plans())
    admin = AdminClient({"bootstrap.servers": brokers.bootstrap})
    for answer in admin.create_partitions([NewPartitions("grown.events", 6)]).values():
        answer.result(20)

    meter = run("worker", "meter", environment=variables(**settings.environment()))

    others = [field.name for field in fields(TopicNames) if field.name not in ("events", "budgets")]
    assert meter.code == 2
    assert "grown.events has 6 partitions, but " in meter.err
    assert all(f"grown.{name} has 4" in meter.err for name in others)
    assert "use new topic names (TOKENTIDE_TOPIC_...)" in meter.err


@pytest.mark.slow
def test_what_is_priced_is_never_stored_before_what_was_refused_beside_it(brokers: Brokers) -> None:
    """Seed 7: a meter was killed in between, and 19 rejected records were never published."""
    settings = settings_for(brokers, "refusing")
    plans = {plan.name: plan for plan in settings.topic_plans()}
    rejected = plans["refusing.rejected"]
    narrow = replace(rejected, config={**rejected.config, "max.message.bytes": "100"})
    ensure_topics(reach(settings.kafka), [plans["refusing.priced"], narrow])
    failures: list[DataLossError] = []

    async def price() -> None:
        outbox = Outbox(settings.kafka, 10.0, failures.append)
        stage = PricingStage(
            settings.topics,
            outbox,
            Log(settings.kafka),
            Catalogue(),
            committed=lambda _topic, _partition: None,
            dedupe_days=7,
            max_future_seconds=3600,
        )
        while True:
            try:
                await stage.open(0)
                break
            except ServiceUnavailableError:  # the node leads its new topics in a moment
                await asyncio.sleep(0.1)
        records = (Record(0, 1_793_500_000_000, b"u", EVENT), Record(1, 1_793_500_000_000, b"u", b"no event"))
        taking = asyncio.create_task(stage.take(Chunk(settings.topics.events, 0, records)))
        while not failures:
            await asyncio.sleep(0.05)
        taking.cancel()
        await asyncio.sleep(0.5)  # what was sent beside it would be stored by now
        outbox.close()

    asyncio.run(price())

    assert "refusing.rejected" in str(failures[0])
    assert read_topic(brokers.bootstrap, "refusing.priced") == []
