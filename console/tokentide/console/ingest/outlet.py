"""To Kafka, and the word that it is stored there: delivery reports of librdkafka as futures of asyncio."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.producers import ProducerSettings
from tokentide.producers.cloud_event import Record
from tokentide.producers.complaints import LibrdkafkaLog
from tokentide.schemas import ServiceUnavailableError, SettingsError

__all__ = ["Outlet"]

_POLL_SECONDS = 0.1
# librdkafka looks for messages that ran out of time once a second.
_SPARE_SECONDS = 3.0


class _Batch:
    """The records of one request on their way; reports come from the thread that polls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, records: int) -> None:
        self._loop = loop
        self._missing = records
        self._reason: str | None = None
        self.stored: asyncio.Future[str | None] = loop.create_future()
        """Done when every record has its report; None, or why one of them was not stored."""

    def report(self, error: KafkaError | None, _message: Message | None = None) -> None:
        if error is not None:
            self._reason = self._reason or error.str()
        self._missing -= 1
        if not self._missing:
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.stored.done():
            self.stored.set_result(self._reason)


class Outlet:
    """Sends records to one topic; `store` is for one event loop, everything else for any thread.

    Raises SettingsError for settings that librdkafka refuses.
    """

    def __init__(self, settings: ProducerSettings, on_fatal: Callable[[str], None]) -> None:
        """`on_fatal` is told, from another thread, when this object can never send again."""
        self._settings = settings
        self._on_fatal = on_fatal
        self._timeout_seconds = float(settings.extra["message.timeout.ms"]) / 1000 + _SPARE_SECONDS
        try:
            self._producer = Producer(
                {
                    **settings.librdkafka(),
                    "client.id": "tokentide-ingest",
                    "error_cb": self._on_error,
                    "logger": LibrdkafkaLog(),
                }
            )
        except KafkaException as error:
            raise SettingsError(f"The Kafka settings are not usable: {error.args[0].str()}.") from error
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="tokentide-ingest", daemon=True)
        self._thread.start()

    async def store(self, records: Sequence[Record]) -> None:
        """Return when all in-sync replicas have every record.

        Raises ServiceUnavailableError when that is not sure within the time: some may be stored then.
        """
        if not records:
            return
        batch = _Batch(asyncio.get_running_loop(), len(records))
        for sent, record in enumerate(records):
            try:
                self._producer.produce(
                    self._settings.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=batch.report,
                )
            except (BufferError, KafkaException) as error:
                raise ServiceUnavailableError(
                    f"librdkafka takes no more after {sent} of {len(records)} events: {_words(error)}"
                ) from error
        try:
            reason = await asyncio.wait_for(batch.stored, self._timeout_seconds)
        except TimeoutError:
            reason = "no report of their delivery"
        if reason is not None:
            raise ServiceUnavailableError(reason)

    def is_ready(self, timeout_seconds: float) -> bool:
        """Return whether every partition of the topic has a leader now; blocks up to the timeout."""
        try:
            topic = self._producer.list_topics(self._settings.topic, timeout_seconds).topics[
                self._settings.topic
            ]
        except KafkaException:
            return False
        return topic.error is None and all(part.leader >= 0 for part in topic.partitions.values())

    def close(self) -> None:
        """Wait for the reports that are missing, no longer than any record may take, and stop."""
        self._producer.flush(self._timeout_seconds)
        self._closing.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_fatal(error.str())


def _words(error: Exception) -> str:
    reason = error.args[0]
    return reason.str() if isinstance(reason, KafkaError) else str(reason)
