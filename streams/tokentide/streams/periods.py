"""The open days and months of one source partition's entities, as the spend changelog holds them."""

from tokentide.schemas import Period, period_end
from tokentide.streams.clock import DAY_SECONDS, EventClock
from tokentide.streams.day import Day, Total, add_total, day_key, day_record, empty_total
from tokentide.streams.month import Month, month_key
from tokentide.streams.spend_record import day_start, month_start

__all__ = ["Periods", "Place"]

Place = tuple[str, str, int]
"""Scope, id, and the start of a day or a month in Unix seconds."""


class Periods:
    """Days with their hours, and months with what is in no open day; a record of the changelog each."""

    def __init__(self) -> None:
        self.days: dict[Place, Day] = {}
        self.months: dict[Place, Month] = {}
        self._month_totals: dict[Place, Total] = {}
        self._deletions: list[bytes] = []

    def load(self, place: Place, value: bytes, *, is_month: bool) -> None:
        """Take in a record of the changelog: of one key the highest fence wins, whatever the order."""
        if is_month:
            month, other = Month(value), self.months.get(place)
            if other is None or (month.fence, month.through) >= (other.fence, other.through):
                self.months[place] = month
        else:
            day, known = Day(value), self.days.get(place)
            if known is None or day.fence >= known.fence:
                self.days[place] = day

    def drop_closed(self, clock: EventClock) -> None:
        """Forget what stands in the changelog although it is closed.

        It was to be deleted when the process died, or a worker that was frozen has written it again.
        """
        for place in [place for place in self.months if place[2] < clock.closed_months]:
            self._forget_month(place)
        for place in [place for place in self.days if self._is_over(place, clock)]:
            self._forget_day(place)

    def fences(self) -> dict[tuple[str, str], int]:
        """Return for each entity the highest source offset up to which one of its records is true."""
        fences: dict[tuple[str, str], int] = {}
        for held in (self.days, self.months):
            for (scope, scope_id, _), period in held.items():
                fences[scope, scope_id] = max(period.fence, fences.get((scope, scope_id), -1))
        return fences

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
        month = self.month_total((scope, scope_id, month_start(start)))
        day = self.days.get((scope, scope_id, start))
        if day is None:
            day = self.days[scope, scope_id, start] = Day()
        day.count(hour, used, last)
        add_total(month, used)

    def count_late(self, place: Place, used: Total, offset: int) -> bool:
        """Add what an event of a closed day used to its month; return whether that was news."""
        month = self.months.get(place)
        if month is not None and offset <= month.fence:
            return False
        add_total(self.month_total(place), used)
        self.months.setdefault(place, Month()).count(used, offset)
        return True

    def month_total(self, place: Place) -> Total:
        """Return what the month adds up to; who counts in it later adds to this as well."""
        total = self._month_totals.get(place)
        if total is None:
            total = self._month_totals[place] = empty_total()
            if place in self.months:
                add_total(total, self.months[place].total)
            for day in self._days_of(place):
                add_total(total, self.days[day].total)
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

    def take_deletions(self) -> list[bytes]:
        """Return the keys that are to be deleted from the changelog since the last call."""
        deletions, self._deletions = self._deletions, []
        return deletions

    def records(self, place: Place) -> list[tuple[bytes, bytes]]:
        """Return what the changelog holds of a place: a day, a month, or both on the first of one."""
        records = []
        day, month = self.days.get(place), self.months.get(place)
        if day is not None:
            fresh = day.record is None
            records.append(
                day_record(*place, day.fence, day.hours) if fresh else (day_key(*place), day.record or b"")
            )
        if month is not None:
            records.append((month_key(*place), month.record()))
        return records

    def _days_of(self, place: Place) -> list[Place]:
        """Return the places of the days of an entity's month, in order."""
        scope, scope_id, month = place
        starts = range(month, period_end(Period.MONTH, month), DAY_SECONDS)
        return [(scope, scope_id, start) for start in starts if (scope, scope_id, start) in self.days]

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
