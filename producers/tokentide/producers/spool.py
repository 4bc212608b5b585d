"""The segments of one owner, read in order: what is not yet with Kafka's client, and what Kafka has not stored."""

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokentide.producers.cloud_event import Record
from tokentide.producers.segment import FIRST, DamagedError, Segment

__all__ = ["Place", "Spool"]


class Place(NamedTuple):
    """Where a record stands."""

    segment: Segment
    offset: int


class Spool:
    """The folder of one owner, whose lock this process holds.

    The caller holds a lock around each call; `tidy` and `release` are for one thread at a time. No method raises,
    except those of `SpoolWriter` that say so.
    """

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
        """Records that Kafka has not."""
        self.behind = 0
        """Those of them that were not yet handed to its client."""
        for segment in segments:
            self._add(segment)

    def _add(self, segment: Segment) -> None:
        self._ahead.append(segment)
        self._segments.add(segment)
        self.waiting += segment.waiting
        self.behind += segment.waiting
        self._finish_if_done(segment)

    @property
    def is_finished(self) -> bool:
        """Whether Kafka has everything."""
        return self.waiting == 0

    def next(self) -> tuple[Place, Record] | None:
        """Return the first record that was not handed on; None when there is none, or it cannot be read now."""
        while self.behind and self._descriptor is not None:
            segment = self._reading
            if segment is None or self._offset >= segment.end:
                if not self._turn_page():
                    return None
                continue
            try:
                if segment.is_done(self._offset):
                    self._offset = segment.after(self._offset)
                    continue
                return Place(segment, self._offset), segment.read(self._offset)
            except DamagedError:
                self._skip(segment)
        return None

    def _turn_page(self) -> bool:
        """Go to the next segment that has something; return False when it cannot be opened now."""
        while self._ahead:
            segment = self._ahead[0]
            if segment.end > FIRST and segment.waiting:
                try:
                    segment.map()
                except FileNotFoundError:
                    self._lose(segment, segment.waiting)
                except OSError:
                    return False
            self._ahead.popleft()
            if segment.waiting:
                self._reading, self._offset = segment, FIRST
                return True
        return False

    def _skip(self, segment: Segment) -> None:
        """Leave the damaged record at the cursor out; its file is kept aside."""
        segment.is_damaged = True
        offset = self._offset
        try:
            self._offset = segment.after(offset)
        except DamagedError:
            self._offset = segment.end
        self._lose(segment, 1)

    def _lose(self, segment: Segment, records: int) -> None:
        segment.waiting -= records
        self.waiting -= records
        self.behind -= records
        self._lost += records
        self._finish_if_done(segment)

    def take_lost(self) -> int:
        """Return how many records could not be read since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def take_asides(self) -> list[Path]:
        """Return the damaged files that were kept aside since the last call."""
        asides, self._asides = self._asides, []
        return asides

    def hand(self, place: Place) -> None:
        """Remember that the record, the first of those behind, is with Kafka's client."""
        while self._reading is not place.segment:
            self._reading = self._ahead.popleft()
        self._offset = place.segment.after(place.offset)
        self.behind -= 1

    def again(self, place: Place) -> Record | None:
        """Return the record of a place that was handed on before; None, and it is lost, when it cannot be read."""
        try:
            return place.segment.read(place.offset)
        except DamagedError:
            place.segment.is_damaged = True
            self._lost += 1
            self.done(place)
            return None

    def done(self, place: Place) -> None:
        """Remember that Kafka has the record, or will never take it."""
        if self._descriptor is None:
            return
        place.segment.mark_done(place.offset)
        self.waiting -= 1
        self._finish_if_done(place.segment)

    def _finish_if_done(self, segment: Segment) -> None:
        if segment.is_sealed and segment.waiting == 0:
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
            try:
                for path in self.folder.glob("*.segment"):
                    path.unlink()
                (self.folder / "lock").unlink()
                self.folder.rmdir()
            except OSError:
                pass  # another process deletes what is left
        self.forget()

    def forget(self) -> None:
        """Close what is open, without a word to other processes: all a forked child may do."""
        descriptor, self._descriptor = self._descriptor, None
        for segment in list(self._segments):
            segment.unmap()
        if descriptor is not None:
            os.close(descriptor)
