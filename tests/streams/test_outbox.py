"""The outbox: a group is delivered when each of its records is, and a record that never will be ends the process."""

import asyncio
from collections.abc import Callable

from tokentide.schemas import DataLossError, KafkaSettings
from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox


def values(kafka: KafkaSettings, topic: str, partition: int) -> list[bytes | None]:
    return [record.value for record in Log(kafka).read(topic, partition, 0)]


def test_delivered_means_that_kafka_has_every_record(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> None:
        outbox = Outbox(kafka, 30.0, lambda error: None)
        group = outbox.group()
        for number in range(1000):
            group.send(topic, str(number).encode(), key=b"k", partition=number % 4)
        await group.delivered()
        outbox.close()

    asyncio.run(scenario())

    assert [len(values(kafka, topic, partition)) for partition in range(4)] == [250] * 4
    assert values(kafka, topic, 1)[:2] == [b"1", b"5"]


def test_a_delivered_group_knows_its_last_offset_in_a_topic(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> list[int | None]:
        outbox = Outbox(kafka, 30.0, lambda error: None)
        found = []
        for count in (3, 2):
            group = outbox.group()
            for _ in range(count):
                group.send(topic, b"x", partition=0)
            await group.delivered()
            found.append(group.last_offset(topic))
        outbox.close()
        return [*found, group.last_offset("another")]

    assert asyncio.run(scenario()) == [2, 4, None]


def test_an_empty_group_is_delivered_at_once(kafka: KafkaSettings) -> None:
    async def scenario() -> None:
        outbox = Outbox(kafka, 30.0, lambda error: None)
        await outbox.group().delivered()
        outbox.close()

    asyncio.run(asyncio.wait_for(scenario(), 5))


def test_two_may_wait_for_one_group(kafka: KafkaSettings, topic: str) -> None:
    async def scenario() -> None:
        outbox = Outbox(kafka, 30.0, lambda error: None)
        group = outbox.group()
        group.send(topic, b"x", partition=0)
        await asyncio.gather(group.delivered(), group.delivered())
        outbox.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_record_that_is_not_delivered_in_time_is_reported() -> None:
    failures: list[DataLossError] = []

    async def scenario() -> None:
        outbox = Outbox(KafkaSettings("127.0.0.1:1"), 1.25, failures.append)
        outbox.group().send("topic", b"x", partition=0)
        await _until(lambda: bool(failures))
        outbox.close()

    asyncio.run(asyncio.wait_for(scenario(), 20))

    assert "a record was not delivered: topic[0]" in str(failures[0])


async def _until(is_done: Callable[[], bool]) -> None:
    while not is_done():
        await asyncio.sleep(0.05)
