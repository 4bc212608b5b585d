"""Reading a topic as it stands, on a real Kafka that loses records or falls silent meanwhile."""

import re
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tokentide.console.audit.log import Span, TopicLog
from tokentide.console.kafka import KafkaCluster
from tokentide.schemas import DataLossError, KafkaSettings, ServiceUnavailableError, SettingsError

TOPIC = "records"


def send(bootstrap: str, partition: int, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for value in values:
        producer.produce(TOPIC, value, b"key", partition=partition, timestamp=1_762_164_000_000)
    assert producer.flush(20) == 0


@pytest.fixture
def topic(bootstrap: str) -> str:
    """The address of a Kafka with an empty topic of two partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if TOPIC in admin.list_topics(timeout=10).topics:
        admin.delete_topics([TOPIC])[TOPIC].result(20)
    admin.create_topics([NewTopic(TOPIC, 2, 1)])[TOPIC].result(20)
    return bootstrap


def test_records_that_came_before_it_was_opened_are_read(topic: str) -> None:
    send(topic, 0, [b"a", b"b"])
    send(topic, 1, [b"c"])
    log = TopicLog(KafkaSettings(topic), TOPIC)
    assert not log.has_grown()
    send(topic, 0, [b"too late"])

    records = list(log.records())

    assert log.spans == [Span(0, 0, 2), Span(1, 0, 1)]
    assert sorted(records) == [
        (0, 0, 1_762_164_000_000, b"key", b"a"),
        (0, 1, 1_762_164_000_000, b"key", b"b"),
        (1, 0, 1_762_164_000_000, b"key", b"c"),
    ]
    assert log.has_grown()
    log.close()


def test_records_that_retention_removes_meanwhile_stop_the_audit(topic: str) -> None:
    send(topic, 0, [b"a", b"b", b"c"])
    log = TopicLog(KafkaSettings(topic), TOPIC)
    admin = AdminClient({"bootstrap.servers": topic})
    admin.delete_records([TopicPartition(TOPIC, 0, 2)])[TopicPartition(TOPIC, 0, 2)].result(20)

    with pytest.raises(DataLossError, match=r"retention removed records of records .* run the audit again"):
        list(log.records())
    log.close()


def test_a_missing_topic_is_wrong_use(bootstrap: str) -> None:
    with pytest.raises(SettingsError, match=r"has no topic usage\.evnets .*tokentide topics init"):
        TopicLog(KafkaSettings(bootstrap), "usage.evnets")


def test_a_kafka_that_falls_silent_ends_the_audit(tmp_path: Path) -> None:
    with KafkaCluster(tmp_path) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, 2, 1)])[TOPIC].result(20)
        send(cluster.bootstrap, 0, [b"a"])
        log = TopicLog(KafkaSettings(cluster.bootstrap), TOPIC, silence_seconds=1)
        cluster.kill(1)

        with pytest.raises(ServiceUnavailableError, match=re.escape(cluster.bootstrap)):
            list(log.records())
        log.close()
