"""How long to let work gather before the next flush or fetch."""

import time
from collections.abc import Callable

__all__ = ["Pace"]

_MEMORY_SECONDS = 0.25
_POWER = 3


class Pace:
    """Rounds of work follow each other at once in an idle process, and at most every `most_seconds` in a busy one.

    A flush costs much the same for one entity as for a few, and so does a fetch: gathering saves CPU, and where CPU
    is to spare it only costs time. So the share of CPU that the whole process used of late decides, by its third
    power: half a processor is to spare still. Rounds are at least `least_seconds` apart, however idle it is.
    """

    def __init__(
        self,
        most_seconds: float,
        least_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._most_seconds = most_seconds
        self._least_seconds = least_seconds
        self._clock = clock
        self._cpu = cpu
        self._at, self._used = clock(), cpu()
        self._busy = 0.0
        self._began = self._at

    def begin(self) -> None:
        """Note that a round begins."""
        self._began = self._clock()

    def pause(self) -> float:
        """Return the seconds to wait before the next round begins."""
        now, used = self._clock(), self._cpu()
        passed = now - self._at
        busy = min(1.0, (used - self._used) / max(passed, 1e-6))
        self._busy += (busy - self._busy) * min(1.0, passed / _MEMORY_SECONDS)
        self._at, self._used = now, used
        apart = max(self._least_seconds, self._busy**_POWER * self._most_seconds)
        return max(0.0, apart - (now - self._began))
