"""Keeps a view of the limits fresh, in a thread of its own."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from tokentide.producers.complaints import Complaints, LibrdkafkaLog, reason_of
from tokentide.producers.guard_settings import GuardSettings
from tokentide.producers.limits_view import LimitsView

__all__ = ["LimitsReader"]

_POLL_SECONDS = 0.25
_BATCH = 500
# How often the ends of the partitions are asked for: while the view is being loaded, and then.
_LOADING_SECONDS = 0.25
_CHECK_SECONDS = 5.0
_REQUEST_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_MADE_ANEW = "the topic is shorter than it was: it was made anew, and is read again"
_REBUILD = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}
)


class LimitsReader:
    """Reads the whole topic, again and again to its end; whatever fails is logged and tried again.

    `fresh(view, as_of)` is called, from the thread of the reader, whenever the view is known to hold all that
    was in the topic at the moment `as_of`.
    """

    def __init__(
        self,
        settings: GuardSettings,
        view: LimitsView,
        fresh: Callable[[LimitsView, datetime], None],
        complaints: Complaints,
    ) -> None:
        self._settings = settings
        self._view = view
        self._fresh = fresh
        self._complaints = complaints
        self._stopping = threading.Event()
        self._reached: dict[int, int] = {}
        self.consumer: Consumer | None = None
        self.thread = threading.Thread(target=self._run, name="tokentide-guard", daemon=True)

    def stop(self, timeout: float) -> None:
        """Stop within about a second, or leave the thread to end by itself after `timeout` seconds."""
        self._stopping.set()
        if self.thread.ident is not None:
            self.thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except Exception as error:  # the service goes on with the limits it knows
                self._complaints.warn(
                    "reading",
                    f"limits cannot be read from {self._settings.topic} at {self._settings.kafka.broker}: "
                    f"{reason_of(error)}",
                )
                self._stopping.wait(_RETRY_SECONDS)
                self._view = LimitsView(self._complaints)

    def _read(self) -> None:
        """Read from the beginning until the reader is stopped, or raise."""
        consumer = self.consumer = Consumer(
            {**self._settings.librdkafka(), "error_cb": self._on_error, "logger": LibrdkafkaLog()}
        )
        try:
            partitions = self._partitions(consumer)
            consumer.assign(
                [TopicPartition(self._settings.topic, each, OFFSET_BEGINNING) for each in partitions]
            )
            self._reached = dict.fromkeys(partitions, 0)
            due = time.monotonic()
            while not self._stopping.is_set():
                self._take(consumer)
                if time.monotonic() >= due:
                    is_fresh = self._check(consumer)
                    due = time.monotonic() + (_CHECK_SECONDS if is_fresh else _LOADING_SECONDS)
        finally:
            self.consumer = None
            consumer.close()

    def _partitions(self, consumer: Consumer) -> list[int]:
        """Ask until Kafka answers; short requests, for the stop must not wait long."""
        name = self._settings.topic
        while not self._stopping.is_set():
            try:
                topic = consumer.list_topics(name, timeout=_REQUEST_SECONDS).topics[name]
            except KafkaException as error:
                self._complaints.warn(
                    "unreachable", f"limits are not known: {self._settings.kafka.broker}: {reason_of(error)}"
                )
                self._stopping.wait(_LOADING_SECONDS)
                continue
            if topic.error is not None:
                raise KafkaException(topic.error)
            return list(topic.partitions)
        return []

    def _take(self, consumer: Consumer) -> None:
        """Apply what came; wait a moment when nothing did."""
        first = consumer.poll(_POLL_SECONDS)
        messages = [] if first is None else [first, *consumer.consume(_BATCH, timeout=0)]
        for message in messages:
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is not None and error.code() in _REBUILD:
                raise KafkaException(error)
            is_end = error is not None and error.code() == KafkaError._PARTITION_EOF
            if partition is None or offset is None or (error is not None and not is_end):
                continue  # librdkafka tries again by itself
            if offset < self._reached[partition]:
                raise RuntimeError(_MADE_ANEW)
            if is_end:
                # It may lie behind the last record: deleted ones leave holes.
                self._reached[partition] = offset
            else:
                self._view.apply(
                    _bytes(message.key()), _bytes(message.value()), message.timestamp()[1] / 1000
                )
                self._reached[partition] = offset + 1

    def _check(self, consumer: Consumer) -> bool:
        """Tell that the view is fresh, if it reaches the ends that the partitions have now."""
        as_of = datetime.now(UTC)
        asked = [TopicPartition(self._settings.topic, each, OFFSET_END) for each in self._reached]
        try:
            ends = consumer.offsets_for_times(asked, timeout=_REQUEST_SECONDS)
        except KafkaException as error:
            self._complaints.warn("ends", f"it is not known how fresh the limits are: {reason_of(error)}")
            return False
        if any(end.error is not None for end in ends):
            return False
        if any(end.offset < self._reached[end.partition] for end in ends):
            raise RuntimeError(_MADE_ANEW)
        if any(end.offset > self._reached[end.partition] for end in ends):
            return False
        self._fresh(self._view, as_of)
        return True

    def _on_error(self, error: KafkaError) -> None:
        self._complaints.warn(
            "unreachable",
            f"Kafka at {self._settings.kafka.broker} does not answer: {error.str()}; limits are not renewed",
        )


def _bytes(value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else None
