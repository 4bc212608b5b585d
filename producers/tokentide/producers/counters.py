"""What became of the events."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Counters", "Tally"]


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the events of one producer in this process; a snapshot, all counts since its start.

    tracked = invalid + dropped + delivered + failed + in_flight + queued, always. `spooled` and `recovered` are
    about events that earlier processes tracked; `stripped` is a part of the others.
    """

    # Calls of track().
    tracked: int = 0
    # Refused before sending: unknown or wrong fields.
    invalid: int = 0
    # Lost because the spool, or without one all queues, were full, or the producer closed.
    dropped: int = 0
    # Stored by Kafka, on all in-sync replicas; with memory:// kept in memory.
    delivered: int = 0
    # Given up: refused by Kafka for good, unreadable in the spool, or, without one, not stored in time.
    failed: int = 0
    # Inside librdkafka, waiting for Kafka.
    in_flight: int = 0
    # In the spool, or without one in the fallback: waiting for room in librdkafka. After the close: left on disk.
    queued: int = 0
    # Found on disk from earlier processes, and not yet delivered.
    spooled: int = 0
    # Of earlier processes, and stored by Kafka now.
    recovered: int = 0
    # Sent without metadata, tags and error message, because the redaction hook failed.
    stripped: int = 0

    @property
    def waiting(self) -> int:
        """How many events of this producer may still be delivered."""
        return self.in_flight + self.queued


class Tally:
    """The counts behind `Counters`; every method is thread-safe, and `number` waits for nobody.

    `lock` is the one lock of the producer: of two, a finalizer that tracks could hold one and want the other.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._next = itertools.count(1).__next__
        self.number: Callable[[], int] = self._next
        """Counts a call of track() and returns its number, which is greater than any before."""
        self._looks = 0
        """Numbers that were taken to see how far they are."""
        self._invalid = self._dropped = self._delivered = self._failed = self._in_flight = 0
        self._recovered = self._stripped = 0

    def watch(self, is_elsewhere: Callable[[], "Tally | None"]) -> None:
        """Before each number ask whether another tally counts it, until `watch_no_more`."""

        def number() -> int:
            other = is_elsewhere()
            return self._next() if other is None else other.number()

        self.number = number

    def watch_no_more(self) -> None:
        """Count all calls here."""
        self.number = self._next

    def count_invalid(self) -> None:
        """Count an event that was refused."""
        with self._lock:
            self._invalid += 1

    def count_dropped(self, events: int = 1) -> None:
        """Count events for which there was no room."""
        with self._lock:
            self._dropped += events

    def count_kept(self) -> None:
        """Count an event that is kept in memory instead of being sent."""
        with self._lock:
            self._delivered += 1

    def count_failed(self, events: int = 1) -> None:
        """Count events that were given up."""
        with self._lock:
            self._failed += events

    def count_handed(self) -> None:
        """Count an event that is on its way to Kafka. The lock is held."""
        self._in_flight += 1

    def count_returned(self) -> None:
        """Count an event that is not on its way any more, and not stored. The lock is held."""
        self._in_flight -= 1

    def count_delivered(self, events: int, recovered: int) -> None:
        """Count events that Kafka stored: own ones, and those of earlier processes."""
        with self._lock:
            self._in_flight -= events
            self._delivered += events
            self._recovered += recovered

    def count_stripped(self) -> None:
        """Count an event whose private fields were taken away."""
        with self._lock:
            self._stripped += 1

    @property
    def queued(self) -> int:
        """How many events are neither on their way nor have come to an end."""
        with self._lock:
            return self._tracked() - self._gone()

    def number_with(self, queued: int) -> int:
        """Return the least number that says, as nothing has changed since, that more than so many events wait."""
        with self._lock:
            return self._looks + self._gone() + queued + 1

    def snapshot(self, spooled: int) -> Counters:
        """Return the counts; `spooled` is what earlier processes left."""
        with self._lock:
            tracked = self._tracked()
            return Counters(
                tracked=tracked,
                invalid=self._invalid,
                dropped=self._dropped,
                delivered=self._delivered,
                failed=self._failed,
                in_flight=self._in_flight,
                queued=tracked - self._gone(),
                spooled=spooled,
                recovered=self._recovered,
                stripped=self._stripped,
            )

    def _tracked(self) -> int:
        self._looks += 1
        return self._next() - self._looks

    def _gone(self) -> int:
        return self._invalid + self._dropped + self._delivered + self._failed + self._in_flight
