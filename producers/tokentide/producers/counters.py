"""What became of the events."""

import threading
from dataclasses import dataclass

__all__ = ["Counters", "Tally"]


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the events of one producer in this process; a snapshot, all counts since its start.

    tracked = invalid + dropped + delivered + failed + in_flight + queued, always.
    """

    # Calls of track().
    tracked: int = 0
    # Refused before sending: unknown or wrong fields.
    invalid: int = 0
    # Lost because librdkafka's queue and the fallback were full, or the producer closed.
    dropped: int = 0
    # Stored by Kafka, on all in-sync replicas.
    delivered: int = 0
    # Given up: not stored within the delivery timeout, or refused by Kafka for good.
    failed: int = 0
    # Inside librdkafka, waiting for Kafka.
    in_flight: int = 0
    # In the fallback, waiting for room in librdkafka.
    queued: int = 0

    @property
    def waiting(self) -> int:
        """How many events may still be delivered."""
        return self.in_flight + self.queued


class Tally:
    """The counts behind `Counters`; every method is thread-safe and never blocks for long."""

    def __init__(self) -> None:
        # Reentrant, for a signal handler or a finalizer may track an event while this thread counts one.
        self._lock = threading.RLock()
        self._tracked = self._invalid = self._dropped = self._delivered = self._failed = 0

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

    def count_failed(self) -> None:
        """Count an event that was given up."""
        with self._lock:
            self._failed += 1

    def snapshot(self, queued: int) -> Counters:
        """Return the counts; `queued` is what the fallback holds now."""
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
            )
