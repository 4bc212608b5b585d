"""Writing records to Kafka for somebody who waits: a command goes on when all of them are stored."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.console.broker import QUIET
from tokentide.schemas import KafkaSettings, ServiceUnavailableError

__all__ = ["Outgoing", "publish"]

_MOST_ON_THE_WAY = 10_000
_MOST_BYTES = 8_000_000
_BY_KEY = -1

Delivered = Callable[[KafkaError | None, Message], None]


class Outgoing(NamedTuple):
    """A record to be written; without a partition, into that of its key."""

    key: bytes | None
    value: bytes | None
    partition: int = _BY_KEY
    headers: tuple[tuple[str, str | bytes | None], ...] = ()


def publish(
    kafka: KafkaSettings, topic: str, records: Iterable[Outgoing], way_out: str, *, seconds: float = 15.0
) -> int | None:
    """Return when all in-sync replicas have stored the records: the offset of what was stored last.

    Raises ServiceUnavailableError, which says the `way_out`, when one is not stored within so many seconds; others
    may be stored then.
    """
    problems: list[str] = []
    offset: int | None = None

    def delivered(error: KafkaError | None, message: Message) -> None:
        nonlocal offset
        if error is None:
            offset = message.offset()
        else:
            problems.append(error.str())

    producer = Producer(
        {
            **kafka.librdkafka(),
            **QUIET,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "message.max.bytes": _MOST_BYTES,
            # A second earlier than we give up, so that the reason is Kafka's.
            "message.timeout.ms": int(seconds * 1000) - 1000,
            "queue.buffering.max.messages": _MOST_ON_THE_WAY,
            "error_cb": lambda _error: None,
        }
    )
    try:
        for record in records:
            while not problems and not _is_taken(producer, topic, record, delivered):
                producer.poll(0.1)
            if problems:
                break
            producer.poll(0)
    except KafkaException as error:
        problems.append(error.args[0].str())
    undelivered = producer.flush(seconds)
    if undelivered or problems:
        reason = problems[0] if problems else f"no answer within {seconds:.0f} s"
        raise ServiceUnavailableError(
            f"Kafka at {kafka.broker} did not store all of {topic}: {reason}; {way_out}."
        )
    return offset


def _is_taken(producer: Producer, topic: str, record: Outgoing, delivered: Delivered) -> bool:
    try:
        producer.produce(
            topic,
            record.value,
            record.key,
            partition=record.partition,
            headers=list(record.headers),
            on_delivery=delivered,
        )
    except BufferError:
        return False
    return True
