"""Until when the totals of a source partition are complete, and when to say so."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tokentide.schemas import ServiceUnavailableError

__all__ = ["Watermarks"]

_LOGGER = logging.getLogger(__name__)
_TELL_SECONDS = 1.0
_LOOK_SECONDS = 15.0
_IDLE_SECONDS = 5.0
_FIRST_LOOK_SECONDS = 1.0
_RECORDS_A_SECOND = 1000


@dataclass
class _Mark:
    """What is known of one partition: Unix seconds, Unix milliseconds for marks, and a monotonic clock."""

    look_at: float
    event_time: int = 0
    met: int = 0
    read_at: int = 0
    told: tuple[int, int] = (0, 0)
    told_at: float = float("-inf")


class Watermarks:
    """The event time watermarks of the partitions that a worker owns, in Unix milliseconds.

    A mark is the largest event time met, less `delay_seconds` for what is out of order. A partition without events
    advances by the clock: it is complete up to the moment of a look that found nothing unread. All workers look
    at the same moments, four a minute, so that a quiet pipeline is at rest in between. Marks only rise.
    """

    def __init__(
        self,
        unread: Callable[[int, int], int],
        partitions: int,
        delay_seconds: float,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unread` returns how many records a source partition holds behind an offset; it may block.

        So many `partitions` hear each mark, from each source partition: with many of them marks are told less often.
        """
        self._unread = unread
        self._delay_ms = int(delay_seconds * 1000)
        self._tell_seconds = max(_TELL_SECONDS, partitions * partitions / _RECORDS_A_SECOND)
        self._clock = clock
        self._monotonic = monotonic
        self._marks: dict[int, _Mark] = {}
        self._look: asyncio.Task[dict[int, int]] | None = None

    def open(self, partition: int) -> None:
        """Own the partition; a first look at it comes soon."""
        self._marks[partition] = _Mark(self._clock() + _FIRST_LOOK_SECONDS)

    def close(self, partition: int) -> None:
        """Forget the partition."""
        self._marks.pop(partition, None)

    def of(self, partition: int, event_time: int) -> int | None:
        """Return the mark when the largest event time met is this; None when nothing is known."""
        mark = self._marks[partition]
        if event_time > mark.event_time:
            now = self._clock()
            mark.event_time, mark.look_at = event_time, _next_look(now + _IDLE_SECONDS)
            # Once: would an event ahead of the clock follow it, a quiet pipeline told marks every second.
            mark.met = max(mark.met, min(event_time, int(now * 1000)))
        known = max(mark.met, mark.read_at)
        return known - self._delay_ms if known else None

    def is_due(self, partition: int, complete_up_to: int) -> bool:
        """Whether to tell the mark, or the event time, now; what is told once is not told again."""
        mark, now = self._marks[partition], self._monotonic()
        news = (complete_up_to, mark.event_time)
        if news == mark.told or now - mark.told_at < self._tell_seconds:
            return False
        mark.told, mark.told_at = news, now
        return True

    def look_after(self, fences: Mapping[int, int]) -> None:
        """Take in what the last look found, and begin one at partitions that are idle; blocks nobody.

        `fences` holds the last offset counted of each partition. A look that fails is made again later.
        """
        if self._look is not None:
            if not self._look.done():
                return
            for partition, moment in self._look.result().items():
                if partition in self._marks:
                    self._marks[partition].read_at = max(moment, self._marks[partition].read_at)
            self._look = None
        now = self._clock()
        idle = {
            partition: fence for partition, fence in fences.items() if now >= self._marks[partition].look_at
        }
        if idle:
            for partition in idle:
                self._marks[partition].look_at = _next_look(now)
            self._look = asyncio.create_task(asyncio.to_thread(self._read_at, idle))

    def _read_at(self, fences: Mapping[int, int]) -> dict[int, int]:
        """Return for each partition without unread records a moment at which it had none."""
        found = {}
        for partition, fence in fences.items():
            moment = int(self._clock() * 1000)
            try:
                if self._unread(partition, fence + 1) == 0:
                    found[partition] = moment
            except ServiceUnavailableError as error:
                _LOGGER.debug("partition %d cannot be looked at now: %s", partition, error)
        return found


def _next_look(now: float) -> float:
    """Return the first common moment after `now`."""
    return (now // _LOOK_SECONDS + 1) * _LOOK_SECONDS
