"""Dead letters: rows that ClickHouse refuses, on their way to `usage.rejected`."""

import logging
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.schemas import DataLossError, KafkaSettings, Rejected

__all__ = ["DeadLetters", "Refuse"]

Refuse = Callable[[Sequence[Rejected]], None]
"""Returns when the rejections are stored for good; it blocks, and raises DataLossError when they are not."""

_LOGGER = logging.getLogger(__name__)
_DELIVERY_SECONDS = 20.0


class DeadLetters:
    """A Refuse that writes to a topic; any thread may call it. Nothing is connected before the first call."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def __call__(self, rejects: Sequence[Rejected]) -> None:
        """Send, and wait until all in-sync replicas have it."""
        with self._lock:
            problems: list[str] = []

            def on_delivery(error: KafkaError | None, _message: Message) -> None:
                if error is not None:
                    problems.append(error.str())

            try:
                producer = self._producer = self._producer or self._connect()
                for reject in rejects:
                    _LOGGER.warning("%s is rejected: %s", reject.place, reject.reason)
                    producer.produce(
                        self._topic,
                        reject.model_dump_json().encode(),
                        key=reject.place.encode(),
                        partition=reject.partition,
                        on_delivery=on_delivery,
                    )
                waiting = producer.flush(_DELIVERY_SECONDS)
            except (KafkaException, BufferError) as error:
                raise self._undelivered(str(error)) from error
            if problems or waiting:
                raise self._undelivered(problems[0] if problems else f"no answer for {_DELIVERY_SECONDS:g} s")

    def _connect(self) -> Producer:
        return Producer(
            {
                **self._kafka.librdkafka(),
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "message.timeout.ms": int(_DELIVERY_SECONDS * 1000) - 1000,
                "message.max.bytes": 8_000_000,
                "log_level": 2,
            }
        )

    def _undelivered(self, why: str) -> DataLossError:
        return DataLossError(f"a rejected row was not delivered to {self._topic}: {why}")
