"""The embedded Kafka under test: its jars, a free data directory, records in and out."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tokentide.console.kafka import KafkaCluster, ensure_jars
from tokentide.schemas.errors import ServiceUnavailableError

QUIET = {"log_level": 0}


class Records:
    """One topic of one partition on one cluster, as a client that trusts nothing sees it."""

    topic = "records"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def create(self, replicas: int = 1) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUIET})
        admin.create_topics([NewTopic(self.topic, 1, replicas)])[self.topic].result(20)

    def produce(self, count: int, *, first: int = 0, halfway: Callable[[], None] = lambda: None) -> list[str]:
        """Send numbered records, idempotent and acks=all, and return those that were acked."""
        acked: list[str] = []
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5, **QUIET}
        )

        def reported(error: KafkaError | None, message: object) -> None:
            value = message.value()  # type: ignore[attr-defined]  # confluent_kafka.Message
            if error is None:
                acked.append(value.decode())

        for number in range(first, first + count):
            if number == first + count // 2:
                producer.poll(0)
                halfway()
            producer.produce(self.topic, str(number).encode(), on_delivery=reported)
        producer.flush(60)
        return acked

    def read(self) -> list[str]:
        """Every record from the beginning to the end of the log."""
        found: list[str] = []
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                **QUIET,
            }
        )
        consumer.assign([TopicPartition(self.topic, 0, OFFSET_BEGINNING)])
        while (message := consumer.poll(30)) is not None:
            problem = message.error()
            if problem is None:
                found.append((message.value() or b"").decode())
            elif problem.code() == KafkaError._PARTITION_EOF:
                break
        consumer.close()
        return found


@pytest.fixture(scope="session")
def records() -> type[Records]:
    return Records


@pytest.fixture(scope="session")
def jars() -> list[Path]:
    """The real jars from the user's cache, fetched if need be; without network a laptop skips and CI fails."""
    try:
        return ensure_jars(progress=False)
    except ServiceUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cluster(jars: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One node for the tests of a module that only look."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as running:
        yield running
