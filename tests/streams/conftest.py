"""A Kafka cluster inside librdkafka, reached over TCP like a real one."""

import logging
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from tokentide.schemas import KafkaSettings


@pytest.fixture(scope="session")
def cluster() -> Iterator[Producer]:
    """The client that hosts the cluster."""
    host = Producer({"test.mock.num.brokers": 1, "logger": logging.getLogger("mock")})
    yield host
    del host


@pytest.fixture(scope="session")
def kafka(cluster: Producer) -> KafkaSettings:
    """The way to the cluster."""
    (only,) = cluster.list_topics(timeout=10).brokers.values()
    return KafkaSettings(f"{only.host}:{only.port}")


@pytest.fixture
def topic(cluster: Producer) -> str:
    """A new topic of four partitions."""
    name = f"topic-{uuid.uuid4().hex}"
    cluster.list_topics(name, timeout=10)
    return name


@pytest.fixture
def write(kafka: KafkaSettings, topic: str) -> Callable[[int, int], None]:
    """Returns a function that writes so many numbered records into a partition of the topic."""

    def numbered(partition: int, count: int) -> None:
        producer = Producer(kafka.librdkafka())
        for number in range(count):
            producer.produce(topic, str(number).encode(), key=b"key", partition=partition)
        assert producer.flush(10) == 0

    return numbered
