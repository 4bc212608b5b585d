"""The lag of the pipeline, on a real Kafka; this file plays the workers by committing for their groups."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tokentide.console.broker import reach
from tokentide.console.lag import pipeline_lag, wait_until_settled
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import ensure_topics
from tokentide.schemas import KafkaSettings, ServiceUnavailableError, SettingsError, TopicNames

_NUMBERS = count(1)


@pytest.fixture
def settings(kafka: str) -> ConsoleSettings:
    """A pipeline of its own, with topics of two partitions and without a record."""
    number = next(_NUMBERS)
    names = {name: f"lag-{number}.{name}" for name in TopicNames.__dataclass_fields__}
    settings = ConsoleSettings(
        kafka=KafkaSettings(kafka),
        topics=TopicNames(**names),
        meter_id=f"lag-{number}-meter",
        sink_id=f"lag-{number}-sink",
        partitions=2,
    )
    ensure_topics(reach(settings.kafka), settings.topic_plans())
    return settings


def send(settings: ConsoleSettings, topic: str, *, records: int, partition: int = 0) -> None:
    producer = Producer(settings.kafka.librdkafka())
    for _ in range(records):
        producer.produce(topic, b"a record", partition=partition)
    assert producer.flush(20) == 0


def commit(settings: ConsoleSettings, group: str, topic: str, offset: int, partition: int = 0) -> None:
    worker = Consumer({**settings.kafka.librdkafka(), "group.id": group})
    worker.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
    worker.close()


def behind(settings: ConsoleSettings) -> dict[str, int]:
    """The topics with a lag, by the name of their setting."""
    return {name.partition(".")[2]: lag for name, lag in pipeline_lag(settings).items() if lag}


# First in this file on purpose: the broker has no coordinator for any group yet, and librdkafka's admin client
# would end this process with a segmentation fault.
def test_a_pipeline_that_never_ran_is_not_behind(settings: ConsoleSettings) -> None:
    topics = settings.topics

    lag = pipeline_lag(settings)

    assert lag == dict.fromkeys(
        [topics.alerts, topics.events, topics.priced, topics.rejected, topics.spend], 0
    )


def test_records_without_a_commit_are_behind_for_each_group_that_reads_them(
    settings: ConsoleSettings,
) -> None:
    for topic, records in [("events", 5), ("priced", 2), ("alerts", 1), ("limits", 9)]:
        send(settings, getattr(settings.topics, topic), records=records)

    lag = behind(settings)

    assert lag == {"events": 5, "priced": 2 + 2, "alerts": 1}


def test_a_commit_counts_for_its_group_and_partition_only(settings: ConsoleSettings) -> None:
    spend = settings.topics.spend
    send(settings, spend, records=10, partition=0)
    send(settings, spend, records=3, partition=1)
    commit(settings, settings.meter_id, spend, 10, partition=0)
    commit(settings, settings.sink_id, spend, 4, partition=0)

    lag = behind(settings)

    assert lag == {"spend": 0 + 3 + 6 + 3}


def test_records_that_retention_removed_are_not_behind(settings: ConsoleSettings) -> None:
    events = settings.topics.events
    send(settings, events, records=10, partition=0)
    send(settings, events, records=10, partition=1)
    commit(settings, settings.meter_id, events, 2, partition=1)
    admin = AdminClient(settings.kafka.librdkafka())
    removal = admin.delete_records([TopicPartition(events, 0, 7), TopicPartition(events, 1, 6)])
    for answer in removal.values():
        answer.result(20)

    lag = behind(settings)

    assert lag == {"events": 3 + 4}


def test_looking_joins_no_group(settings: ConsoleSettings) -> None:
    admin = AdminClient(settings.kafka.librdkafka())

    pipeline_lag(settings)

    groups = admin.list_consumer_groups().result(20)

    assert {group.group_id for group in groups.valid}.isdisjoint({settings.meter_id, settings.sink_id})


def test_settled_means_nothing_behind_twice_in_a_row(settings: ConsoleSettings) -> None:
    rejected = settings.topics.rejected
    looks: list[int] = []
    pauses: list[float] = []

    def meanwhile(seconds: float) -> None:
        """One more record comes after the first look, and is dealt with after the second."""
        pauses.append(seconds)
        if len(pauses) == 1:
            send(settings, rejected, records=1)
        if len(pauses) == 2:
            commit(settings, settings.sink_id, rejected, 1)

    def note(lag: Mapping[str, int]) -> None:
        looks.append(lag[rejected])

    wait_until_settled(settings, 60, note, sleep=meanwhile)

    assert looks == [0, 1, 0, 0]
    assert pauses == [0.5] * 3


def test_a_pipeline_that_stays_behind_is_named_at_the_timeout(settings: ConsoleSettings) -> None:
    send(settings, settings.topics.alerts, records=4)
    send(settings, settings.topics.events, records=2)
    seconds = count(0.0, 10.0)

    with pytest.raises(ServiceUnavailableError) as raised:
        wait_until_settled(settings, 25, clock=lambda: next(seconds), sleep=lambda seconds: None)

    assert str(raised.value) == (
        f"After 25 s the pipeline is still behind: {settings.topics.alerts} by 4 records, {settings.topics.events} "
        "by 2 records; check that the meter and sink workers run (`tokentide doctor`) or wait longer."
    )
    assert next(seconds) == 40.0


def test_a_missing_topic_is_named(settings: ConsoleSettings) -> None:
    elsewhere = replace(
        settings, topics=replace(settings.topics, events="usage.evnets", alerts="usage.alrts")
    )

    with pytest.raises(SettingsError, match=r"lacks the topics usage\.alrts, usage\.evnets; .*topics init"):
        pipeline_lag(elsewhere)
