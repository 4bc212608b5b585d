"""Writing every open record of a changelog again and again, so that compaction keeps the right one.

A worker that was frozen may still send an old record after the new owner's newer one. Recovery takes the highest
fence, whatever the order; but compaction keeps the last. It leaves records alone for an hour
(`min.compaction.lag.ms`), and well within that the owner has written its own once more: in a round over all of them,
and at once what it finds written over when it recovers. So an owner that does not last a round does no harm either.
"""

import math
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["CYCLE_SECONDS", "Rewriting", "Round"]

_Name = TypeVar("_Name", bound=Hashable)

CYCLE_SECONDS = 1200.0
"""How long one round over all records takes; a third of the compaction lag."""


class Rewriting:
    """Says how many records are due, spread evenly over a round."""

    def __init__(
        self, cycle_seconds: float = CYCLE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cycle_seconds = cycle_seconds
        self._clock = clock
        self._last = clock()

    def due(self, records: int) -> int:
        """Return how many of so many records to write now; the fraction that is left is due next time."""
        if not records:
            self._last = self._clock()
            return 0
        seconds_each = self._cycle_seconds / records
        count = math.floor((self._clock() - self._last) / seconds_each)
        self._last += count * seconds_each
        return min(count, records)


class Round(Generic[_Name]):
    """Whose turn it is: names of records, those first that must not wait."""

    def __init__(self) -> None:
        self.urgent: set[_Name] = set()
        """What an older record was written over."""
        self._left: list[_Name] = []

    @property
    def is_over(self) -> bool:
        """Whether all names of the round had their turn."""
        return not self._left

    def begin(self, names: Iterable[_Name]) -> None:
        """Give all of these a turn, from the end."""
        self._left = list(names)

    def take(self, count: int) -> list[_Name]:
        """Return what is urgent, and up to so many others."""
        urgent, self.urgent = list(self.urgent), set()
        begin = max(0, len(self._left) - count)
        chosen = self._left[begin:]
        del self._left[begin:]
        return urgent + chosen
