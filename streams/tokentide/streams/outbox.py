"""What leaves a worker: records through librdkafka, and the wait until Kafka has them."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.schemas import DataLossError, KafkaSettings

__all__ = ["Outbox"]


class _Batch:
    """Records sent between two barriers; `sent` belongs to the loop's thread, `acked` to the polling one."""

    def __init__(self, on_failure: Callable[[str], None]) -> None:
        self.sent = 0
        self.acked = 0
        self.done: Callable[[], None] | None = None
        self._on_failure = on_failure

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._on_failure(f"{message.topic()}[{message.partition()}]: {error.str()}")
            return
        self.acked += 1
        if self.done is not None and self.acked >= self.sent:
            self.done()


class Outbox:
    """An idempotent producer with barriers.

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
        self._batch = _Batch(self._fail)
        self._producer = Producer(
            {
                **kafka.librdkafka(),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 5,
                "message.timeout.ms": max(1000, int(session_timeout_seconds * 800)),
                "message.max.bytes": 4_000_000,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 3,
            }
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="tokentide-outbox", daemon=True)
        self._thread.start()

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """Enqueue one record; waits while librdkafka's queue is full."""
        batch = self._batch
        batch.sent += 1
        while True:
            try:
                self._producer.produce(
                    topic,
                    value,
                    key=key,
                    partition=partition,
                    headers=list(headers) if headers else None,
                    on_delivery=batch.on_delivery,
                )
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                raise DataLossError(f"a record for {topic} cannot be sent: {error}") from error
            else:
                return

    async def barrier(self) -> None:
        """Return when Kafka has acknowledged everything sent before the call."""
        batch, self._batch = self._batch, _Batch(self._fail)
        loop = asyncio.get_running_loop()
        delivered = asyncio.Event()
        batch.done = lambda: loop.call_soon_threadsafe(delivered.set)
        if batch.acked < batch.sent:
            await delivered.wait()

    def close(self) -> None:
        """Stop serving delivery reports; whatever is still queued is dropped and will be sent again."""
        self._stopped.set()
        self._thread.join(timeout=2)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            self._producer.poll(0.1)

    def _fail(self, reason: str) -> None:
        self._on_failure(DataLossError(f"a record was not delivered: {reason}"))
