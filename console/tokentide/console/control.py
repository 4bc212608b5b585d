"""Control topics as people use them: read whole, and written one record at a time."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from pydantic import ValidationError

from tokentide.console.broker import QUIET, reach
from tokentide.schemas import KafkaSettings, ServiceUnavailableError, SettingsError

__all__ = ["problem_words", "read_control", "write_control"]

_DELIVERY_SECONDS = 15.0
_READ_SECONDS = 20.0
# What pydantic puts before the words that matter.
_DECORATION = re.compile(r"^(Value error, |(Decimal input|Input|String|Tuple) )")
# The client wants a group; `assign` without commits leaves no trace of it on the cluster.
_NO_GROUP = "tokentide-control-reader"


def read_control(kafka: KafkaSettings, topic: str) -> Iterator[Message]:
    """Yield every record that the topic holds now, in its order; joins no group and commits nothing.

    Raises ServiceUnavailableError when Kafka does not answer, SettingsError when the topic does not exist.
    """
    metadata = reach(kafka).metadata.topics.get(topic)
    if metadata is None:
        raise SettingsError(
            f"The topic {topic} does not exist on {kafka.broker}; create it with `tokentide topics init`."
        )
    consumer = Consumer(
        {
            **kafka.librdkafka(),
            **QUIET,
            "group.id": _NO_GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # A person waits: the defaults are made for streams, and cost half a second each.
            "fetch.wait.max.ms": 10,
            "fetch.error.backoff.ms": 10,
            "error_cb": lambda _error: None,
        }
    )
    with closing(consumer):
        unread = set(metadata.partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
        while unread:
            message = consumer.poll(_READ_SECONDS)
            if message is None:
                raise ServiceUnavailableError(
                    f"Kafka at {kafka.broker} sent nothing of {topic} for {_READ_SECONDS:.0f} s; try again."
                )
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                raise ServiceUnavailableError(f"{topic} cannot be read: {error.str()}.")


def write_control(
    kafka: KafkaSettings,
    topic: str,
    key: str,
    value: bytes | None,
    headers: Mapping[str, bytes] | None = None,
) -> None:
    """Return when the record is stored by all in-sync replicas; raises ServiceUnavailableError when it is not."""
    problems: list[str] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            problems.append(error.str())

    producer = Producer(
        {
            **kafka.librdkafka(),
            **QUIET,
            "enable.idempotence": True,
            "message.timeout.ms": int(_DELIVERY_SECONDS * 1000) - 1000,
            "error_cb": lambda _error: None,
        }
    )
    try:
        producer.produce(
            topic,
            key=key.encode(),
            value=value,
            headers=dict(headers or {}),
            on_delivery=delivered,
        )
        undelivered = producer.flush(_DELIVERY_SECONDS)
    except KafkaException as error:
        raise ServiceUnavailableError(f"{topic} cannot be written: {error.args[0].str()}.") from error
    if undelivered or problems:
        reason = problems[0] if problems else f"no answer within {_DELIVERY_SECONDS:.0f} s"
        raise ServiceUnavailableError(f"Kafka at {kafka.broker} did not store the record of {key}: {reason}.")


def problem_words(error: ValidationError) -> str:
    """Say what pydantic found, as parts of one sentence."""
    problems = error.errors(include_url=False)
    places = [problem["loc"] for problem in problems]
    parts = []
    for problem in problems:
        place = problem["loc"]
        # Of a list with a wrong entry pydantic also says that it is too short without it.
        if any(other[: len(place)] == place and other != place for other in places):
            continue
        name = ".".join(map(str, place))
        said = _DECORATION.sub("", problem["msg"])
        parts.append(f"{name} {said}" if name else said)
    return "; ".join(parts)
