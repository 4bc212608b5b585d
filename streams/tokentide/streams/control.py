"""Control topics: small, read whole by every worker, without a group."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tokentide.schemas import KafkaSettings, ServiceUnavailableError
from tokentide.schemas.chunk import Record

__all__ = ["ControlTopic"]

_LOGGER = logging.getLogger(__name__)
_FIRST_READ_SECONDS = 60.0


class ControlTopic:
    """Follows a topic of one partition; `apply` gets each record in the event loop's thread, in order.

    A thread of its own reads, so that a slow broker delays nobody. It never gives up: while the broker is away, the
    settings stay as they were.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, apply: Callable[[Record], None]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._apply = apply
        self._is_caught_up = asyncio.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    async def follow(self) -> None:
        """Start to read, and return when everything that stood there at first has been applied.

        Raises ServiceUnavailableError when that takes longer than a minute.
        """
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._read, args=(loop,), name=f"control-{self._topic}", daemon=True
        )
        self._thread.start()
        try:
            async with asyncio.timeout(_FIRST_READ_SECONDS):
                await self._is_caught_up.wait()
        except TimeoutError:
            raise ServiceUnavailableError(
                f"{self._topic} at {self._kafka.broker} could not be read within {_FIRST_READ_SECONDS:.0f} "
                "seconds; check the broker, and `tokentide topics init`"
            ) from None

    def stop(self) -> None:
        """Read no more; waits up to two seconds for a read on its way."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        consumer = Consumer(
            {
                **self._kafka.librdkafka(),
                # assign() wants a name; nothing is ever committed.
                "group.id": "tokentide-control-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "log_level": 2,
            }
        )
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        while not self._stopped.is_set():
            try:
                message = consumer.poll(0.5)
            except KafkaException as failure:
                _LOGGER.warning("%s cannot be read now: %s", self._topic, failure)
                time.sleep(1)
                continue
            if message is None:
                continue
            error = message.error()
            offset = message.offset()
            if error is None and offset is not None:
                record = Record(offset, message.timestamp()[1], message.key(), message.value())
                loop.call_soon_threadsafe(self._apply, record)
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                loop.call_soon_threadsafe(self._is_caught_up.set)
            else:
                _LOGGER.warning("%s cannot be read now: %s", self._topic, error)
        consumer.close()
