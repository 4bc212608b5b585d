"""Records for somebody who waits: all stored, or one sentence that says what to do."""

import uuid

import pytest
from support.door import create_topic
from support.oracle import read_topic

from tokentide.console.kafka.ports import free_ports
from tokentide.console.publish import Outgoing, publish
from tokentide.schemas import KafkaSettings, ServiceUnavailableError


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic of four partitions."""
    name = f"publish-{uuid.uuid4().hex}"
    create_topic(kafka, name)
    return name


def test_a_record_is_stored_as_it_is_before_its_offset_is_told(kafka: str, topic: str) -> None:
    record = Outgoing(b"key", b"value", 2, (("name", b"said"),))

    offsets = [publish(KafkaSettings(kafka), topic, [record], "try again") for _ in range(2)]

    assert offsets == [0, 1]
    for message in read_topic(kafka, topic):
        assert (message.key(), message.value(), message.partition()) == (b"key", b"value", 2)
        assert message.headers() == [("name", b"said")]


def test_without_a_partition_the_key_chooses_one_and_a_tombstone_has_no_value(kafka: str, topic: str) -> None:
    records = [Outgoing(f"key-{number % 20}".encode(), None) for number in range(100)]

    publish(KafkaSettings(kafka), topic, records, "try again")

    stored = read_topic(kafka, topic)
    assert {message.value() for message in stored} == {None}
    assert len(stored) == 100
    assert len({(message.key(), message.partition()) for message in stored}) == 20
    assert len({message.partition() for message in stored}) > 1


def test_more_records_than_may_be_on_the_way_are_all_stored(kafka: str, topic: str) -> None:
    publish(
        KafkaSettings(kafka), topic, (Outgoing(b"%d" % number, b"") for number in range(25_000)), "try again"
    )

    assert {message.key() for message in read_topic(kafka, topic)} == {
        b"%d" % number for number in range(25_000)
    }


def test_nothing_to_write_is_no_offset(kafka: str, topic: str) -> None:
    assert publish(KafkaSettings(kafka), topic, [], "try again") is None


def test_what_kafka_refuses_is_said_with_the_way_out(kafka: str, topic: str) -> None:
    records = [Outgoing(None, b"small"), Outgoing(None, bytes(9_000_000)), Outgoing(None, b"never sent")]

    with pytest.raises(
        ServiceUnavailableError, match=rf"did not store all of {topic}: .*too large; run it again\.$"
    ):
        publish(KafkaSettings(kafka), topic, records, "run it again")

    assert [message.value() for message in read_topic(kafka, topic)] == [b"small"]


def test_a_kafka_that_is_away_is_said_in_time() -> None:
    (nowhere,) = free_ports(1)

    with pytest.raises(
        ServiceUnavailableError,
        match=rf"^Kafka at 127\.0\.0\.1:{nowhere} did not store all of t: .+; try again\.$",
    ):
        publish(
            KafkaSettings(f"127.0.0.1:{nowhere}"), "t", [Outgoing(None, b"v")] * 3, "try again", seconds=2
        )
