"""What Kafka answers to the events that its client was given."""

import threading
import time
from collections import deque

from confluent_kafka import KafkaError

from tokentide.producers.complaints import Complaints, reason_of
from tokentide.producers.counters import Tally
from tokentide.producers.losses import Losses
from tokentide.producers.spool_backlog import Backlog
from tokentide.producers.spool_ticket import Ticket

__all__ = ["COURTESY_SECONDS", "Answers", "is_refusal"]

COURTESY_SECONDS = 0.0002
"""A pause for the service's own threads: who wants the interpreter's lock gets it while a thread sleeps, not when it
merely lets go of it for a moment."""
_AT_ONCE = 8
# Beside a thread that never rests each pause takes one of Python's turns, 5 ms: who has so many answers takes none.
_IN_HASTE = 256
# What Kafka says of an event that it will never take; everything else may change.
_TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
_REFUSALS = frozenset({_TOO_LARGE, KafkaError.INVALID_RECORD})


def is_refusal(error: KafkaError) -> bool:
    """Return whether Kafka will never take the event."""
    return error.code() in _REFUSALS


class Answers:
    """Takes the answers, and tells the backlog and the tally of them; `lock` guards the backlog."""

    def __init__(
        self,
        lock: threading.RLock,
        backlog: Backlog,
        tally: Tally,
        losses: Losses,
        complaints: Complaints,
    ) -> None:
        self._lock = lock
        self._backlog = backlog
        self._tally = tally
        self._losses = losses
        self._complaints = complaints
        # Filled by whatever thread serves the client, emptied by who holds the lock.
        self._stored: deque[Ticket] = deque()
        self.most_at_once = _AT_ONCE
        """After so many answers the patient thread pauses."""
        self.patient_thread: threading.Thread | None = None
        self.is_closing = False
        """Whether what fails is told by whoever closes."""

    @property
    def are_waiting(self) -> bool:
        """Whether there is something to settle."""
        return len(self._stored) > 0

    def take(self, ticket: Ticket, error: KafkaError | None) -> None:
        """Take an answer. Without the lock, when all is well: the service's threads would have to wait for it."""
        if error is None:
            self._stored.append(ticket)
            waiting = len(self._stored)
            is_time = waiting % self.most_at_once == 0 and waiting < _IN_HASTE
            if is_time and threading.current_thread() is self.patient_thread:
                time.sleep(COURTESY_SECONDS)
            return
        with self._complaints, self._lock:
            if ticket.is_own:
                self._tally.count_returned()
            # Perhaps not the event is too large, but the batch that it was in.
            if ticket.segment is not None and not ticket.is_alone and error.code() == _TOO_LARGE:
                ticket.is_alone = True
                self._backlog.put_back(ticket)
                return
            if ticket.segment is None or is_refusal(error):
                self.refuse(ticket, error)
                return
            self._backlog.put_back(ticket)
            if not self.is_closing:
                self._complaints.later("again", f"a usage event is sent again: {reason_of(error)}")

    def refuse(self, ticket: Ticket, error: KafkaError) -> None:
        """Give an event up that Kafka will never take, or that nothing keeps any longer.

        The lock is held, in a context of the complaints.
        """
        self._backlog.done(ticket)
        if ticket.is_own:
            self._tally.count_failed()
        if not self.is_closing:
            what = "refused" if is_refusal(error) else "given up"
            self._complaints.later("failed", f"a usage event was {what}: {reason_of(error)}")

    def settle(self, most: int | None = None) -> None:
        """Tell of the events that Kafka stored, at most so many of them. The lock is held."""
        own = others = 0
        try:
            while self._stored and (most is None or own + others < most):
                ticket = self._stored.popleft()
                own += ticket.is_own
                others += not ticket.is_own
                self._backlog.done(ticket)
        finally:  # an interrupt, too, finds all counted
            if own or others:
                self._tally.count_delivered(own, others)
                self._losses.reached()
