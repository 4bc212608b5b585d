"""What every entity used, counted from one partition: the state behind `usage.spend`, as values.

The state is a pure function of the priced rows up to an offset, whatever their batches and repeats: that is why a
replay, or a frozen worker that wakes up, can only write what is true already. That holds for what is closed too: the
clock that closes days and months stands in the log.
"""

from typing import NamedTuple

from tokentide.schemas import Period, period_end
from tokentide.streams.clock import DAY_SECONDS, EventClock
from tokentide.streams.day import (
    FENCE_KEY,
    Day,
    Fence,
    Total,
    add_total,
    day_key,
    day_record,
    empty_total,
    fence_record,
    read_fence,
)
from tokentide.streams.month import Month, month_key
from tokentide.streams.partition import entity_key
from tokentide.streams.rows import Rows
from tokentide.streams.spend_record import day_start, month_start, place_of, spend_total, update_record
from tokentide.streams.usage_groups import group, scopes

__all__ = ["SpendChanges", "SpendState"]

_Entity = tuple[str, str]
_Place = tuple[str, str, int]


class SpendChanges(NamedTuple):
    """What a flush sends: records for `usage.spend`, then for the changelog."""

    spend: list[tuple[str, str, bytes]]
    """(entity key, adjustment, record)."""
    changelog: list[tuple[bytes, bytes]]
    """(key, record); the fence is the last of them."""
    priced: int
    """The offset of `usage.priced` that may be committed once all of it is delivered."""


