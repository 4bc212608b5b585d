"""Reading a topic as it stands now: from its first record to the end it had when reading began."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tokentide.schemas import DataLossError, KafkaSettings, ServiceUnavailableError, SettingsError

__all__ = ["LogRecord", "Span", "TopicLog"]

_ANSWER_SECONDS = 15.0
_BATCH = 2_000
_BATCH_SECONDS = 0.05


class LogRecord(NamedTuple):
    """One record of a topic; `timestamp_ms` is Kafka's, in Unix milliseconds."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets of a partition that are read: from `start` on, without `end`."""

    partition: int
    start: int
    end: int


class TopicLog:
    """One topic, seen by a consumer without a group: nothing is committed, nobody is disturbed.

    The spans are fixed when it is opened. Raises SettingsError when there is no such topic and
    ServiceUnavailableError when Kafka does not answer.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, *, silence_seconds: float = 30.0) -> None:
        """`silence_seconds`: how long Kafka may send nothing while records are missing."""
        self._kafka = kafka
        self._topic = topic
        self._silence_seconds = silence_seconds
        self._consumer = Consumer(
            {
                **kafka.librdkafka(),
                # assign() needs a name; no group is joined and no offset committed.
                "group.id": "tokentide-audit",
                "client.id": "tokentide-audit",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                # Folding is slower than fetching; librdkafka would put 64 MB aside.
                "queued.min.messages": 10_000,
                "queued.max.messages.kbytes": 16_384,
                "error_cb": lambda error: None,
                "log_level": 0,
            }
        )
        try:
            self.spans = self._spans()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave Kafka; closing twice is harmless."""
        self._consumer.close()

    def has_grown(self) -> bool:
        """Return whether records came after the end of the spans. Raises what opening raises."""
        return any(now.end > then.end for now, then in zip(self._spans(), self.spans, strict=False))

    def records(self) -> Iterator[LogRecord]:
        """Yield the records of all spans, each partition's in the order of its offsets.

        Raises ServiceUnavailableError when Kafka falls silent, and DataLossError when retention removed
        records while they were read.
        """
        unread = {span.partition: span for span in self.spans if span.start < span.end}
        self._consumer.assign(
            [TopicPartition(self._topic, span.partition, span.start) for span in unread.values()]
        )
        heard = time.monotonic()
        while unread:
            # Waits for a whole batch: near the end of the log there is none, so it must not wait for long.
            messages = self._consumer.consume(_BATCH, _BATCH_SECONDS)
            is_silent = True
            for message in messages:
                partition, offset = _place(message)
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    self._check(error)
                    continue
                if partition not in unread:
                    continue
                is_silent = False
                if error is None and offset < unread[partition].end:
                    yield LogRecord(partition, offset, message.timestamp()[1], message.key(), message.value())
                # The last record, or the end where compaction has removed the last ones.
                if offset + 1 >= unread[partition].end:
                    del unread[partition]
                    self._consumer.pause([TopicPartition(self._topic, partition)])
            if not is_silent:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._silence_seconds:
                raise self._silent(f"sent nothing for {self._silence_seconds:g} s")
        self._consumer.unassign()

    def _check(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise DataLossError(
                f"retention removed records of {self._topic} while they were read; run the audit again"
            )
        if error.fatal() or not error.retriable():
            raise self._silent(f"refused to send: {error.str()}")

    def _spans(self) -> list[Span]:
        try:
            metadata = self._consumer.list_topics(self._topic, _ANSWER_SECONDS).topics[self._topic]
            if metadata.error is not None:
                raise SettingsError(
                    f"Kafka at {self._kafka.broker} has no topic {self._topic} ({metadata.error.str()}); "
                    "check its name, or run `tokentide topics init`"
                )
            found = []
            for partition in sorted(metadata.partitions):
                start, end = self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, partition), _ANSWER_SECONDS
                )
                found.append(Span(partition, start, end))
        except KafkaException as error:
            raise self._silent(f"does not answer: {error.args[0].str()}") from error
        return found

    def _silent(self, what: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(
            f"Kafka at {self._kafka.broker} {what} ({self._topic}); check that it is up and try again"
        )


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    return (-1 if partition is None else partition, -1 if offset is None else offset)
