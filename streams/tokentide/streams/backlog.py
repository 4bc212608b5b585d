"""What was fetched and is not handed on yet."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from faust.types import TP

__all__ = ["Backlog"]


class Backlog:
    """Fetched records of each partition, in the order of their offsets.

    What stands later in the pipeline leaves first: what is nearly an alert does not wait behind what has just
    arrived. What waits at the beginning meanwhile grows to larger chunks, which cost less an event.
    """

    def __init__(
        self, topics: Sequence[str], chunk_records: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`topics` are in the order of the pipeline; a chunk has at most so many records."""
        self._chunk_records = chunk_records
        self._clock = clock
        self._records: dict[str, dict[TP, list[Any]]] = {topic: {} for topic in reversed(topics)}

    def __len__(self) -> int:
        """How many records wait."""
        return sum(len(records) for places in self._records.values() for records in places.values())

    def add(self, place: TP, records: list[Any]) -> None:
        """Put records behind those of the partition that wait."""
        self._records[place.topic].setdefault(place, []).extend(records)

    def clear(self) -> None:
        """Forget all of it: the partitions belong to others, or are read again."""
        for places in self._records.values():
            places.clear()

    def full(self) -> set[TP]:
        """Return the partitions that have a whole chunk, and need no more for now."""
        return {
            place
            for places in self._records.values()
            for place, records in places.items()
            if len(records) >= self._chunk_records
        }

    def chunks(self, seconds: float) -> Iterator[tuple[TP, list[Any]]]:
        """Yield chunks for so long, at most one of a partition, and at least one of each topic that has any.

        Partitions of a topic take turns.
        """
        until = self._clock() + seconds
        for places in self._records.values():
            for place in list(places):
                if place in places:
                    yield place, self._cut(places, place)
                    if self._clock() >= until:
                        break

    def _cut(self, places: dict[TP, list[Any]], place: TP) -> list[Any]:
        records = places.pop(place)
        if len(records) > self._chunk_records:
            places[place] = records[self._chunk_records :]
        return records[: self._chunk_records]
