"""All events that Kafka has not yet: in which order they go to its client, and where they lie until then."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tokentide.producers.cloud_event import Record
from tokentide.producers.complaints import Complaints
from tokentide.producers.fallback import Fallback
from tokentide.producers.frame import body_of, unpack
from tokentide.producers.retries import Retries
from tokentide.producers.settings import ProducerSettings
from tokentide.producers.spool_folder import Destination, default_roots
from tokentide.producers.spool_inheritance import Inheritance, warn_of_damage
from tokentide.producers.spool_ticket import Ticket
from tokentide.producers.spool_writer import SpoolFullError, SpoolWriter

__all__ = ["Backlog", "Produce"]

_AGAIN_SECONDS = 10.0


Produce = Callable[[Record, Ticket], bool]
"""Hands a record to Kafka's client; False when the client has no room."""


class Backlog:
    """The spool of this process, the fallback for when the disk takes nothing, and the spools of dead processes.

    The caller holds `lock` around each call, except `tend`, `open` and `release`, which are for one thread at a time.
    `lost` is told how many own events could not be read back.
    """

    def __init__(
        self,
        settings: ProducerSettings,
        lock: threading.RLock,
        complaints: Complaints,
        lost: Callable[[int], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._complaints = complaints
        self._lost = lost
        self._monotonic = monotonic
        self._fallback = Fallback(settings.fallback_events)
        self._in_memory = Ticket()
        self.own: SpoolWriter | None = None
        """The spool of this process, once it is open."""
        self._inheritance = Inheritance(settings.spool_max_age_seconds, lock, complaints, monotonic)
        self._destination: Path | None = None
        self._retries = Retries(monotonic)
        self._open_at = 0.0
        self._is_inside = self._is_sealed = False
        self._has_complained = False
        self._refused = 0

    @property
    def looks(self) -> int:
        """How often all spools of dead processes were looked for, and none was left."""
        return self._inheritance.looks

    @property
    def spooled(self) -> int:
        """How many events of dead processes were found and not yet stored."""
        return self._inheritance.waiting

    @property
    def destination(self) -> Path | None:
        """The folder of the spools; None without one."""
        return self._destination

    @property
    def is_full(self) -> bool:
        """Whether the spool refused events since it was last empty."""
        return self._refused > 0

    def open(self) -> None:
        """Make the spool of this process. The first trouble is logged later; `tend` tries again."""
        if not self._settings.has_spool or self.own is not None or self._is_sealed:
            return
        self._open_at = self._monotonic() + _AGAIN_SECONDS
        chosen = self._settings.spool_dir
        reasons = []
        for root in [Path(chosen)] if chosen else default_roots():
            try:
                where = Destination(self._settings.kafka.broker, self._settings.topic)
                self.own = SpoolWriter(
                    root,
                    where,
                    self._settings.spool_bytes,
                    self._settings.spool_fsync_seconds,
                    self._monotonic,
                )
            except OSError as error:
                reasons.append(str(error))
            else:
                self._destination = self.own.destination
                return
        self._complain_of_disk("; ".join(reasons))

    def accept(self, frame: bytes, produce: Produce) -> bool:
        """Keep the event, on disk if possible; return False when there is no room for it.

        In memory it is for a moment, handed on at once when nothing waits before it.
        """
        if self._is_inside:  # a signal handler or a finalizer, in the middle of another call
            return self._fallback.put(frame)
        self._is_inside = True
        try:
            return self._accept(frame, produce)
        finally:
            self._is_inside = False

    def _accept(self, frame: bytes, produce: Produce) -> bool:
        own = self.own
        try:
            self._settle()
            if own is not None and not len(self._fallback) and own.put(frame):
                return True
        except SpoolFullError:
            self._refused += 1
            return False
        is_first = not len(self._fallback) and (own is None or own.is_read)
        return (is_first and produce(unpack(body_of(frame)), self._in_memory)) or self._fallback.put(frame)

    def _settle(self) -> None:
        """Write what lies in memory to the disk, as soon as it takes events again. Raises SpoolFullError."""
        while self.own is not None and (frame := self._fallback.first()) is not None:
            if not self.own.put(frame):
                return
            self._fallback.remove_first()

    def drain(self, produce: Produce, most: int, *, with_adopted: bool) -> bool:
        """Hand on events, the oldest first, at most so many; return whether there may be more to do now."""
        if self._is_inside:
            return False
        self._is_inside = True
        try:
            if self.own is not None:
                self.own.rotate()
            return all(self._hand_one(produce, with_adopted) for _ in range(most))
        finally:
            self._is_inside = False
            if self.own is not None and (lost := self.own.take_lost()):
                self._lost(lost)
                warn_of_damage(self._complaints, lost, self._destination)

    def _hand_one(self, produce: Produce, with_adopted: bool) -> bool:
        if (ticket := self._retries.due()) is not None:
            return self._hand_again(ticket, produce)
        with contextlib.suppress(SpoolFullError):
            self._settle()
        if self.own is not None and (found := self.own.next()) is not None:
            return self._hand(*found, produce)
        frame = self._fallback.first()
        if frame is not None:
            if produce(unpack(body_of(frame)), self._in_memory):
                self._fallback.remove_first()
                return True
            return False
        if with_adopted and (left := self._inheritance.next()) is not None:
            return self._hand(*left, produce)
        return False

    @staticmethod
    def _hand(ticket: Ticket, record: Record, produce: Produce) -> bool:
        if not produce(record, ticket):
            return False
        if ticket.spool is not None:
            ticket.spool.hand(ticket)
        return True

    def _hand_again(self, ticket: Ticket, produce: Produce) -> bool:
        record = ticket.spool.again(ticket) if ticket.spool is not None else None
        if record is not None and not produce(record, ticket):
            return False
        self._retries.remove_first()
        return True

    def done(self, ticket: Ticket) -> None:
        """Forget an event: Kafka has it, or refuses it for good."""
        self._retries.answered()
        if ticket.spool is not None:
            ticket.spool.done(ticket)

    def put_back(self, ticket: Ticket) -> None:
        """Have an event sent again, in some seconds, from the disk."""
        self._retries.put(ticket)

    def seal(self) -> None:
        """Write nothing to the disk any more; the lock is held."""
        self._is_sealed = True
        if self.own is not None:
            self.own.seal()

    def drop_memory(self) -> int:
        """Forget what lies in memory only; return how many events that were."""
        return self._fallback.clear()

    def look_again(self) -> int:
        """Have `tend` look for the spools of dead processes at once; return how often it did before."""
        return self._inheritance.look_again()

    def tend(self) -> None:
        """Do what takes time: delete, make and sync files, find the spools of dead processes. Blocks.

        In a context of the complaints, as `drain` and `accept`.
        """
        now = self._monotonic()
        own = self.own
        if own is None and now >= self._open_at:
            self.open()
        if own is not None:
            own.tidy()
            own.prepare()
            own.unmap_ahead(self._lock)
            own.sync()
            if own.trouble is not None:
                self._complain_of_disk(str(own.trouble))
            elif self._has_complained:
                self._has_complained = False
                self._complaints.warn("disk again", "usage events are kept on disk again")
            if self._refused and own.has_room:
                refused, self._refused = self._refused, 0
                self._complaints.warn(
                    "room", f"the spool has room again; {refused} usage events were dropped"
                )
        if self._destination is not None:
            self._inheritance.tend(self._destination, self.own.folder if self.own is not None else None)

    def _complain_of_disk(self, reason: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            self._complaints.later(
                "disk", f"usage events are kept in memory only, for the spool cannot be written: {reason}"
            )

    def release(self) -> None:
        """Leave what is on disk to the next process."""
        if self.own is not None:
            self.own.release()
        self._inheritance.release()

    def forget(self) -> None:
        """Close what belongs to the parent process, in a forked child."""
        if self.own is not None:
            self.own.forget()
        self._inheritance.forget()
