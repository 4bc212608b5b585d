"""How far event time has come in a source partition, and which days and months it has closed."""

from typing import NamedTuple

from tokentide.schemas import Period, period_start

__all__ = ["DAY_SECONDS", "EventClock", "Grace"]

DAY_SECONDS = 86_400


class Grace(NamedTuple):
    """How long after their end periods stay open for late events, in seconds."""

    days: int = 7 * DAY_SECONDS
    """For hours and days."""
    months: int = 35 * DAY_SECONDS


class EventClock(NamedTuple):
    """A clock that only goes forward; what it has closed stays closed, also when the grace becomes longer."""

    event_time: int = 0
    """The largest event time met, in Unix milliseconds; 0 for none."""
    closed_days: int = 0
    """Days that begin before this Unix second are closed, with their hours."""
    closed_months: int = 0
    """Months that begin before this Unix second are closed."""

    def met(self, event_time: int) -> "EventClock":
        """Return the clock after an event; it closes nothing yet."""
        return self if event_time <= self.event_time else self._replace(event_time=event_time)

    def closing(self, grace: Grace) -> "EventClock":
        """Return the clock with everything closed whose end lies as far back as the grace."""
        second = self.event_time // 1000
        day = max(0, second - grace.days)
        month = max(0, second - grace.months)
        return self._replace(
            closed_days=max(self.closed_days, day - day % DAY_SECONDS),
            closed_months=max(self.closed_months, period_start(Period.MONTH, month) if month else 0),
        )

    def joined(self, other: "EventClock") -> "EventClock":
        """Return the later of two clocks, part by part."""
        return EventClock(*map(max, self, other))
