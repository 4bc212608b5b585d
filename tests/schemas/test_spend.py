"""Where periods begin and end, in UTC."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.schemas import Period, period_end, period_start


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        (Period.HOUR, "2026-11-01T12:59:59", "2026-11-01T12:00:00", "2026-11-01T13:00:00"),
        (Period.HOUR, "2026-12-31T23:00:00", "2026-12-31T23:00:00", "2027-01-01T00:00:00"),
        (Period.DAY, "2028-02-29T23:59:59", "2028-02-29T00:00:00", "2028-03-01T00:00:00"),
        (Period.DAY, "2027-02-28T00:00:00", "2027-02-28T00:00:00", "2027-03-01T00:00:00"),
        (Period.DAY, "2026-03-29T02:30:00", "2026-03-29T00:00:00", "2026-03-30T00:00:00"),
        (Period.MONTH, "2028-02-29T23:59:59", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (Period.MONTH, "2027-02-01T00:00:00", "2027-02-01T00:00:00", "2027-03-01T00:00:00"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        (Period.MONTH, "2026-01-31T12:00:00", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        (Period.MONTH, "2026-04-30T12:00:00", "2026-04-01T00:00:00", "2026-05-01T00:00:00"),
        (Period.MONTH, "2099-12-31T23:59:59", "2099-12-01T00:00:00", "2100-01-01T00:00:00"),
        (Period.MONTH, "1969-12-31T23:59:59", "1969-12-01T00:00:00", "1970-01-01T00:00:00"),
    ],
)
def test_a_period_begins_and_ends_at_its_border(period: Period, moment: str, start: str, end: str) -> None:
    assert period_start(period, unix(moment)) == unix(start)
    assert period_end(period, unix(start)) == unix(end)


@given(st.sampled_from(Period), st.integers(unix("2010-01-01"), unix("2100-01-01")))
def test_periods_follow_each_other_without_a_hole(period: Period, moment: int) -> None:
    start = period_start(period, moment)
    end = period_end(period, start)

    assert start <= moment < end
    assert period_start(period, start) == period_start(period, end - 1) == start
    assert period_start(period, end) == end
