"""The totals that Faust remembers, as they stand in the changelog of its table."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.totals import Entity, Hour, HourTotals, Used
from tokentide.schemas import DataLossError, Scope

__all__ = ["State", "read_state"]

Place = tuple[int, Entity, int]


class _Entry(NamedTuple):
    fence: int
    hours: dict[int, Used]


class State:
    """What is remembered per source partition, entity and day; `retired` days were deleted on purpose."""

    def __init__(self) -> None:
        self._entries: dict[Place, _Entry] = {}
        self.retired: set[Place] = set()

    def add(self, record: LogRecord) -> None:
        """Take a record in: per key the highest fence wins, whatever the order; null deletes.

        Its partition is that of the events counted in it. Keys that begin with # say how far a partition is.

        Raises DataLossError for a record that no meter writes.
        """
        if record.key is None or record.key.startswith(b"#"):
            return
        try:
            place = _place(record.partition, record.key.decode())
            if record.value is None:
                self._entries.pop(place, None)
                self.retired.add(place)
                return
            value = json.loads(record.value)
            hours = {int(start): _used(numbers) for start, numbers in value["hours"].items()}
            entry = _Entry(int(value["fence"]), hours)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataLossError(
                f"the changelog holds a record that no meter of this version writes: key {record.key!r}: "
                f"{error!r}"
            ) from error
        self.retired.discard(place)
        known = self._entries.get(place)
        if known is None or entry.fence >= known.fence:
            self._entries[place] = entry

    def hours(self) -> HourTotals:
        """Return what the entries add up to."""
        totals = HourTotals()
        for (partition, entity, _), entry in self._entries.items():
            for start, used in entry.hours.items():
                totals.add(partition, entity, start, used)
        return totals

    def remembered(self, hours: Iterable[tuple[Hour, Used]]) -> Iterator[tuple[Hour, Used]]:
        """Yield those hours whose day is not retired: about the others the state says nothing."""
        for (partition, entity, hour_start), used in hours:
            if (partition, entity, hour_start - hour_start % 86_400) not in self.retired:
                yield (partition, entity, hour_start), used


def read_state(records: Iterable[LogRecord]) -> State:
    """Return the state that the records of a changelog amount to. Raises what `State.add` raises."""
    state = State()
    for record in records:
        state.add(record)
    return state


def _used(numbers: list[Any]) -> Used:
    requests, input_tokens, output_tokens, cost, unpriced = map(int, numbers)
    return Used(requests, input_tokens, output_tokens, cost, unpriced)


def _place(partition: int, key: str) -> Place:
    """Read `scope:scope_id|YYYY-MM-DD`; a scope_id may hold both separators."""
    name, _, day = key.rpartition("|")
    scope, _, scope_id = name.partition(":")
    start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    return partition, Entity(Scope(scope), scope_id), int(start.timestamp())
