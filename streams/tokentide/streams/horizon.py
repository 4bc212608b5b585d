"""Which days and months are closed for budgets: a function of the watermarks in the log."""

from typing import NamedTuple, Self

from tokentide.schemas import Period, period_start
from tokentide.streams.clock import Grace

__all__ = ["Horizon"]


class Horizon(NamedTuple):
    """Days and months that begin before these moments, in Unix seconds, are closed."""

    days: int = 0
    months: int = 0

    def closes(self, period: Period, start: int) -> bool:
        """Whether this day or month is closed."""
        return start < (self.months if period is Period.MONTH else self.days)

    def closes_alert(self, start: int) -> bool:
        """Whether an alert about a period that began then is closed with it.

        What began on the first of a month may have been the month: such an alert stays as long as that.
        """
        is_month = start == period_start(Period.MONTH, start)
        return self.closes(Period.MONTH if is_month else Period.DAY, start)

    @classmethod
    def at(cls, moment: int | None, grace: Grace) -> Self:
        """Return what is closed at a moment of event time in Unix milliseconds: all whose end + grace is over."""
        if moment is None:
            return cls()
        second = moment // 1000
        return cls(
            period_start(Period.DAY, second - grace.days), period_start(Period.MONTH, second - grace.months)
        )
