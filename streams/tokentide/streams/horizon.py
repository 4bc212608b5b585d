"""Which days and months are closed: functions of how far the log is in event time."""

from typing import NamedTuple

from tokentide.schemas import Period, period_start

__all__ = ["DAY_GRACE_SECONDS", "MONTH_GRACE_SECONDS", "Grace", "Horizon"]

DAY_GRACE_SECONDS = 7 * 86_400
MONTH_GRACE_SECONDS = 35 * 86_400


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


class Grace(NamedTuple):
    """For how long after its end, in seconds of event time, late events still amend a day or a month."""

    day_seconds: int = DAY_GRACE_SECONDS
    month_seconds: int = MONTH_GRACE_SECONDS

    def horizon(self, complete_up_to: int | None) -> Horizon:
        """Return what is closed at a watermark in Unix milliseconds: all whose end + grace is not beyond it."""
        if complete_up_to is None:
            return Horizon()
        second = complete_up_to // 1000
        return Horizon(
            period_start(Period.DAY, second - self.day_seconds),
            period_start(Period.MONTH, second - self.month_seconds),
        )
