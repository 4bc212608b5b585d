"""The producer: from a call of a model to a record in Kafka, without ever getting in the service's way."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from tokentide.producers.cloud_event import Record
from tokentide.producers.complaints import Complaints, LibrdkafkaLog, reason_of
from tokentide.producers.counters import Counters, Tally
from tokentide.producers.intake import Intake, now
from tokentide.producers.losses import Losses
from tokentide.producers.memory import MEMORY, captured, keep
from tokentide.producers.process import abandon, close_at_worker_exit, register
from tokentide.producers.settings import ProducerSettings
from tokentide.producers.spool_backlog import Backlog, Ticket
from tokentide.schemas import SettingsError, UsageEvent

__all__ = ["UsageProducer"]

_POLL_SECONDS = 0.1
_DRAIN_BATCH = 20
# What Kafka says of an event that it will never take; everything else may change.
_REFUSALS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class UsageProducer:
    """Sends usage events to Kafka in the background; one for a process is enough, any thread may use it.

    Without `settings` the environment is read. Raises SettingsError for wrong settings; an unreachable broker is no
    error: events wait in the spool, on disk, and `counters` tells how many. What a killed process left there is
    sent by the next one. After a fork the child has a client, a spool and counters of its own. At the end of the
    process it closes itself, within `exit_timeout_seconds`. With the broker `memory://` nothing is sent: events are
    kept in `recorded`.
    """

    _client: Producer | None
    _thread: threading.Thread | None

    def __init__(
        self,
        settings: ProducerSettings | None = None,
        *,
        broker: str | None = None,
        topic: str | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        settings = settings or ProducerSettings.from_env()
        if broker is not None:
            settings = replace(settings, kafka=replace(settings.kafka, broker=broker))
        if topic is not None:
            settings = replace(settings, topic=topic)
        self._settings = settings
        self._clock = clock
        self._closed = False
        self._memory: list[UsageEvent] | None = [] if settings.kafka.broker == MEMORY else None
        self._forget()
        if self._memory is None:
            try:
                self._start()
            except (KafkaException, TypeError, ValueError) as error:
                raise SettingsError(f"librdkafka refuses the settings: {reason_of(error)}") from error
        register(self)

    def track(self, event: UsageEvent | None = None, **fields: Any) -> bool:
        """Send an event, or the one that the fields of UsageEvent make; its time is now unless given.

        Returns True when the event is kept: in the page cache of the disk, where the end of the process cannot
        reach it (in memory when the disk takes nothing, or `spool_dir` is "off"). Never raises and never waits for
        Kafka or the disk: an event that is invalid, or finds no room, is counted and logged.
        """
        self._tally.count_tracked()
        try:
            record = None
            if self._memory is None and captured() is None:
                made, record = self._intake.record(event, fields)
            else:
                made = self._intake.event(event, fields)
        except Exception as error:  # whatever a service passes: its own work goes on
            self._tally.count_invalid()
            self._complaints.warn("invalid", f"a usage event was not sent: {reason_of(error)}")
            return False
        why = "the producer is closed"
        try:
            with self._lock:
                if not self._closed:
                    if record is None:
                        self._keep(made)
                        return True
                    if self._client is None:
                        self._start_again()
                    if self._backlog.accept(record, self._produce):
                        return True
                    why = self._why_full()
        except Exception as error:  # a mistake of ours is no reason to hurt the service
            why = f"{type(error).__name__}: {error}"
        self._tally.count_dropped()
        self._losses.note(made)
        self._complaints.warn("dropped", f"a usage event was dropped: {why}")
        return False

    @property
    def counters(self) -> Counters:
        """What became of the events so far."""
        with self._lock:
            return self._tally.snapshot(self._backlog.queued, self._backlog.spooled)

    @property
    def recorded(self) -> list[UsageEvent]:
        """The events that a producer with the broker `memory://` kept, the last 100,000; [] for others."""
        return [] if self._memory is None else self._memory

    def flush(self, timeout: float) -> int:
        """Wait until every own event is delivered, at most `timeout` seconds; return how many are not yet.

        Blocks: in asyncio use `await asyncio.to_thread(producer.flush, timeout)`.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._drain()
            waiting = self.counters.waiting
            left = deadline - time.monotonic()
            client = self._client
            if not waiting or left <= 0 or (client is None and self._closed):
                return waiting
            # Without a client, or when another thread serves the last reports, flushing returns at once.
            if client is None or not client.flush(min(left, _POLL_SECONDS)):
                time.sleep(min(left, 0.001))

    def recover(self, timeout: float) -> bool:
        """Wait until what dead processes left on disk for this topic is delivered; at most `timeout` seconds.

        Returns whether nothing of it is left. It happens in the background anyway; this is for programs that do
        nothing else. Blocks.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            looks = self._backlog.look_again()
        if self._memory is not None or not self._settings.has_spool:
            return True
        while self._backlog.looks == looks:
            if self._closed or time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self, timeout: float | None = None) -> int:
        """Flush for at most `timeout` seconds (default: `exit_timeout_seconds`) and stop; may block so long.

        Returns how many events are lost: those that lay in memory only. They count as dropped or failed from now
        on, as do those tracked later. What is on disk waits for the next process. Closing twice is harmless.
        """
        with self._lock:
            if self._closed:
                return 0
            self._closed = True
        before = self.counters
        left = self.flush(self._settings.exit_timeout_seconds if timeout is None else timeout)
        with self._lock:
            self._tally.count_dropped(self._backlog.drop_memory())
            client, self._client = self._client, None
            thread, self._thread = self._thread, None
        if client is not None and thread is not None:
            if self._losses and not left:
                self._losses.tell(client)
                client.flush(1.0)
            client.purge()
            client.flush(1.0)
            thread.join(1.0)
        self._backlog.release()
        after = self.counters
        lost = after.dropped + after.failed - before.dropped - before.failed
        if lost:
            self._complaints.warn("closed", f"{lost} usage events were lost: not delivered before the close")
        if after.waiting:
            self._complaints.warn(
                "left",
                f"{after.waiting} usage events were not delivered before the close; they wait in "
                f"{self._backlog.destination} for the next process, or for `tokentide spool flush`",
            )
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
        self._backlog.forget()
        self._forget()

    def close_at_exit(self) -> None:
        """Close; called by the interpreter at the end of the process."""
        self.close()

    def _forget(self) -> None:
        # Reentrant, for a signal handler or a finalizer may track an event while this thread tracks one.
        self._lock = threading.RLock()
        self._tally = Tally()
        self._complaints = Complaints()
        self._backlog = Backlog(self._settings, self._lock, self._complaints, self._tally.count_failed)
        self._intake = Intake(
            self._settings.source, self._settings.redact, self._clock, self._tally, self._complaints
        )
        self._losses = Losses(self._settings.alerts_topic, self._settings.source)
        self._report = self._on_delivery
        self._client = None
        self._thread = None

    def _start(self) -> None:
        client = Producer(
            {**self._settings.librdkafka(), "error_cb": self._on_error, "logger": LibrdkafkaLog()}
        )
        self._backlog.open()
        thread = threading.Thread(target=self._serve, args=(client,), name="tokentide-producer", daemon=True)
        self._client, self._thread = client, thread
        try:
            thread.start()
        except RuntimeError:
            self._client = self._thread = None
            raise
        close_at_worker_exit()

    def _start_again(self) -> None:
        """Start in a forked child, or after no thread could be started. The lock is held."""
        try:
            self._start()
        except (KafkaException, RuntimeError) as error:
            self._complaints.warn(
                "thread", f"usage events wait, for no thread can be started: {reason_of(error)}"
            )

    def _keep(self, event: UsageEvent) -> None:
        for events in (self._memory, captured()):
            if events is not None:
                keep(events, event)
        self._tally.count_delivered()

    def _why_full(self) -> str:
        what = f"the spool in {self._backlog.destination} is" if self._backlog.is_full else "all queues are"
        return f"{what} full, Kafka does not keep up"

    def _produce(self, record: Record, ticket: Ticket) -> bool:
        """Hand the record to librdkafka; return False when it must wait. The lock is held."""
        client = self._client
        if client is None:
            return False
        ticket.report = self._report
        try:
            client.produce(
                self._settings.topic,
                record.value,
                record.key,
                headers=record.headers,
                on_delivery=ticket,
            )
        except BufferError:
            return False
        except KafkaException as error:
            if ticket.segment is not None and error.args[0].code() not in _REFUSALS:
                self._complaints.warn("failed", f"usage events wait: {reason_of(error)}")
                return False
            self._backlog.done(ticket)
            self._refuse(ticket, f"a usage event was refused: {reason_of(error)}")
        return True

    def _refuse(self, ticket: Ticket, sentence: str) -> None:
        if ticket.is_own:
            self._tally.count_failed()
        if not self._closed:
            self._complaints.warn("failed", sentence)

    def _drain(self) -> None:
        """Hand on what waits, as far as there is room."""
        while True:
            with self._lock:
                client = self._client
                # Old events leave half of the queue to new ones.
                has_room = client is not None and len(client) * 2 < self._settings.queue_events
                if client is None or not self._backlog.drain(
                    self._produce, _DRAIN_BATCH, with_adopted=has_room
                ):
                    return

    def _serve(self, client: Producer) -> None:
        while self._client is client:
            client.poll(_POLL_SECONDS)
            try:
                self._drain()
                self._backlog.tend()
                if self._losses.is_due:
                    self._losses.tell(client)
            except Exception as error:  # the next events must not wait for ever for a mistake of ours
                self._complaints.warn("internal", f"usage events wait: {type(error).__name__}: {error}")

    def _on_delivery(self, ticket: Ticket, error: KafkaError | None) -> None:
        with self._lock:
            if error is None:
                self._losses.reached()
                self._backlog.done(ticket)
                if ticket.is_own:
                    self._tally.count_delivered()
                else:
                    self._tally.count_recovered()
            elif ticket.segment is None:
                self._refuse(ticket, f"a usage event was given up: {reason_of(error)}")
            elif error.code() in _REFUSALS:
                self._backlog.done(ticket)
                self._refuse(ticket, f"a usage event was refused: {reason_of(error)}")
            else:
                self._backlog.put_back(ticket)
                if not self._closed:
                    self._complaints.warn("again", f"a usage event is sent again: {reason_of(error)}")

    def _on_error(self, error: KafkaError) -> None:
        counters = self.counters
        # Brokers close idle connections; that is worth a line only to those who wait, or never got through.
        if counters.waiting or not counters.delivered:
            patience = (
                "in the spool"
                if self._backlog.destination
                else f"each for {self._settings.delivery_timeout_seconds:g} s at most"
            )
            self._complaints.warn(
                "unreachable",
                f"Kafka at {self._settings.kafka.broker} does not answer: {reason_of(error)}; "
                f"{counters.waiting} usage events wait, {patience}",
            )
