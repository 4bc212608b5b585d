"""What became of the events."""

import threading
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
    """The counts behind `Counters`; every method is thread-safe and never blocks for long."""

    def __init__(self) -> None:
        # Reentrant, for a signal handler or a finalizer may track an event while this thread counts one.
        self._lock = threading.RLock()
        self._tracked = self._invalid = self._dropped = self._delivered = self._failed = 0
        self._recovered = self._stripped = 0

    def count_tracked(self) -> None:
        """Count a call of track()."""
        with self._lock:
            self._tracked += 1

    def count_invalid(self) -> None:
        """Count an event that was refused."""
        with self._lock:
            self._invalid += 1

    def count_dropped(self, events: int = 1) -> None:
        """Count events for which there was no room."""
        with self._lock:
            self._dropped += events

    def count_delivered(self) -> None:
        """Count an event that Kafka stored."""
        with self._lock:
            self._delivered += 1

    def count_failed(self, events: int = 1) -> None:
        """Count events that were given up."""
        with self._lock:
            self._failed += events

    def count_recovered(self) -> None:
        """Count an event of an earlier process that Kafka stored."""
        with self._lock:
            self._recovered += 1

    def count_stripped(self) -> None:
        """Count an event whose private fields were taken away."""
        with self._lock:
            self._stripped += 1

    def snapshot(self, queued: int, spooled: int) -> Counters:
        """Return the counts; `queued` and `spooled` are what lies in the fallback and on disk now."""
        with self._lock:
            done = self._invalid + self._dropped + self._delivered + self._failed
            return Counters(
                tracked=self._tracked,
                invalid=self._invalid,
                dropped=self._dropped,
                delivered=self._delivered,
                failed=self._failed,
                in_flight=self._tracked - done - queued,
                queued=queued,
                spooled=spooled,
                recovered=self._recovered,
                stripped=self._stripped,
            )
