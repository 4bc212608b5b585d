"""The producer: from a call of a model to a record in Kafka, without ever getting in the service's way."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException

from tokentide.producers.complaints import Complaints, reason_of
from tokentide.producers.counters import Counters, Tally
from tokentide.producers.intake import Intake, now
from tokentide.producers.losses import Losses
from tokentide.producers.memory import MEMORY, captured, keep
from tokentide.producers.process import keep as keep_alive
from tokentide.producers.process import let_go, register
from tokentide.producers.sender import Sender
from tokentide.producers.settings import ProducerSettings
from tokentide.producers.spool_backlog import Backlog
from tokentide.schemas import SettingsError, UsageEvent

__all__ = ["UsageProducer"]


class UsageProducer:
    """Sends usage events to Kafka in the background; one for a process is enough, any thread may use it.

    Without `settings` the environment is read. Raises SettingsError for wrong settings; an unreachable broker is no
    error: events wait in the spool, on disk, and `counters` tells how many. What a killed process left there is
    sent by the next one. After a fork the child has a client, a spool and counters of its own. At the end of the
    process it closes itself, within `exit_timeout_seconds`. With the broker `memory://` nothing is sent: events are
    kept in `recorded`.
    """

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
        self._has_begun_anew = False
        self._memory: list[UsageEvent] | None = [] if settings.kafka.broker == MEMORY else None
        self._forget()
        if self._memory is None:
            try:
                with self._complaints:
                    self._sender.start()
            except (KafkaException, TypeError, ValueError) as error:
                raise SettingsError(f"librdkafka refuses the settings: {reason_of(error)}") from error
            keep_alive(self)
        register(self)

    def track(self, event: UsageEvent | None = None, **fields: Any) -> bool:
        """Send an event, or the one that the fields of UsageEvent make; its time is now unless given.

        Returns True when the event is kept: in the page cache of the disk, where the end of the process cannot
        reach it (in memory when the disk takes nothing, or `spool_dir` is "off"). Never raises and never waits for
        Kafka or the disk: an event that is invalid, or finds no room, is counted and logged.
        """
        try:
            number = self._tally.number()
            frame = None
            if self._memory is None and captured() is None:
                made, frame = self._intake.frame(event, fields)
            else:
                made = self._intake.event(event, fields)
        except BaseException as error:  # whatever a service passes: its own work goes on
            self._tally.count_invalid()
            if not isinstance(error, Exception):
                raise
            self._complaints.warn("invalid", f"a usage event was not sent: {reason_of(error)}")
            return False
        is_kept = False
        why = "the producer is closed"
        try:
            spool = self._backlog.own
            # Without any lock that another thread may hold.
            if spool is not None and frame is not None and self._sender.is_running and spool.append(frame):
                is_kept = True
                self._sender.ring(number)
                return True
            with self._complaints, self._lock:
                if not self._closed:
                    if frame is None:
                        self._keep(made)
                        return True
                    # A signal handler may close it at any place from here on.
                    if not self._sender.is_running and not self._closed:
                        self._start_again()
                    is_kept = self._backlog.accept(frame, self._sender.produce)
                    if self._closed and self._backlog.drop_memory():
                        is_kept = False
                    elif not is_kept:
                        why = self._why_full()
                    if is_kept:
                        self._sender.ring(number)
                        return True
        except BaseException as error:  # a mistake of ours is no reason to hurt the service
            why = f"{type(error).__name__}: {error}"
            if not isinstance(error, Exception):
                self._tally.count_dropped(not is_kept)
                raise
        if is_kept:
            self._complaints.warn("internal", f"the producer's thread was not woken: {why}")
            return True
        self._tally.count_dropped()
        self._losses.note(made)
        self._complaints.warn("dropped", f"a usage event was dropped: {why}")
        return False

    @property
    def counters(self) -> Counters:
        """What became of the events so far."""
        return self._sender.counters

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
            self._sender.drain(deadline)
            waiting = self.counters.waiting
            left = deadline - time.monotonic()
            if not waiting or left <= 0 or (self._closed and not self._sender.is_running):
                return waiting
            if not self._sender.await_answers(left):
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
            self._sender.begin_to_close()
            self._backlog.seal()
        before = self.counters
        left = self.flush(self._settings.exit_timeout_seconds if timeout is None else timeout)
        with self._lock:
            self._tally.count_dropped(self._backlog.drop_memory())
        self._sender.stop(and_tell=not left)
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
        let_go(self)
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

    def before_fork(self) -> None:
        """Have a child start anew at its first event, if that comes before `after_fork`."""
        parent = os.getpid()

        def in_child() -> Tally | None:
            if os.getpid() == parent:
                return None
            self.after_fork()
            self._has_begun_anew = True
            return self._tally

        self._tally.watch(in_child)

    def after_fork_in_parent(self) -> None:
        """Go on without looking which process this is."""
        self._tally.watch_no_more()

    def after_fork(self) -> None:
        """Start anew in a child process; called by the interpreter."""
        if self._has_begun_anew:
            self._has_begun_anew = False
            with self._complaints, self._lock:
                self._start_again()
            return
        self._sender.forget()
        self._backlog.forget()
        self._forget()

    def close_at_exit(self) -> None:
        """Close; called by the interpreter at the end of the process."""
        self.close()

    def _forget(self) -> None:
        # Reentrant, for a signal handler or a finalizer may track an event while this thread tracks one.
        self._lock = threading.RLock()
        self._tally = Tally(self._lock)
        self._complaints = Complaints()
        self._backlog = Backlog(self._settings, self._lock, self._complaints, self._tally.count_failed)
        self._intake = Intake(
            self._settings.source, self._settings.redact, self._clock, self._tally, self._complaints
        )
        self._losses = Losses(self._settings.alerts_topic, self._settings.source)
        self._sender = Sender(
            self._settings, self._lock, self._backlog, self._tally, self._losses, self._complaints
        )

    def _start_again(self) -> None:
        # Python takes a thread for dead that is started before its own hook of the fork, which comes before ours.
        if not self._has_begun_anew:
            self._sender.start_again()

    def _keep(self, event: UsageEvent) -> None:
        for events in (self._memory, captured()):
            if events is not None:
                keep(events, event)
        self._tally.count_kept()

    def _why_full(self) -> str:
        what = f"the spool in {self._backlog.destination} is" if self._backlog.is_full else "all queues are"
        return f"{what} full, Kafka does not keep up"
