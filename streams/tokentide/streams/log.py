"""Reading the log directly: without a group, without Faust."""

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tokentide.schemas import KafkaSettings, ServiceUnavailableError
from tokentide.schemas.chunk import Record
from tokentide.schemas.failures import Handling, kafka_handling

__all__ = ["Log"]

_TIMEOUT_SECONDS = 30.0
_LOOK_SECONDS = 0.1
# What passes: a topic that was just made, a node that was just lost.
_MOVING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class Log:
    """Blocking reads of single partitions; call it in a thread.

    Raises ServiceUnavailableError when the broker does not answer within half a minute.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def partitions(self, topics: list[str]) -> dict[str, int]:
        """Return how many partitions each topic has; a topic that does not exist has none."""
        consumer = self._consumer()
        try:
            known = consumer.list_topics(timeout=10).topics
        except KafkaException as error:
            raise self._unavailable(error) from error
        finally:
            consumer.close()
        return {topic: len(known[topic].partitions) if topic in known else 0 for topic in topics}

    def read(self, topic: str, partition: int, start: int) -> Iterator[Record]:
        """Yield the records from `start` (or the log's start) to the end that the log has at the call."""
        consumer = self._consumer()
        try:
            at = TopicPartition(topic, partition)
            low, high = _ends(consumer, at)
            if max(low, start) >= high:
                return
            at.offset = max(low, start)
            consumer.assign([at])
            deadline = time.monotonic() + _TIMEOUT_SECONDS
            while True:
                messages = consumer.consume(1000, timeout=0.05)
                for message in messages:
                    error = message.error()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            # A leader that is new may not know yet of the last records, though they are stored.
                            end = message.offset()
                            if end is not None and end >= high:
                                return
                            continue
                        if kafka_handling(error.code()) is Handling.RETRY:
                            continue  # librdkafka tries again by itself; the deadline goes on
                        raise KafkaException(error)
                    deadline = time.monotonic() + _TIMEOUT_SECONDS
                    offset = message.offset()
                    assert offset is not None
                    if offset >= high:
                        return
                    yield Record(
                        offset,
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        tuple(message.headers() or ()),  # type: ignore[arg-type]
                    )
                    if offset + 1 >= high:
                        return
                if time.monotonic() > deadline:
                    raise ServiceUnavailableError(
                        f"{topic}[{partition}] at {self._kafka.broker} gave no record for {_TIMEOUT_SECONDS:.0f} "
                        "seconds; check the broker"
                    )
        except KafkaException as error:
            raise self._unavailable(error) from error
        finally:
            consumer.close()

    def committed(self, group: str, topic: str, partition: int) -> int | None:
        """Return the offset that a consumer group has committed, or None when it has not; joins no group."""
        consumer = self._consumer(group)
        try:
            (place,) = consumer.committed([TopicPartition(topic, partition)], timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._unavailable(error) from error
        finally:
            consumer.close()
        return place.offset if place.offset >= 0 else None

    def first_offset(self, topic: str, partition: int, start: int) -> int | None:
        """Return the offset of the first record at or after `start`, or None when there is none."""
        return next((record.offset for record in self.read(topic, partition, start)), None)

    def unread(self, topic: str, partition: int, position: int) -> int:
        """Return how many offsets lie between the position, or the log's start, and the log's end."""
        low, high = self._watermarks(topic, partition)
        return max(0, high - max(low, position))

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        return self._watermarks(topic, partition)[1]

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = self._consumer()
        try:
            at = TopicPartition(topic, partition)
            return consumer.get_watermark_offsets(at, timeout=_TIMEOUT_SECONDS, cached=False)
        except KafkaException as error:
            raise self._unavailable(error) from error
        finally:
            consumer.close()

    def _consumer(self, group: str = "tokentide-log-reader") -> Consumer:
        return Consumer(
            {
                **self._kafka.librdkafka(),
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.max.bytes": 16_000_000,
                # Many partitions are recovered at once, and librdkafka would put 64 MB aside for each.
                "queued.min.messages": 10_000,
                "queued.max.messages.kbytes": 8192,
                "log_level": 2,
            }
        )

    def _unavailable(self, error: KafkaException) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"the broker at {self._kafka.broker} does not answer ({error.args[0].str()}); start it or set "
            "TOKENTIDE_BROKER"
        )


def _ends(consumer: Consumer, at: TopicPartition) -> tuple[int, int]:
    """Return the first offset of the partition and the one after its last; waits for a leader that is on the move."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        try:
            return consumer.get_watermark_offsets(at, timeout=_TIMEOUT_SECONDS, cached=False)
        except KafkaException as error:
            if error.args[0].code() not in _MOVING or time.monotonic() > deadline:
                raise
        time.sleep(_LOOK_SECONDS)
