"""Records of long ago: their event time is years back, their record time is now, and nothing refuses either."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tokentide.console.broker import reach
from tokentide.console.kafka import KafkaCluster
from tokentide.console.topics import ensure_topics
from tokentide.schemas import KafkaSettings, TopicNames, plan_topics

_YEAR_SECONDS = 365 * 86_400
_FOREVER_MS = str(2**63 - 1)
_HOUR_MS = 3_600_000


def test_no_limit_on_record_times_refuses_what_we_send(cluster: KafkaCluster) -> None:
    topics = TopicNames()
    ensure_topics(reach(KafkaSettings(cluster.bootstrap)), plan_topics(topics, "meter", 1))
    client = AdminClient({"bootstrap.servers": cluster.bootstrap})

    (answer,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topics.events)]).values()
    settings = {name: str(entry.value) for name, entry in answer.result(20).items()}

    assert settings["message.timestamp.type"] == "CreateTime"
    assert settings["message.timestamp.before.max.ms"] == _FOREVER_MS
    assert int(settings["message.timestamp.after.max.ms"]) >= _HOUR_MS


def test_a_record_of_years_ago_is_stored_with_either_time(cluster: KafkaCluster) -> None:
    topics = TopicNames()
    ensure_topics(reach(KafkaSettings(cluster.bootstrap)), plan_topics(topics, "meter", 1))
    errors: list[KafkaError | None] = []
    long_ago = int(1000 * (time.time() - 3 * _YEAR_SECONDS))
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap, "on_delivery": lambda error, _message: errors.append(error)}
    )

    # Ours: the time is in the payload, and the record has the time at which it was produced.
    producer.produce(topics.events, b'{"timestamp":"2019-01-01T00:00:00Z"}')
    # Somebody else's, who sets the record's time to that of the event.
    producer.produce(topics.events, b'{"timestamp":"2019-01-01T00:00:00Z"}', timestamp=long_ago)
    producer.flush(20)

    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topics.events, 0, OFFSET_BEGINNING)])
    found = consumer.consume(2, 20)
    consumer.close()
    assert errors == [None, None]
    ages = [time.time() - message.timestamp()[1] / 1000 for message in found]
    assert [age < 60 for age in ages] == [True, False]
