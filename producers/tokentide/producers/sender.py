"""The way from the backlog to Kafka: its client, and the thread that feeds it and takes its answers."""

import contextlib
import math
import queue
import threading
import time

from confluent_kafka import KafkaError, KafkaException, Producer

from tokentide.producers.cloud_event import Record
from tokentide.producers.complaints import Complaints, LibrdkafkaLog, reason_of
from tokentide.producers.counters import Counters, Tally
from tokentide.producers.losses import Losses
from tokentide.producers.process import abandon, close_at_worker_exit
from tokentide.producers.settings import ProducerSettings
from tokentide.producers.spool_backlog import Backlog
from tokentide.producers.spool_ticket import Ticket

__all__ = ["Sender"]

# How long the thread sleeps when nothing is under way, and how long it waits for answers when something is.
_REST_SECONDS = 0.1
_POLL_SECONDS = 0.02
# At most so many events at once, which takes less than a millisecond, and a pause for the service's own threads.
_DRAIN_BATCH = 20
_COURTESY_SECONDS = 0.0002
# Who tracks without a pause leaves the thread little time, and would fill the spool though Kafka keeps up.
_MOST_BEHIND = 10_000
# What Kafka says of an event that it will never take; everything else may change.
_REFUSALS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})


class Sender:
    """Sends what the backlog holds, oldest first, and tells the backlog and the tally what became of it.

    `lock` guards the backlog; whoever puts events into it holds the lock, and calls `ring` afterwards.
    """

    _client: Producer | None
    _thread: threading.Thread | None

    def __init__(
        self,
        settings: ProducerSettings,
        lock: threading.RLock,
        backlog: Backlog,
        tally: Tally,
        losses: Losses,
        complaints: Complaints,
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._backlog = backlog
        self._tally = tally
        self._losses = losses
        self._complaints = complaints
        self._report = self._on_delivery
        # A queue of this kind may be filled by a signal handler that interrupts this thread filling it.
        self._bell = queue.SimpleQueue[None]()
        self._bell_is_due = False
        self._client = None
        self._thread = None
        self.is_wanted = False
        """Set by whoever is about to take the lock: this thread gives it up behind its event."""
        self.is_closing = False
        """Whether what fails from now on is told by whoever closes."""

    @property
    def is_running(self) -> bool:
        """Whether there is a client, and a thread that serves it."""
        return self._client is not None

    @property
    def counters(self) -> Counters:
        """What became of the events so far."""
        with self._lock:
            return self._tally.snapshot(self._backlog.queued, self._backlog.spooled)

    def start(self) -> None:
        """Make the client and its thread.

        Raises KafkaException, TypeError or ValueError for settings that it refuses, and RuntimeError when no thread
        can be started.
        """
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

    def start_again(self) -> None:
        """Start in a forked child, or after no thread could be started. The lock is held."""
        try:
            self.start()
        except (KafkaException, RuntimeError) as error:
            self._complaints.warn(
                "thread", f"usage events wait, for no thread can be started: {reason_of(error)}"
            )

    def ring(self) -> None:
        """Wake the thread when it sleeps, and help it when it falls far behind. The lock is held."""
        if self._bell_is_due:
            self._bell_is_due = False
            self._bell.put(None)
        if self._backlog.queued > _MOST_BEHIND:
            client = self._client
            if client is not None and len(client) < self._settings.queue_events:
                self._backlog.drain(self.produce, 2, with_adopted=False)

    def produce(self, record: Record, ticket: Ticket) -> bool:
        """Hand the record to the client; return False when it must wait. The lock is held."""
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

    def drain(self, until: float = math.inf) -> None:
        """Hand on what waits, as far as there is room, and as the monotonic clock is not much beyond `until`."""
        while self._hand_on() and time.monotonic() < until:
            # Who waits for the lock, or for the interpreter's, would get neither while this thread goes on.
            time.sleep(0 if self.is_wanted else _COURTESY_SECONDS)

    def _hand_on(self) -> bool:
        """Hand on some events, until somebody wants the lock; return whether there may be more to do now."""
        with self._lock:
            self.is_wanted = False
            client = self._client
            if client is None:
                return False
            # Old events leave half of the queue to new ones.
            has_room = len(client) * 2 < self._settings.queue_events
            return self._backlog.drain(
                self.produce, _DRAIN_BATCH, with_adopted=has_room, is_enough=lambda: self.is_wanted
            )

    def await_answers(self, seconds: float) -> bool:
        """Wait for answers, at most so long; return False, at once, when none is under way."""
        client = self._client
        # When another thread serves the last answers, flushing returns at once, too.
        return client is not None and client.flush(min(seconds, _REST_SECONDS)) > 0

    def stop(self, *, and_tell: bool) -> None:
        """Stop, and give up what is under way; tell of losses before, if asked. Blocks for three seconds at most."""
        with self._lock:
            client, self._client = self._client, None
            thread, self._thread = self._thread, None
        if client is None or thread is None:
            return
        self._bell.put(None)
        if self._losses and and_tell:
            self._losses.tell(client)
            client.flush(1.0)
        client.purge()
        client.flush(1.0)
        thread.join(1.0)

    def forget(self) -> None:
        """Leave the client to the parent process, in a forked child."""
        if self._client is not None:
            abandon(self._client)

    def _serve(self, client: Producer) -> None:
        while self._client is client:
            # Whoever tracks an event from here on rings, once.
            self._bell_is_due = True
            try:
                self.drain()
                self._backlog.tend()
                if self._losses.is_due:
                    self._losses.tell(client)
            except Exception as error:  # the next events must not wait for ever for a mistake of ours
                self._complaints.warn("internal", f"usage events wait: {type(error).__name__}: {error}")
            is_under_way = len(client) > 0
            client.poll(_POLL_SECONDS if is_under_way else 0)
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=0 if is_under_way else _REST_SECONDS)

    def _refuse(self, ticket: Ticket, sentence: str) -> None:
        if ticket.is_own:
            self._tally.count_failed()
        if not self.is_closing:
            self._complaints.warn("failed", sentence)

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
                if not self.is_closing:
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
