"""The way from the backlog to Kafka: its client, and the thread that feeds it and takes its answers."""

import contextlib
import math
import queue
import threading
import time

from confluent_kafka import KafkaError, KafkaException

from tokentide.producers.answers import COURTESY_SECONDS, Answers, is_refusal
from tokentide.producers.client import Client
from tokentide.producers.cloud_event import Record
from tokentide.producers.complaints import Complaints, LibrdkafkaLog, reason_of
from tokentide.producers.counters import Counters, Tally
from tokentide.producers.losses import Losses
from tokentide.producers.process import close_at_worker_exit
from tokentide.producers.settings import ProducerSettings
from tokentide.producers.spool_backlog import Backlog
from tokentide.producers.spool_ticket import Ticket

__all__ = ["Sender"]

# How long the thread sleeps when nothing is to be done, or cannot be done now, and how long it waits for answers.
_REST_SECONDS = 0.1
_RETRY_SECONDS = 0.005
_POLL_SECONDS = 0.02
# While there is more to do than the thread can, it looks after the spool so often.
_TEND_SECONDS = 0.05
# Where no thread can be started, it is tried so often.
_AGAIN_SECONDS = 10.0
# The thread handles a few events at once, more when many wait, and pauses for the service's own threads: who wants
# the interpreter's lock gets it when this thread sleeps, not when it merely lets go of it for a moment.
_LEAST_BURST = 3
_MOST_BURST = 20
_BEHIND_FOR_ONE_MORE = 256
# Who tracks without a pause leaves the thread little time, and would fill the spool though Kafka keeps up. So it
# helps when it can have the lock at once; when even that is not enough it waits for the lock.
_MUCH_BEHIND = 8_000
_MOST_BEHIND = 10_000
_SELDOM = 100


