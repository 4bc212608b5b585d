"""Topics that are not what a meter expects."""

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from faults.brokers import Brokers
from support.commands import run, variables

from tokentide.console.broker import reach
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import ensure_topics
from tokentide.schemas import TopicNames

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

    others = [field.name for field in fields(TopicNames) if field.name not in ("events", "budgets", "prices")]
    assert meter.code == 2
    assert "grown.events has 6 partitions, but " in meter.err
    assert all(f"grown.{name} has 4" in meter.err for name in others)
    assert "use new topic names (TOKENTIDE_TOPIC_...)" in meter.err
