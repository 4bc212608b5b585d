"""Reading the log directly: to the end it has now, and no further."""

import asyncio
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition

from tokentide.schemas import KafkaSettings, ServiceUnavailableError
from tokentide.schemas.chunk import Record
from tokentide.streams.control import ControlTopic
from tokentide.streams.log import Log

Write = Callable[[int, int], None]


def test_a_partition_is_read_from_anywhere_to_its_end(kafka: KafkaSettings, topic: str, write: Write) -> None:
    write(2, 2500)
    log = Log(kafka)

    everything = list(log.read(topic, 2, 0))

    assert [record.offset for record in everything] == list(range(2500))
    assert everything[7].value == b"7"
    assert everything[7].key == b"key"
    assert [record.offset for record in log.read(topic, 2, 2498)] == [2498, 2499]
    assert list(log.read(topic, 2, 2500)) == []
    assert list(log.read(topic, 1, 0)) == []


def test_the_first_record_behind_an_offset_is_found(kafka: KafkaSettings, topic: str, write: Write) -> None:
    write(0, 5)
    log = Log(kafka)

    assert log.first_offset(topic, 0, 3) == 3
    assert log.first_offset(topic, 0, 5) is None


def test_the_end_is_the_offset_of_the_next_record(kafka: KafkaSettings, topic: str, write: Write) -> None:
    write(1, 7)

    assert [Log(kafka).end(topic, partition) for partition in (0, 1)] == [0, 7]


def test_a_commit_of_the_group_is_seen_without_joining_it(
    kafka: KafkaSettings, topic: str, write: Write
) -> None:
    write(0, 5)
    consumer = Consumer({**kafka.librdkafka(), "group.id": topic})
    consumer.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    consumer.close()

    assert Log(kafka).committed(topic, topic, 0) == 4
    assert Log(kafka).committed(topic, topic, 1) is None


def test_partitions_are_counted_and_a_missing_topic_has_none(kafka: KafkaSettings, topic: str) -> None:
    assert Log(kafka).partitions([topic, "no-such-topic"]) == {topic: 4, "no-such-topic": 0}


def test_a_broker_that_is_away_is_named() -> None:
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1 does not answer .*TOKENTIDE_BROKER"):
        Log(KafkaSettings("127.0.0.1:1")).partitions(["topic"])


def test_a_control_topic_is_applied_whole_before_work_begins_and_followed_afterwards(
    kafka: KafkaSettings, topic: str, write: Write
) -> None:
    write(0, 3)
    seen: list[Record] = []

    async def scenario() -> None:
        control = ControlTopic(kafka, topic, seen.append)
        await control.follow()
        assert [record.value for record in seen] == [b"0", b"1", b"2"]
        await asyncio.to_thread(write, 0, 1)
        async with asyncio.timeout(10):
            while len(seen) < 4:
                await asyncio.sleep(0.02)
        control.stop()

    asyncio.run(scenario())

    assert [record.offset for record in seen] == [0, 1, 2, 3]
