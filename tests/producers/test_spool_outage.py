"""The spool on a real Kafka: the outage of benchmarks/outage.py, in short, and topics that take not everything."""

import base64
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from outage import measure

from tokentide.console.kafka.cluster import KafkaCluster
from tokentide.producers import Counters, ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings


@pytest.mark.slow
def test_an_outage_of_kafka_with_two_kills_of_the_service_loses_nothing(tmp_path: Path) -> None:
    result = measure(tmp_path, 15, 200)

    assert result["events_accepted"] == 3 * 5 * 200
    assert result["events_missing"] == 0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster.bootstrap


def create(kafka: str, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 2, config=config)])[topic].result(30)


def track(producer: UsageProducer, count: int, size: int) -> None:
    """Track so many events that nothing makes smaller."""
    for _ in range(count):
        text = base64.b64encode(random.randbytes(size)).decode()
        assert producer.track(provider="openai", model="m", user_id="ann", metadata={"text": text})


@pytest.mark.slow
def test_a_batch_that_is_larger_than_the_topic_takes_loses_only_what_is_too_large_itself(kafka: str) -> None:
    create(kafka, "small", **{"max.message.bytes": "4000"})
    with UsageProducer(ProducerSettings(KafkaSettings(broker=kafka), "small", linger_ms=200)) as producer:
        track(producer, 100, 1_000)
        track(producer, 1, 5_000)
        track(producer, 100, 1_000)

        assert producer.flush(60) == 0
        assert producer.counters == Counters(tracked=201, delivered=200, failed=1)


@pytest.mark.slow
def test_events_wait_for_a_topic_that_comes_later(kafka: str) -> None:
    settings = ProducerSettings(KafkaSettings(broker=kafka), "later")
    soon = replace(settings, extra={"topic.metadata.propagation.max.ms": "200"})
    with UsageProducer(soon) as producer:
        track(producer, 100, 100)
        assert producer.flush(2.5) == 100
        create(kafka, "later")

        assert producer.flush(60) == 0
        assert producer.counters == Counters(tracked=100, delivered=100)
