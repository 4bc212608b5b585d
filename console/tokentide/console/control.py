"""Control topics as people use them: read whole; and what pydantic says of a wrong one, in our words."""

import re
from collections.abc import Iterator
from contextlib import closing

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)
from pydantic import ValidationError

from tokentide.console.broker import QUIET, reach
from tokentide.schemas import KafkaSettings, ServiceUnavailableError, SettingsError

__all__ = ["problem_words", "read_control"]

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
