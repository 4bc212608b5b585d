"""The producer: from a call of a model to a record in Kafka, without ever getting in the service's way."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import ValidationError

from tokentide.producers.complaints import Complaints, LibrdkafkaLog
from tokentide.producers.counters import Counters, Tally
from tokentide.producers.fallback import Fallback
from tokentide.producers.process import abandon, close_at_worker_exit, register
from tokentide.producers.record import Record, record_of
from tokentide.producers.settings import ProducerSettings
from tokentide.schemas import InvalidEventError, SettingsError, UsageEvent

__all__ = ["UsageProducer"]

_POLL_SECONDS = 0.1
_DRAIN_BATCH = 100


def _now() -> datetime:
    return datetime.now(UTC)


class UsageProducer:
    """Sends usage events to Kafka in the background; one for a process is enough, any thread may use it.

    Without `settings` the environment is read. Raises SettingsError for wrong settings; an unreachable broker
    is no error: events wait in memory, `counters` tells how many. After a fork the child has a client, an
    empty queue and counters of its own. At the end of the process it closes itself, within
    `exit_timeout_seconds`; a process that is killed loses what was not flushed.
    """

    _client: Producer | None
    _thread: threading.Thread | None

    def __init__(
        self,
        settings: ProducerSettings | None = None,
        *,
        broker: str | None = None,
        topic: str | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        settings = settings or ProducerSettings.from_env()
        if broker is not None:
            settings = replace(settings, kafka=replace(settings.kafka, broker=broker))
        if topic is not None:
            settings = replace(settings, topic=topic)
        self._settings = settings
        self._clock = clock
        self._closed = False
        self._forget()
        try:
            self._start()
        except (KafkaException, TypeError, ValueError) as error:
            raise SettingsError(f"librdkafka refuses the settings: {_reason(error)}") from error
        register(self)

    def track(self, event: UsageEvent | None = None, **fields: Any) -> None:
        """Send an event, or the one that the fields of UsageEvent make; its time is now unless given.

        Never raises and never blocks: an event that is invalid, or finds no room, is counted and logged.
        """
        self._tally.count_tracked()
        try:
            record = record_of(self._event(event, fields), self._settings.source)
        except Exception as error:  # whatever a service passes: its own work goes on
            self._tally.count_invalid()
            self._complaints.warn("invalid", f"a usage event was not sent: {_reason(error)}")
            return
        with self._lock:
            if not self._closed:
                if not len(self._fallback) and self._produce(record):
                    return
                if self._fallback.put(record):
                    return
        self._tally.count_dropped()
        why = "the producer is closed" if self._closed else "all queues are full, Kafka does not keep up"
        self._complaints.warn("dropped", f"a usage event was dropped: {why}")

    @property
    def counters(self) -> Counters:
        """What became of the events so far."""
        with self._lock:
            return self._tally.snapshot(len(self._fallback))

    def flush(self, timeout: float) -> int:
        """Wait until every event is delivered, at most `timeout` seconds; return how many are not yet.

        Blocks: in asyncio use `await asyncio.to_thread(producer.flush, timeout)`.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._drain()
            waiting = self.counters.waiting
            left = deadline - time.monotonic()
            if not waiting or left <= 0:
                return waiting
            client = self._client
            # Without a client, or when another thread serves the last reports, flushing returns at once.
            if client is None or not client.flush(min(left, _POLL_SECONDS)):
                time.sleep(min(left, 0.001))

    def close(self, timeout: float | None = None) -> int:
        """Flush for at most `timeout` seconds (default: `exit_timeout_seconds`) and stop; may block so long.

        Returns how many events are lost: they count as dropped or failed from now on, as do those tracked
        later. Closing twice is harmless.
        """
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
        lost = self.flush(self._settings.exit_timeout_seconds if timeout is None else timeout)
        with self._lock:
            self._tally.count_dropped(self._fallback.clear())
            client, self._client = self._client, None
            thread, self._thread = self._thread, None
        if client is not None and thread is not None:
            client.purge()
            client.flush(1.0)
            thread.join(1.0)
        if lost:
            self._complaints.warn("closed", f"{lost} usage events were lost: not delivered before the close")
        return lost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Start anew in a child process; called by the interpreter."""
        if self._client is not None:
            abandon(self._client)
        self._forget()

    def close_at_exit(self) -> None:
        """Close; called by the interpreter at the end of the process."""
        self.close()

    def _forget(self) -> None:
        # Reentrant, for a signal handler or a finalizer may track an event while this thread tracks one.
        self._lock = threading.RLock()
        self._tally = Tally()
        self._complaints = Complaints()
        self._fallback = Fallback(self._settings.fallback_events)
        self._client = None
        self._thread = None

    def _start(self) -> Producer:
        client = Producer(
            {
                **self._settings.librdkafka(),
                "on_delivery": self._on_delivery,
                "error_cb": self._on_error,
                "logger": LibrdkafkaLog(),
            }
        )
        thread = threading.Thread(target=self._serve, args=(client,), name="tokentide-producer", daemon=True)
        self._client, self._thread = client, thread
        try:
            thread.start()
        except RuntimeError:
            self._client = self._thread = None
            raise
        close_at_worker_exit()
        return client

    def _event(self, event: UsageEvent | None, fields: dict[str, Any]) -> UsageEvent:
        if event is None:
            unknown = fields.keys() - UsageEvent.model_fields.keys()
            if unknown:
                raise InvalidEventError(f"UsageEvent has no field {', '.join(sorted(unknown))}")
            if fields.get("timestamp") is None:
                fields["timestamp"] = self._clock()
            return UsageEvent(**fields)
        if fields:
            raise InvalidEventError("track() takes an event or fields, not both")
        if not isinstance(event, UsageEvent):
            raise InvalidEventError(f"track() takes a UsageEvent, not a {type(event).__name__}")
        return event

    def _produce(self, record: Record) -> bool:
        """Hand the record to librdkafka; return False when it must wait. The lock is held."""
        try:
            client = self._client or self._start()
            client.produce(self._settings.topic, record.value, record.key, headers=record.headers)
        except BufferError:
            return False
        except KafkaException as error:
            self._tally.count_failed()
            self._complaints.warn("failed", f"a usage event was refused: {_reason(error)}")
        except RuntimeError as error:
            self._complaints.warn("thread", f"usage events wait, for no thread can be started: {error}")
            return False
        return True

    def _drain(self) -> None:
        """Hand on what waits in the fallback, as far as there is room."""
        while True:
            with self._lock:
                for _ in range(_DRAIN_BATCH):
                    record = self._fallback.first()
                    if record is None or not self._produce(record):
                        return
                    self._fallback.remove_first()

    def _serve(self, client: Producer) -> None:
        while self._client is client:
            client.poll(_POLL_SECONDS)
            self._drain()

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._tally.count_delivered()
            return
        self._tally.count_failed()
        if not self._closed:
            self._complaints.warn("failed", f"a usage event was given up: {_reason(error)}")

    def _on_error(self, error: KafkaError) -> None:
        counters = self.counters
        # Brokers close idle connections; that is worth a line only to those who wait, or never got through.
        if counters.waiting or not counters.delivered:
            self._complaints.warn(
                "unreachable",
                f"Kafka at {self._settings.kafka.broker} does not answer: {_reason(error)}; "
                f"{counters.waiting} usage events wait, each for "
                f"{self._settings.delivery_timeout_seconds:g} s at most",
            )


def _reason(error: object) -> str:
    """Return what is wrong as one line, without the values: they may be private."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'event'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
    if isinstance(error, KafkaException):
        error = error.args[0]
    if isinstance(error, KafkaError):
        return str(error.str())
    return str(error) or type(error).__name__
