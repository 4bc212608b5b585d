"""What every entity used, counted from one partition: the state behind `usage.spend`, as values.

The state is a pure function of the priced rows up to an offset, whatever their batches and repeats: that is why a
replay, or a frozen worker that wakes up, can only write what is true already. That holds for what is closed too: the
clock that closes days and months stands in the log.
"""

from functools import lru_cache
from typing import NamedTuple

from tokentide.streams.clock import EventClock
from tokentide.streams.day import FENCE_KEY, Fence, fence_record, read_fence
from tokentide.streams.partition import entity_key
from tokentide.streams.periods import Periods, Place
from tokentide.streams.rewriting import Round
from tokentide.streams.rows import Rows
from tokentide.streams.spend_record import day_start, month_start, place_of, spend_total, update_record
from tokentide.streams.total import Total
from tokentide.streams.usage_groups import groups

__all__ = ["SpendChanges", "SpendState"]

_Entity = tuple[str, str]


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
        self._periods = Periods()
        self._dirty: dict[_Entity, tuple[int, ...]] = {}
        self._dirty_months: dict[_Entity, set[int]] = {}
        self._late: list[tuple[str, str, bytes]] = []
        self._round = Round[Place]()
        self._closed_days = 0
        self._to_fold: list[Place] = []
        self._has_moved = False

    def __len__(self) -> int:
        """How many records of the changelog it takes, the fence among them."""
        return len(self._periods.days) + len(self._periods.months) + 1

    @property
    def sizes(self) -> dict[str, int]:
        """How many days of entities are remembered, and how many months that hold closed days."""
        return {"day": len(self._periods.days), "month": len(self._periods.months)}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog: per key the highest fence wins, whatever the order.

        Raises DataLossError for a record that no meter writes.
        """
        if key == FENCE_KEY:
            self._load_fence(value)
            return
        place, is_month = place_of(key)
        if value is None:
            return  # what was deleted is closed: `loaded` drops it
        if not self._periods.load(place, value, is_month=is_month):
            self._round.urgent.add(place)

    def loaded(self) -> None:
        """Say that the changelog is read to its end."""
        self._periods.loaded(self.clock)
        self._level_at = max(self._periods.versions.values(), default=-1)

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
        is_counted = self._periods.is_counted if self.is_catching_up else None
        for scope, used_by in groups(rows, is_counted):
            for scope_id, hour, used, last in used_by:
                self._count(scope, scope_id, hour, used, last)
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
        for entity in self._dirty_months:
            self._dirty.setdefault(entity, ())
        for entity, hours in self._dirty.items():
            days, months = _days_and_months(hours)
            late_months = self._dirty_months.get(entity)
            if late_months:
                months = tuple(dict.fromkeys((*late_months, *months)))
            update = self._update(entity, hours, days, months, complete_up_to)
            spend.append((entity_key(*entity), "", update))
            for start in {*days, *late_months} if late_months else days:
                changelog += self._periods.records((*entity, start))
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
            self._to_fold = self._periods.closed(self.clock)
        chosen, self._to_fold = self._to_fold[:count], self._to_fold[count:]
        records = []
        for place in chosen:
            self._periods.close(place, self.clock, self.fence)
            records += self._periods.records(place)
        if chosen and not self._to_fold:
            self._periods.forget_gone()
        return records, self._periods.take_deletions()

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records for the changelog once more, call after call all of them, in turn; and before
        those each that `load` found written over. The fence is left to `take_changes`.

        Records that changed and were not taken yet are left out: what is remembered must have been published.
        """
        if self.is_catching_up:
            return []
        if count and self._round.is_over:
            self._round.begin({*self._periods.days, *self._periods.months})
            self._has_moved = True
        chosen = self._round.take(count)
        return [
            record for place in chosen if not self._is_dirty(place) for record in self._periods.records(place)
        ]

    def _is_dirty(self, place: Place) -> bool:
        """Whether the day, or the month that begins with it, changed: busy entities always have some that did."""
        entity, start = place[:2], place[2]
        days, _ = _days_and_months(self._dirty.get(entity, ()))
        return start in days or start in self._dirty_months.get(entity, ())

    def _count(self, scope: str, scope_id: str, hour: int, used: Total, last: int) -> None:
        """Add what an entity used in an hour; `last` is the last offset that is in it."""
        self._periods.count(scope, scope_id, hour, used, last)
        entity = (scope, scope_id)
        hours = self._dirty.get(entity)
        if hours is None:
            self._dirty[entity] = _only(hour)
        elif hour not in hours:
            self._dirty[entity] = (*hours, hour)

    def _count_late(self, rows: Rows) -> None:
        """Count rows of closed days: in their months where those are open, else as adjustments only.

        One row after the other: an adjustment has the name of its event, so that it is the same in any chunk.
        """
        for number, offset in enumerate(rows.offsets):
            row = rows.single(number)
            for scope, used_by in groups(row, None):
                for scope_id, hour, used, _ in used_by:
                    entity, month = (scope, scope_id), month_start(hour)
                    is_open = month >= self.clock.closed_months
                    if is_open and self._periods.count_late((*entity, month), used, offset):
                        self._dirty_months.setdefault(entity, set()).add(month)
                    self._late.append(self._adjustment(entity, hour, used, offset, is_open))

    def _update(
        self,
        entity: _Entity,
        hours: tuple[int, ...],
        days: tuple[int, ...],
        months: tuple[int, ...],
        complete_up_to: int | None,
    ) -> bytes:
        periods = self._periods
        held = {start: periods.days[(*entity, start)] for start in days}
        totals = [spend_total("hour", hour, held[day_start(hour)].hours[hour]) for hour in hours]
        totals += [spend_total("day", start, day.total) for start, day in held.items()]
        totals += [spend_total("month", start, periods.month_total((*entity, start))) for start in months]
        return update_record(entity, self._partition, periods.versions[entity], totals, complete_up_to)

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

    def _load_fence(self, value: bytes | None) -> None:
        if value is None:
            return
        fence = read_fence(value)
        if self.priced is None or fence[:2] >= (self.fence, self.priced):
            self.fence, self.priced, self.clock = fence
        else:
            self._has_moved = True  # an older one was written over it


@lru_cache(maxsize=4096)
def _only(hour: int) -> tuple[int, ...]:
    """Return the hour alone; nearly all entities share it."""
    return (hour,)


@lru_cache(maxsize=4096)
def _days_and_months(hours: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    days = tuple(dict.fromkeys(map(day_start, hours)))
    return days, tuple(dict.fromkeys(map(month_start, days)))
