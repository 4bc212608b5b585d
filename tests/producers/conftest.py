"""A Kafka cluster inside librdkafka, reached over TCP like a real one."""

import logging
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

# Nobody listens here: connections are refused at once.
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Producer]:
    """The client that hosts the cluster."""
    host = Producer({"test.mock.num.brokers": 1, "logger": logging.getLogger("mock")})
    yield host
    del host


@pytest.fixture(scope="session")
def broker(cluster: Producer) -> str:
    """The address of the cluster."""
    (only,) = cluster.list_topics(timeout=10).brokers.values()
    return f"{only.host}:{only.port}"


@pytest.fixture
def nowhere() -> str:
    """An address where connections are refused at once."""
    return NOWHERE


@pytest.fixture
def topic(cluster: Producer) -> str:
    """A new topic of four partitions."""
    name = f"usage-{uuid.uuid4().hex}"
    cluster.list_topics(name, timeout=10)
    return name


@pytest.fixture
def read(broker: str, topic: str) -> Callable[[], list[Message]]:
    """Returns all records of the topic, by partition and offset."""

    def everything() -> list[Message]:
        # The end of a partition is told after a fetch that waited for more.
        quick = {"enable.partition.eof": True, "fetch.wait.max.ms": 50}
        consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", **quick})
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        records: list[Message] = []
        ended: set[int | None] = set()
        while len(ended) < len(partitions):
            message = consumer.poll(10)
            assert message is not None, "the cluster does not answer"
            error = message.error()
            if error is None:
                records.append(message)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition())
        consumer.close()
        return sorted(records, key=lambda record: (record.partition(), record.offset()))

    return everything
