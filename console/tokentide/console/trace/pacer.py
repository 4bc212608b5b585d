"""Keeping to a rate."""

import time
from collections.abc import Callable
from datetime import datetime

from tokentide.console.trace.options import Rate

__all__ = ["Pacer"]


class Pacer:
    """Holds the caller back so that events leave at a rate; after a delay it catches up in a burst."""

    def __init__(
        self,
        rate: Rate,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._events = 0
        self._started: float | None = None
        self._first: datetime | None = None

    def wait(self, recorded: datetime) -> None:
        """Sleep until the next event is due; `recorded` is its time in the trace.

        An event recorded before its predecessors is due at once.
        """
        if self._started is None or self._first is None:
            self._started = self._clock()
            self._first = recorded
        due = self._started + self._offset(recorded, self._first)
        self._events += 1
        ahead = due - self._clock()
        if ahead > 0:
            self._sleep(ahead)

    def _offset(self, recorded: datetime, first: datetime) -> float:
        if self._rate.events_per_second is not None:
            return self._events / self._rate.events_per_second
        if self._rate.speed is not None:
            return (recorded - first).total_seconds() / self._rate.speed
        return 0.0
