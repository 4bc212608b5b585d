"""What is closed: only forward, never before its grace is over, and exactly then."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.schemas import SettingsError
from tokentide.streams.clock import DAY_SECONDS, EventClock, Grace
from tokentide.streams.settings import MeterSettings

moments = st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
graces = st.builds(
    lambda day, more: Grace(day * DAY_SECONDS, (day + more) * DAY_SECONDS),
    st.integers(0, 40),
    st.integers(0, 60),
)


def closed_days(now: datetime, grace: timedelta) -> datetime:
    """The first day that is not over for as long as the grace, found by trying each."""
    day = (now - grace - timedelta(days=2)).replace(hour=0, minute=0, second=0, microsecond=0)
    while day + timedelta(days=1) + grace <= now:
        day += timedelta(days=1)
    return day


@given(moments, graces)
def test_a_day_and_a_month_are_closed_when_their_grace_is_over(now: datetime, grace: Grace) -> None:
    clock = EventClock().met(int(now.timestamp() * 1000)).closing(grace)

    assert clock.closed_days == closed_days(now, timedelta(seconds=grace.days)).timestamp()
    month = datetime.fromtimestamp(clock.closed_months, UTC)
    assert month == month.replace(day=1, hour=0, minute=0, second=0)
    assert month + timedelta(seconds=grace.months) <= now
    following = (month + timedelta(days=32)).replace(day=1)
    assert following + timedelta(seconds=grace.months) > now


@given(st.lists(st.tuples(moments, graces), min_size=1))
def test_what_is_closed_stays_closed(steps: list[tuple[datetime, Grace]]) -> None:
    clock = EventClock()
    for moment, grace in steps:
        later = clock.met(int(moment.timestamp() * 1000)).closing(grace)
        assert all(after >= before for before, after in zip(clock, later, strict=True))
        assert later.joined(clock) == later == clock.joined(later)
        clock = later


def test_a_month_must_not_close_before_its_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENTIDE_DAY_GRACE_DAYS", "40")

    with pytest.raises(SettingsError, match="TOKENTIDE_MONTH_GRACE_DAYS=35 is less than"):
        MeterSettings.from_env()
