"""The open days and months of one source partition's entities, as the spend changelog holds them."""

from functools import lru_cache

from tokentide.schemas import Period, period_end
from tokentide.streams.clock import DAY_SECONDS, EventClock
from tokentide.streams.day import Day, day_key
from tokentide.streams.month import Month, month_key
from tokentide.streams.spend_record import day_start, month_start
from tokentide.streams.total import Total

__all__ = ["Periods", "Place"]

_Entity = tuple[str, str]
Place = tuple[str, str, int]
"""Scope, id, and the start of a day or a month in Unix seconds."""


class Periods:
    """Days with their hours, and months with what is in no open day; a record of the changelog each."""

    def __init__(self) -> None:
        self.days: dict[Place, Day] = {}
        self.months: dict[Place, Month] = {}
        self.versions: dict[_Entity, int] = {}
        """For each entity the highest source offset up to which one of its records is true; known after `loaded`."""
        self._month_totals: dict[Place, Total] = {}
        self._deletions: list[bytes] = []

    def load(self, place: Place, value: bytes, *, is_month: bool) -> bool:
        """Take in a record of the changelog: of one key the highest fence wins, whatever the order.

        Returns whether it is as new as any before it.
        """
        if is_month:
            month, other = Month(value), self.months.get(place)
            if other is not None and (month.fence, month.through) < (other.fence, other.through):
                return False
            self.months[place] = month
        else:
            day, known = Day.read(value), self.days.get(place)
            if known is not None and day.fence < known.fence:
                return False
            self.days[place] = day
        return True

    def loaded(self, clock: EventClock) -> None:
        """Forget what stands in the changelog although it is closed; call it behind the last `load`.

        It was to be deleted when the process died, or a worker that was frozen has written it again.
        """
        for place in [place for place in self.months if place[2] < clock.closed_months]:
            self._forget_month(place)
        for place in [place for place in self.days if self._is_over(place, clock)]:
            self._forget_day(place)
        for held in (self.days, self.months):
            for (scope, scope_id, _), period in held.items():
                self._raise_version((scope, scope_id), period.fence)

    def is_counted(self, scope: str, scope_id: str, hour: int, offset: int) -> bool:
        """Whether a row of an open day is in the totals already."""
        start = day_start(hour)
        month = self.months.get((scope, scope_id, month_start(start)))
        if month is not None and start <= month.through:
            return offset <= month.fence
        day = self.days.get((scope, scope_id, start))
        return day is not None and offset <= day.fence

    def count(self, scope: str, scope_id: str, hour: int, used: Total, last: int) -> None:
        """Add what an entity used in an hour of an open day; `last` is the last offset that is in it."""
        start = day_start(hour)
        # First, for it adds up the days that are there.
        month = self.month_total((scope, scope_id, month_start(hour)))
        place = (scope, scope_id, start)
        day = self.days.get(place)
        if day is None:
            day = self.days[place] = Day()
        day.count(hour, used, last)
        month.add(used)
        self._raise_version((scope, scope_id), last)

    def count_late(self, place: Place, used: Total, offset: int) -> bool:
        """Add what an event of a closed day used to its month; return whether that was news."""
        month = self.months.get(place)
        if month is not None and offset <= month.fence:
            return False
        self.month_total(place).add(used)
        self.months.setdefault(place, Month()).count(used, offset)
        self._raise_version(place[:2], offset)
        return True

    def month_total(self, place: Place) -> Total:
        """Return what the month adds up to; who counts in it later adds to this as well."""
        total = self._month_totals.get(place)
        if total is None:
            total = self._month_totals[place] = Total()
            if place[:2] in self.versions:  # else it is new, and looking for its days would find none
                if place in self.months:
                    total.add(self.months[place].total)
                for day in self._days_of(place):
                    total.add(self.days[day].total)
        return total

    def closed(self, clock: EventClock) -> list[Place]:
        """Return the places of all months that have something to close."""
        days = {(*place[:2], month_start(place[2])) for place in self.days if place[2] < clock.closed_days}
        months = {place for place in (*self.months, *self._month_totals) if place[2] < clock.closed_months}
        return list(days | months)

    def close(self, place: Place, clock: EventClock, fence: int) -> None:
        """Fold the closed days of a month into it, or forget all of it; everything up to `fence` must be counted."""
        is_over = place[2] < clock.closed_months
        for day in self._days_of(place):
            if day[2] < clock.closed_days:
                if not is_over:
                    self.months.setdefault(place, Month()).fold(day[2], self.days[day], fence)
                self._forget_day(day)
        if is_over:
            self._forget_month(place)

    def forget_gone(self) -> None:
        """Forget the versions of entities of which nothing is left."""
        held = {place[:2] for places in (self.days, self.months) for place in places}
        self.versions = {entity: self.versions[entity] for entity in held}

    def take_deletions(self) -> list[bytes]:
        """Return the keys that are to be deleted from the changelog since the last call."""
        deletions, self._deletions = self._deletions, []
        return deletions

    def records(self, place: Place) -> list[tuple[bytes, bytes]]:
        """Return what the changelog holds of a place: a day, a month, or both on the first of one."""
        records = []
        day, month = self.days.get(place), self.months.get(place)
        if day is not None:
            records.append((day_key(*place), day.record()))
        if month is not None:
            records.append((month_key(*place), month.record()))
        return records

    def _days_of(self, place: Place) -> list[Place]:
        """Return the places of the days of an entity's month, in order."""
        scope, scope_id, month = place
        return [
            (scope, scope_id, start) for start in _days_in(month) if (scope, scope_id, start) in self.days
        ]

    def _raise_version(self, entity: _Entity, fence: int) -> None:
        if fence > self.versions.get(entity, -2):
            self.versions[entity] = fence

    def _is_over(self, place: Place, clock: EventClock) -> bool:
        first = month_start(place[2])
        month = self.months.get((*place[:2], first))
        return first < clock.closed_months or (month is not None and place[2] <= month.through)

    def _forget_day(self, place: Place) -> None:
        self.days.pop(place)
        self._deletions.append(day_key(*place))

    def _forget_month(self, place: Place) -> None:
        self._month_totals.pop(place, None)
        if self.months.pop(place, None) is not None:
            self._deletions.append(month_key(*place))


@lru_cache(maxsize=256)
def _days_in(month: int) -> range:
    return range(month, period_end(Period.MONTH, month), DAY_SECONDS)
