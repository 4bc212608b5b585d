"""What was fetched and is not handed on yet."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from faust.types import TP

__all__ = ["Backlog"]

_Runs = deque[list[Any]]
"""Records of one partition; between two runs offsets are missing."""


class Backlog:
    """Fetched records of each partition, in the order of their offsets.

    What stands later in the pipeline leaves first: what is nearly an alert does not wait behind what has just
    arrived. What waits at the beginning meanwhile grows to larger chunks, which cost less an event. No chunk goes
    over offsets that are missing between two fetches: whoever takes it must see that they are.
    """

    def __init__(
        self, topics: Sequence[str], chunk_records: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`topics` are in the order of the pipeline; a chunk has at most so many records."""
        self._chunk_records = chunk_records
        self._clock = clock
        self._waiting: dict[str, dict[TP, _Runs]] = {topic: {} for topic in reversed(topics)}

    def __len__(self) -> int:
        """How many records wait."""
        return sum(_count(runs) for places in self._waiting.values() for runs in places.values())

    def add(self, place: TP, records: list[Any]) -> None:
        """Put records behind those of the partition that wait; or in their place, when they are read again."""
        runs = self._waiting[place.topic].setdefault(place, deque())
        if runs and records[0].offset <= runs[-1][-1].offset:
            runs.clear()
        if runs and records[0].offset == runs[-1][-1].offset + 1:
            runs[-1].extend(records)
        else:
            runs.append(list(records))

    def clear(self) -> None:
        """Forget all of it: the partitions belong to others, or are read again."""
        for places in self._waiting.values():
            places.clear()

    def full(self) -> set[TP]:
        """Return the partitions that have a whole chunk, and need no more for now."""
        return {
            place
            for places in self._waiting.values()
            for place, runs in places.items()
            if _count(runs) >= self._chunk_records
        }

    def chunks(self, seconds: float) -> Iterator[tuple[TP, list[Any]]]:
        """Yield chunks for so long, at most one of a partition, and at least one of each topic that has any.

        Partitions of a topic take turns.
        """
        until = self._clock() + seconds
        for places in self._waiting.values():
            for place in list(places):
                if place in places:
                    yield place, self._cut(places, place)
                    if self._clock() >= until:
                        break

    def _cut(self, places: dict[TP, _Runs], place: TP) -> list[Any]:
        """Take the next chunk of a partition, and put the partition behind the others."""
        runs = places.pop(place)
        records = runs.popleft()
        if len(records) > self._chunk_records:
            runs.appendleft(records[self._chunk_records :])
        if runs:
            places[place] = runs
        return records[: self._chunk_records]


def _count(runs: _Runs) -> int:
    return sum(map(len, runs))
