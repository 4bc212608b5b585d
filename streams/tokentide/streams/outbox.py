"""What leaves a worker: records through librdkafka, and the wait until Kafka has them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.schemas import DataLossError, KafkaSettings

__all__ = ["Delivery", "Outbox"]

_LOGGER = logging.getLogger(__name__)
_SILENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.002


class Delivery:
    """A group of records on their way."""

    def __init__(self, outbox: "Outbox") -> None:
        self._outbox = outbox
        self._sent = 0
        self._acked = 0
        self._all_acked: asyncio.Event | None = None
        self._last: dict[str, int] = {}

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """Enqueue one record; waits while librdkafka's queue is full. Raises DataLossError when it is refused."""
        self._sent += 1
        self._outbox.produce(topic, value, key, partition, headers, self._on_delivery)

    async def delivered(self) -> None:
        """Return when Kafka has acknowledged every record of the group; nothing more may be sent with it."""
        if self._all_acked is None:
            self._all_acked = asyncio.Event()
        if self._acked < self._sent:
            await self._all_acked.wait()

    def last_offset(self, topic: str) -> int | None:
        """Return the highest offset that a delivered record got in a topic; None where Kafka did not tell.

        Meant for groups with one partition a topic.
        """
        return self._last.get(topic)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._outbox.fail(f"{message.topic()}[{message.partition()}]: {error.str()}")
            return
        topic, offset = message.topic(), message.offset()
        if topic is not None and offset is not None and offset >= 0:
            self._last[topic] = max(offset, self._last.get(topic, -1))
        self._acked += 1
        if self._all_acked is not None and self._acked >= self._sent:
            self._all_acked.set()


class Outbox:
    """An idempotent producer whose records travel in groups that can be waited for; for the thread of one loop.

    Kafka's answers are taken in that thread, too, every two milliseconds while any is due. In a thread of their own
    each of them waited for the interpreter's lock: for five milliseconds while the loop is busy.

    A record that cannot be delivered before `message.timeout.ms` calls `on_failure` once: the process must
    then end, for what it remembers may not have been published. The timeout lies below the group's session
    timeout, so that a worker frozen for longer cannot send old state after a new owner's.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        session_timeout_seconds: float,
        on_failure: Callable[[DataLossError], None],
    ) -> None:
        self._on_failure = on_failure
        self._silent_until = 0.0
        self._producer = Producer(
            {
                **kafka.librdkafka(),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 1,
                "message.timeout.ms": max(1000, int(session_timeout_seconds * 800)),
                "message.max.bytes": 8_000_000,
                "queue.buffering.max.messages": 1_000_000,
                # Each failed connection is a line at level 3; `_on_error` sums them up.
                "log_level": 2,
                "error_cb": self._on_error,
            }
        )
        self._serving: asyncio.Task[None] | None = None

    def group(self) -> Delivery:
        """Return a new, empty group."""
        return Delivery(self)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]] | None,
        on_delivery: Callable[[KafkaError | None, Message], None],
    ) -> None:
        """Enqueue one record of a group."""
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    key=key,
                    partition=partition,
                    headers=list(headers) if headers else None,
                    on_delivery=on_delivery,
                )
            except BufferError:
                self._producer.poll(0.005)
            except KafkaException as error:
                raise DataLossError(f"a record for {topic} cannot be sent: {error}") from error
            else:
                break
        if self._serving is None or self._serving.done():
            self._serving = asyncio.get_running_loop().create_task(self._serve())

    def close(self) -> None:
        """Take no answers any more; whatever is still queued is dropped and will be sent again."""
        if self._serving is not None:
            self._serving.cancel()

    def fail(self, reason: str) -> None:
        """Report a record that will never be delivered."""
        self._on_failure(DataLossError(f"a record was not delivered: {reason}"))

    def _on_error(self, error: KafkaError) -> None:
        """Say once a minute that the broker is away: records wait, and are sent when it is back."""
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            _LOGGER.warning("Kafka cannot be reached now: %s", error.str())

    async def _serve(self) -> None:
        """Take the answers until none is due."""
        while len(self._producer):
            await asyncio.sleep(_LOOK_SECONDS)
            self._producer.poll(0)
