"""The totals that the meter remembers of open periods, as they stand in the changelog of its stage `spend`."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.totals import Cell, Entity, Hour, HourTotals, Totals, Used, add_to
from tokentide.schemas import DataLossError, Period, Scope, period_start

__all__ = ["Open", "State", "read_state"]

_DAY_SECONDS = 86_400
_FENCE_KEY = b"#fence"
_Place = tuple[int, Entity, int]


class _Fence(NamedTuple):
    source: int = -1
    priced: int = -1
    closed_days: int = 0
    closed_months: int = 0


class _Day(NamedTuple):
    fence: int
    hours: dict[int, Used]


class _Month(NamedTuple):
    fence: int
    through: int
    total: Used


class Open(NamedTuple):
    """What the log says of the periods that are open."""

    totals: Totals
    closed: int
    """How many days and months of entities and partitions are closed."""


class State:
    """What is remembered per source partition and entity: open days by the hour, and a record of the rest of a month.

    A day that is closed is folded into its month sooner or later; of hours and days that began before, the state says
    nothing, and of a closed month nothing at all.
    """

    def __init__(self) -> None:
        self._fences: dict[int, _Fence] = {}
        self._days: dict[_Place, _Day] = {}
        self._months: dict[_Place, _Month] = {}

    def add(self, record: LogRecord) -> None:
        """Take a record in: per key the highest fence wins, whatever the order.

        Its partition is that of the events counted in it. What is deleted is closed, so the fence of the partition
        speaks for it.

        Raises DataLossError for a record that no meter writes.
        """
        if record.key is None or record.value is None:
            return
        try:
            value = json.loads(record.value)
            if record.key == _FENCE_KEY:
                self._add_fence(record.partition, value)
            elif not record.key.startswith(b"#"):
                self._add_total(record.partition, record.key.decode(), value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataLossError(
                f"the changelog holds a record that no meter of this version writes: key {record.key!r}: "
                f"{error!r}"
            ) from error

    def totals(self) -> Totals:
        """Return what is remembered of open periods, over all source partitions."""
        totals: Totals = {}
        for (partition, entity, month), rest in self._months.items():
            if month >= self._fence(partition).closed_months:
                add_to(totals, Cell(*entity, Period.MONTH, month), rest.total)
        for (partition, entity, start), day in self._days.items():
            rest_of_month = self._months.get((partition, entity, period_start(Period.MONTH, start)))
            # Folded already: a worker that woke up wrote this one.
            if rest_of_month is None or start > rest_of_month.through:
                for hour, used in day.hours.items():
                    for cell in self._open_cells(partition, entity, hour):
                        add_to(totals, cell, used)
        return totals

    def expected(self, counted: Iterable[tuple[Hour, Used]], late: Mapping[int, HourTotals]) -> Open:
        """Return what must be remembered when the meter has `counted` these hours, with what was `late` among it.

        An event whose day was closed when it came (late 1) counts in its month only; one whose month was closed too
        (late 2) in nothing.
        """
        totals: Totals = {}
        closed: set[tuple[int, Cell]] = set()
        for (partition, entity, hour), used in counted:
            for cell in self._open_cells(partition, entity, hour):
                add_to(totals, cell, used)
            closed.update((partition, cell) for cell in self._closed_cells(partition, entity, hour))
        for lateness, hours in late.items():
            for (partition, entity, hour), used in hours:
                for cell in self._open_cells(partition, entity, hour):
                    if lateness > 1 or cell.period is not Period.MONTH:
                        add_to(totals, cell, Used().minus(used))
        return Open(totals, len(closed))

    def _open_cells(self, partition: int, entity: Entity, hour: int) -> list[Cell]:
        fence = self._fence(partition)
        cells = []
        if hour >= fence.closed_days:
            cells = [
                Cell(*entity, period, period_start(period, hour)) for period in (Period.HOUR, Period.DAY)
            ]
        month = period_start(Period.MONTH, hour)
        if month >= fence.closed_months:
            cells.append(Cell(*entity, Period.MONTH, month))
        return cells

    def _closed_cells(self, partition: int, entity: Entity, hour: int) -> list[Cell]:
        open_cells = self._open_cells(partition, entity, hour)
        cells = (Cell(*entity, period, period_start(period, hour)) for period in (Period.DAY, Period.MONTH))
        return [cell for cell in cells if cell not in open_cells]

    def _fence(self, partition: int) -> _Fence:
        return self._fences.get(partition, _Fence())

    def _add_fence(self, partition: int, value: dict[str, Any]) -> None:
        fence = _Fence(
            int(value["source"]),
            int(value["priced"]),
            int(value.get("closed_days", 0)),
            int(value.get("closed_months", 0)),
        )
        self._fences[partition] = max(fence, self._fence(partition))

    def _add_total(self, partition: int, key: str, value: dict[str, Any]) -> None:
        entity, date = _read_key(key)
        if len(date) == len("2026-11"):
            month = _Month(int(value["fence"]), int(value["through"]), _used(value["total"]))
            place = partition, entity, _seconds(date, "%Y-%m")
            known_month = self._months.get(place)
            if known_month is None or month[:2] >= known_month[:2]:
                self._months[place] = month
            return
        hours = {int(start): _used(numbers) for start, numbers in value["hours"].items()}
        day = _Day(int(value["fence"]), hours)
        place = partition, entity, _seconds(date, "%Y-%m-%d")
        known_day = self._days.get(place)
        if known_day is None or day.fence >= known_day.fence:
            self._days[place] = day


def read_state(records: Iterable[LogRecord]) -> State:
    """Return the state that the records of a changelog amount to. Raises what `State.add` raises."""
    state = State()
    for record in records:
        state.add(record)
    return state


def _used(numbers: list[Any]) -> Used:
    requests, input_tokens, output_tokens, cost, unpriced = map(int, numbers)
    return Used(requests, input_tokens, output_tokens, cost, unpriced)


def _read_key(key: str) -> tuple[Entity, str]:
    """Read `scope:scope_id|YYYY-MM-DD`, or `...|YYYY-MM`; a scope_id may hold both separators."""
    name, _, date = key.rpartition("|")
    scope, _, scope_id = name.partition(":")
    return Entity(Scope(scope), scope_id), date


def _seconds(date: str, form: str) -> int:
    return int(datetime.strptime(date, form).replace(tzinfo=UTC).timestamp())
