"""The segments of one owner, read in order: what is not yet with Kafka's client, and what Kafka has not stored."""

import contextlib
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from tokentide.producers.cloud_event import Record
from tokentide.producers.frame import DamagedError, unpack
from tokentide.producers.segment import FIRST, Segment
from tokentide.producers.spool_ticket import Ticket

__all__ = ["Spool"]


class Spool:
    """The folder of one owner, whose lock this process holds.

    The caller holds a lock around each call; `tidy` and `release` are for one thread at a time. No method raises,
    except those of `SpoolWriter` that say so.
    """

    is_own = False
    """Whether this process writes it."""

    def __init__(self, folder: Path, descriptor: int, segments: Iterable[Segment]) -> None:
        self.folder = folder
        self._descriptor: int | None = descriptor
        self._reading: Segment | None = None
        self._offset = FIRST
        self._ahead: deque[Segment] = deque()
        self._segments: set[Segment] = set()
        self._finished: deque[Segment] = deque()
        self._asides: list[Path] = []
        self._lost = 0
        self.waiting = 0
        """Events that Kafka has not, of those that were counted or handed on."""
        for segment in segments:
            self._add(segment)

    def _add(self, segment: Segment) -> None:
        self._segments.add(segment)
        self.waiting += segment.waiting
        if segment.waiting:
            self._ahead.append(segment)
        else:
            self._finished.append(segment)

    @property
    def is_read(self) -> bool:
        """Whether there is nothing that was not handed on."""
        return self.next() is None and not self._ahead

    @property
    def is_finished(self) -> bool:
        """Whether Kafka has everything."""
        return self.waiting == 0 and self.is_read

    def next(self) -> tuple[Ticket, Record] | None:
        """Return the first event that was not handed on; None when there is none, or it cannot be read now."""
        while self._descriptor is not None:
            segment, offset = self._reading, self._offset
            if segment is None:
                if not self._turn_page():
                    return None
                continue
            try:
                found = segment.read(offset)
                if found is None:
                    if not self._turn_page():
                        return None
                    continue
                body, end = found
                if body is not None:
                    return Ticket(self, segment, offset, end), unpack(body)
            except DamagedError:
                segment.is_damaged = True
                self._lose(segment, 1)
                end = segment.after(offset)
            self._offset = end
        return None

    def _turn_page(self) -> bool:
        """Go to the next segment; return False when there is none, or it cannot be opened now."""
        before = self._reading
        if before is not None:
            if not before.is_sealed:
                return False
            self._reading = None
            if before.waiting == 0:
                self._finished.append(before)
        while self._ahead:
            segment = self._ahead[0]
            try:
                segment.map()
            except FileNotFoundError:
                self._ahead.popleft()
                self._lose(segment, segment.waiting)
                self._finished.append(segment)
            except OSError:
                return False
            else:
                self._ahead.popleft()
                self._reading, self._offset = segment, FIRST
                return True
        return False

    def _lose(self, segment: Segment, events: int) -> None:
        if segment.is_counted:
            segment.waiting -= events
            self.waiting -= events
        self._lost += events

    def take_lost(self) -> int:
        """Return how many records could not be read since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def take_asides(self) -> list[Path]:
        """Return the damaged files that were kept aside since the last call."""
        asides, self._asides = self._asides, []
        return asides

    def hand(self, ticket: Ticket) -> None:
        """Remember that the event, which `next` returned, is with Kafka's client."""
        segment = ticket.segment
        if segment is not None and not segment.is_counted:
            segment.waiting += 1
            self.waiting += 1
        self._offset = ticket.end

    def again(self, ticket: Ticket) -> Record | None:
        """Return the record of an event that was handed on before; None, and it is lost, when it cannot be read."""
        segment = ticket.segment
        if segment is None:
            return None
        try:
            found = segment.read(ticket.offset)
            if found is not None and found[0] is not None:
                return unpack(found[0])
        except DamagedError:
            pass
        segment.is_damaged = True
        self._lost += 1
        self.done(ticket)
        return None

    def done(self, ticket: Ticket) -> None:
        """Remember that Kafka has the event, or will never take it."""
        segment = ticket.segment
        if self._descriptor is None or segment is None:
            return
        segment.mark_done(ticket.offset)
        self.waiting -= 1
        if segment.waiting == 0 and segment.is_sealed and segment is not self._reading:
            self._finished.append(segment)

    def tidy(self) -> None:
        """Delete the segments of which Kafka has everything; keep a damaged one aside. Needs no lock."""
        while True:
            try:
                segment = self._finished.popleft()
            except IndexError:
                return
            self._segments.discard(segment)
            segment.unmap()
            try:
                if segment.is_damaged:
                    aside = self.folder.with_name(f"{self.folder.name}-{segment.path.stem}.corrupt")
                    segment.path.rename(aside)
                    self._asides.append(aside)
                else:
                    segment.path.unlink()
            except OSError:
                continue  # it is gone, or the disk can no longer be written: sent twice, it counts once

    def release(self) -> None:
        """Give the folder up: to the next process what is left, or delete it when nothing is."""
        self.tidy()
        if self._descriptor is None:
            return
        if self.is_finished:
            for path in self.folder.glob("*.segment"):
                with contextlib.suppress(OSError):
                    path.unlink()
            try:
                (self.folder / "lock").unlink()
                self.folder.rmdir()
            except OSError:
                pass  # another process deletes what is left, or it is no spool's
        self.forget()

    def forget(self) -> None:
        """Close what is open, without a word to other processes: all a forked child may do."""
        descriptor, self._descriptor = self._descriptor, None
        for segment in list(self._segments):
            segment.unmap()
        if descriptor is not None:
            os.close(descriptor)