class Sender:
    """Sends what the backlog holds, oldest first; `Answers` tells the backlog and the tally what became of it.

    `lock` guards the backlog; whoever puts events into it calls `ring` afterwards.
    """

    _client: Client | None
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
        self._answers = Answers(lock, backlog, tally, losses, complaints)
        # A queue of this kind may be filled by a signal handler that interrupts this thread filling it.
        self._bell = queue.SimpleQueue[None]()
        self._bell_is_due = False
        self._help_from = _MUCH_BEHIND
        self._is_full = False
        self._start_at = 0.0
        self._client = None
        self._thread = None

    @property
    def is_running(self) -> bool:
        """Whether there is a client, and a thread that serves it."""
        return self._client is not None

    @property
    def counters(self) -> Counters:
        """What became of the events so far."""
        with self._lock:
            self._answers.settle()
            return self._tally.snapshot(self._backlog.spooled)

    def start(self) -> None:
        """Make the client and its thread.

        Raises KafkaException, TypeError or ValueError for settings that it refuses, and RuntimeError when no thread
        can be started.
        """
        client = Client(
            {**self._settings.librdkafka(), "error_cb": self._on_error, "logger": LibrdkafkaLog()}
        )
        self._backlog.open()
        thread = threading.Thread(target=self._serve, args=(client,), name="tokentide-producer", daemon=True)
        self._client, self._thread = client, thread
        self._answers.patient_thread = thread
        try:
            thread.start()
        except RuntimeError:
            self._client = self._thread = None
            raise
        close_at_worker_exit()

    def begin_to_close(self) -> None:
        """Have what fails from now on told by whoever closes."""
        self._answers.is_closing = True

    def start_again(self) -> None:
        """Start in a forked child, or after no thread could be started. As for `produce`."""
        now = time.monotonic()
        if now < self._start_at:  # each try takes milliseconds
            return
        self._start_at = now + _AGAIN_SECONDS
        try:
            self.start()
        except (KafkaException, RuntimeError) as error:
            self._complaints.later(
                "thread", f"usage events wait, for no thread can be started: {reason_of(error)}"
            )

    def ring(self, number: int) -> None:
        """Wake the thread when it sleeps, and help it when the event of this number leaves it far behind."""
        if self._bell_is_due:
            self._bell_is_due = False
            self._bell.put(None)
        if number >= self._help_from:
            self._help(is_patient=number >= self._help_from + _MOST_BEHIND - _MUCH_BEHIND)

    def _help(self, *, is_patient: bool) -> None:
        client = self._client
        if client is None:
            return
        if self._is_full:
            client.poll(0)  # answers make room
        with self._complaints:
            if self._lock.acquire(blocking=is_patient):
                try:
                    self._answers.settle(_MOST_BURST)
                    self._backlog.drain(self.produce, 2, with_adopted=False)
                    self._call_for_help(client)
                finally:
                    self._lock.release()

    def produce(self, record: Record, ticket: Ticket) -> bool:
        """Hand the record to the client; return False when it must wait.

        The lock is held, in a context of the complaints.
        """
        client = self._client
        if client is None:
            return False
        ticket.report = self._answers.take
        try:
            if ticket.is_alone:
                client.produce_alone(self._settings.topic, record, ticket)
            else:
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
            if ticket.segment is not None and not is_refusal(error.args[0]):
                self._complaints.later("failed", f"usage events wait: {reason_of(error)}")
                return False
            self._answers.refuse(ticket, error.args[0])
            return True
        if ticket.is_own:
            self._tally.count_handed()
        if self._client is not client:  # a signal handler, in this thread, has closed the producer meanwhile
            client.purge()
            client.flush(1.0)
        return True

    def drain(self, until: float = math.inf) -> None:
        """Hand on what waits, as far as there is room, and as the monotonic clock is not much beyond `until`."""
        while self._step() and time.monotonic() < until:
            time.sleep(COURTESY_SECONDS)

    def _step(self) -> bool:
        """Hand on some events, and settle some that are stored; return whether there may be more to do now."""
        with self._complaints, self._lock:
            client = self._client
            if client is None:
                return False
            behind = self._tally.queued + self._backlog.spooled
            burst = min(_MOST_BURST, _LEAST_BURST + behind // _BEHIND_FOR_ONE_MORE)
            self._answers.most_at_once = 2 * burst
            self._answers.settle(2 * burst)
            # Old events leave half of the queue to new ones.
            has_room = len(client) * 2 < self._settings.queue_events
            is_more = self._backlog.drain(self.produce, burst, with_adopted=has_room)
            self._call_for_help(client)
            return is_more or self._answers.are_waiting

    def _call_for_help(self, client: Client) -> None:
        """Say from which event on the thread is far behind; while the client is full, help is seldom of use."""
        self._is_full = len(client) >= self._settings.queue_events
        queued = self._tally.queued + _SELDOM if self._is_full else _MUCH_BEHIND
        self._help_from = self._tally.number_with(queued)

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
        with self._lock:
            self._answers.settle()

    def forget(self) -> None:
        """Leave the client to the parent process, in a forked child."""
        if self._client is not None:
            self._client.abandon()

    def _serve(self, client: Client) -> None:
        while self._client is client:
            try:
                self.drain(time.monotonic() + _TEND_SECONDS)
                with self._complaints:
                    self._backlog.tend()
                if self._losses.is_due:
                    self._losses.tell(client)
            except Exception as error:  # the next events must not wait for ever for a mistake of ours
                self._complaints.warn("internal", f"usage events wait: {type(error).__name__}: {error}")
            if len(client):
                client.poll(_POLL_SECONDS)
            else:
                self._rest(client)

    def _rest(self, client: Client) -> None:
        """Sleep until an event is tracked, but not for long."""
        client.poll(0)
        # Whoever tracks an event from here on rings, once.
        self._bell_is_due = True
        seconds = _REST_SECONDS if self._tally.queued == 0 else _RETRY_SECONDS
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=seconds)
        self._bell_is_due = False

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