class SpendState:
    """Totals per entity and hour, day, month of one source partition, until they are closed."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.fence = -1
        """The last source offset that is applied; -1 before the first."""
        self.priced: int | None = None
        """The offset of `usage.priced` that comes next; None before the first."""
        self.clock = EventClock()
        self._level_at = -1
        self._days: dict[_Place, Day] = {}
        self._months: dict[_Place, Month] = {}
        self._month_totals: dict[_Place, Total] = {}
        self._versions: dict[_Entity, int] = {}
        self._dirty: dict[_Entity, set[int]] = {}
        self._dirty_months: dict[_Entity, set[int]] = {}
        self._late: list[tuple[str, str, bytes]] = []
        self._to_rewrite: list[_Place] = []
        self._closed_days = 0
        self._to_fold: list[_Place] = []
        self._deletions: list[bytes] = []
        self._has_moved = False

    def __len__(self) -> int:
        """How many records of the changelog it takes."""
        return len(self._days) + len(self._months)

    @property
    def sizes(self) -> dict[str, int]:
        """How many days of entities are remembered, and how many months that hold closed days."""
        return {"day": len(self._days), "month": len(self._months)}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog: per key the highest fence wins, whatever the order.

        Raises DataLossError for a record that no meter writes.
        """
        if key == FENCE_KEY:
            self._load_fence(value)
            return
        place, is_month = place_of(key)
        if value is None:
            return  # what was deleted is closed: see `loaded`
        if is_month:
            month, other = Month(value), self._months.get(place)
            if other is None or (month.fence, month.through) >= (other.fence, other.through):
                self._months[place] = month
        else:
            day, known = Day(value), self._days.get(place)
            if known is None or day.fence >= known.fence:
                self._days[place] = day

    def loaded(self) -> None:
        """Say that the changelog is read to its end.

        What is closed may still stand there, deleted or not, and a worker that was frozen may have written it again.
        """
        for place in [place for place in self._months if place[2] < self.clock.closed_months]:
            self._forgetmonth_start(place)
        for place in [place for place in self._days if self._is_folded(place)]:
            self._forget_day(place)
        held: dict[_Place, int] = {place: day.fence for place, day in self._days.items()}
        for place, month in self._months.items():
            held[place] = max(month.fence, held.get(place, -1))
        for (scope, scope_id, _), fence in held.items():
            self._versions[scope, scope_id] = max(fence, self._versions.get((scope, scope_id), -1))
        self._level_at = max(self._versions.values(), default=-1)

    @property
    def is_catching_up(self) -> bool:
        """Whether some totals are ahead of the partition: a flush was cut off, and its rows come again.

        A month is the sum of days with fences of their own; only when all are level it is true of one offset.
        """
        return self._level_at > self.fence

    def apply(self, rows: Rows, covered_to: int, priced: int, clock: EventClock) -> None:
        """Count rows that lie behind the fence; their record covers the source partition up to `covered_to`.

        `priced` is the offset of `usage.priced` behind that record, `clock` what the record says is closed.
        """
        self.clock = self.clock.joined(clock)
        closed = self.clock.closed_days
        if rows.hours and min(rows.hours) < closed:
            self._count_late(rows.chosen([hour < closed for hour in rows.hours]))
            rows = rows.chosen([hour >= closed for hour in rows.hours])
        is_counted = self._is_counted if self.is_catching_up else None
        for scope, ids in scopes(rows):
            for (scope_id, hour), used in group(scope, ids, rows, is_counted).items():
                self._count(scope, scope_id, hour, used)
        self.fence = covered_to
        self.skip(priced)

    def skip(self, priced: int) -> None:
        """Pass a record of `usage.priced` that holds nothing new."""
        self.priced = priced
        self._has_moved = True

    def take_changes(self, complete_up_to: int | None = None) -> SpendChanges | None:
        """Return what changed since the last call; None when nothing did, or while catching up.

        `complete_up_to` is the watermark of the source partition, in Unix milliseconds.
        """
        if not self._has_moved or self.is_catching_up or self.priced is None:
            return None
        spend, self._late = self._late, []
        changelog: list[tuple[bytes, bytes]] = []
        for entity in self._dirty.keys() | self._dirty_months.keys():
            hours = self._dirty.get(entity, set())
            days = {day_start(hour) for hour in hours}
            late_months = self._dirty_months.get(entity, set())
            update = self._update(entity, hours, days, late_months, complete_up_to)
            spend.append((entity_key(*entity), "", update))
            changelog += [self._day_record((*entity, start)) for start in days]
            changelog += [self._month_record((*entity, month)) for month in late_months]
        changelog.append(fence_record(Fence(self.fence, self.priced, self.clock)))
        self._dirty, self._dirty_months = {}, {}
        self._has_moved = False
        return SpendChanges(spend, changelog, self.priced)

    def fold(self, count: int) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """Close up to so many months of entities or their days; call it right after `take_changes`.

        Returns records for the changelog, to be remembered with the changes, and keys to be deleted behind the fence:
        deleted before, a day could be missing under a fence for which it is still open.
        """
        if self.is_catching_up:
            return [], []
        if self.clock.closed_days > self._closed_days:
            self._closed_days = self.clock.closed_days
            self._to_fold = self._closed()
        chosen, self._to_fold = self._to_fold[:count], self._to_fold[count:]
        records = []
        for place in chosen:
            self._fold_days(place)
            if place[2] < self.clock.closed_months:
                self._forgetmonth_start(place)
            elif place in self._months:
                records.append(self._month_record(place))
        if chosen and not self._to_fold:
            held = {place[:2] for place in (*self._days, *self._months)}
            self._versions = {entity: self._versions[entity] for entity in held}
        deletions, self._deletions = self._deletions, []
        return records, deletions

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records for the changelog once more; call after call all of them, in turn.

        Records that changed and were not taken yet are left out: what is remembered must have been published.
        """
        if self.is_catching_up:
            return []
        if not self._to_rewrite:
            self._to_rewrite = [*self._days, *self._months]
        chosen, self._to_rewrite = self._to_rewrite[:count], self._to_rewrite[count:]
        records = []
        for place in chosen:
            if place[:2] in self._dirty or place[:2] in self._dirty_months:
                continue
            # The first of a month may be a day and a month.
            if place in self._days:
                records.append(self._day_record(place))
            if place in self._months:
                records.append(self._month_record(place))
        return records

    def _is_counted(self, scope: str, scope_id: str, hour: int, offset: int) -> bool:
        start = day_start(hour)
        month = self._months.get((scope, scope_id, month_start(start)))
        if month is not None and start <= month.through:
            return offset <= month.fence
        day = self._days.get((scope, scope_id, start))
        return day is not None and offset <= day.fence

    def _is_late_counted(self, scope: str, scope_id: str, hour: int, offset: int) -> bool:
        month = self._months.get((scope, scope_id, month_start(hour)))
        return month is not None and offset <= month.fence

    def _count(self, scope: str, scope_id: str, hour: int, used: Total) -> None:
        """Add what an entity used in an hour; behind the total stands the last offset that is in it."""
        *total, last = used
        start = day_start(hour)
        place = (scope, scope_id, start)
        month = self._month_total((scope, scope_id, month_start(start)))
        day = self._days.get(place)
        if day is None:
            day = self._days[place] = Day()
        day.count(hour, total, last)
        add_total(month, total)
        entity = (scope, scope_id)
        self._versions[entity] = max(last, self._versions.get(entity, -1))
        self._dirty.setdefault(entity, set()).add(hour)

    def _count_late(self, rows: Rows) -> None:
        """Count rows of closed days: in their months where those are open, else as adjustments only.

        One row after the other: an adjustment has the name of its event, so that it is the same in any chunk.
        """
        for number, offset in enumerate(rows.offsets):
            row = rows.single(number)
            for scope, ids in scopes(row):
                for (scope_id, hour), (*used, _) in group(scope, ids, row, None).items():
                    month = month_start(hour)
                    is_open = month >= self.clock.closed_months
                    if is_open and not self._is_late_counted(scope, scope_id, hour, offset):
                        self._count_inmonth_start((scope, scope_id, month), used, offset)
                    self._late.append(self._adjustment((scope, scope_id), hour, used, offset, is_open))

    def _count_inmonth_start(self, place: _Place, used: Total, offset: int) -> None:
        add_total(self._month_total(place), used)
        month = self._months.get(place)
        if month is None:
            month = self._months[place] = Month()
        month.count(used, offset)
        entity = place[:2]
        self._versions[entity] = max(offset, self._versions.get(entity, -1))
        self._dirty_months.setdefault(entity, set()).add(place[2])

    def _month_total(self, place: _Place) -> Total:
        """Return what the month adds up to; who counts in it later adds to this as well."""
        total = self._month_totals.get(place)
        if total is None:
            total = self._month_totals[place] = empty_total()
            month = self._months.get(place)
            if month is not None:
                add_total(total, month.total)
            for day in self._days_of(place):
                add_total(total, self._days[day].total)
        return total

    def _days_of(self, place: _Place) -> list[_Place]:
        """Return the places of the days of an entity's month, in order."""
        scope, scope_id, month = place
        starts = range(month, period_end(Period.MONTH, month), DAY_SECONDS)
        return [(scope, scope_id, start) for start in starts if (scope, scope_id, start) in self._days]

    def _is_folded(self, place: _Place) -> bool:
        first = month_start(place[2])
        month = self._months.get((*place[:2], first))
        return first < self.clock.closed_months or (month is not None and place[2] <= month.through)

    def _closed(self) -> list[_Place]:
        """Return the places of all months that have something to close."""
        days = {
            (*place[:2], month_start(place[2])) for place in self._days if place[2] < self.clock.closed_days
        }
        months = {
            place for place in (*self._months, *self._month_totals) if place[2] < self.clock.closed_months
        }
        return list(days | months)

    def _fold_days(self, place: _Place) -> None:
        for day in self._days_of(place):
            if day[2] < self.clock.closed_days:
                if place[2] >= self.clock.closed_months:
                    self._months.setdefault(place, Month()).fold(day[2], self._days[day], self.fence)
                self._forget_day(day)

    def _forget_day(self, place: _Place) -> None:
        self._days.pop(place)
        self._deletions.append(day_key(*place))

    def _forgetmonth_start(self, place: _Place) -> None:
        self._month_totals.pop(place, None)
        if self._months.pop(place, None) is not None:
            self._deletions.append(month_key(*place))

    def _update(
        self,
        entity: _Entity,
        hours: set[int],
        days: set[int],
        late_months: set[int],
        complete_up_to: int | None,
    ) -> bytes:
        totals = [
            spend_total("hour", hour, self._days[(*entity, day_start(hour))].hours[hour]) for hour in hours
        ]
        totals += [spend_total("day", start, self._days[(*entity, start)].total) for start in days]
        totals += [
            spend_total("month", month, self._month_total((*entity, month)))
            for month in {*late_months, *map(month_start, days)}
        ]
        return update_record(entity, self._partition, self._versions[entity], totals, complete_up_to)

    def _adjustment(
        self, entity: _Entity, hour: int, used: Total, offset: int, month_is_open: bool
    ) -> tuple[str, str, bytes]:
        """Return what a late event adds to periods whose totals nobody remembers."""
        start = day_start(hour)
        totals = [spend_total("hour", hour, used), spend_total("day", start, used)]
        if not month_is_open:
            totals.append(spend_total("month", month_start(start), used))
        name = f"late/{offset}"
        record = update_record(entity, self._partition, offset, totals, adjustment=name)
        return entity_key(*entity), name, record

    def _day_record(self, place: _Place) -> tuple[bytes, bytes]:
        day = self._days[place]
        if day.record is not None:
            return day_key(*place), day.record
        return day_record(*place, day.fence, day.hours)

    def _month_record(self, place: _Place) -> tuple[bytes, bytes]:
        return month_key(*place), self._months[place].record()

    def _load_fence(self, value: bytes | None) -> None:
        if value is None:
            return
        fence = read_fence(value)
        if self.priced is None or fence[:2] > (self.fence, self.priced):
            self.fence, self.priced, self.clock = fence
