"""How long to let work gather before the next flush."""

import time
from collections.abc import Callable

__all__ = ["Pace"]


class Pace:
    """Flushes follow each other at once in an idle process, and at most every `most_seconds` in a busy one.

    A flush costs much the same for one entity as for a few: gathering saves CPU, and where CPU is to spare it
    only costs time. So the share of CPU that the whole process used since the last flush decides.
    """

    def __init__(
        self,
        most_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._most_seconds = most_seconds
        self._clock = clock
        self._cpu = cpu
        self._at, self._used = clock(), cpu()
        self._began = self._at

    def begin(self) -> None:
        """Note that a flush begins."""
        self._began = self._clock()

    def pause(self) -> float:
        """Return the seconds to wait now that it has ended."""
        now, used = self._clock(), self._cpu()
        busy = min(1.0, (used - self._used) / max(now - self._at, 1e-6))
        self._at, self._used = now, used
        return max(0.0, busy * self._most_seconds - (now - self._began))
