"""What a record of `usage.priced` says of itself comes back as it went."""

import pytest

from tokentide.schemas import DataLossError
from tokentide.schemas.chunk import Record
from tokentide.schemas.columns import COVERED_FROM, COVERED_TO
from tokentide.streams.clock import EventClock
from tokentide.streams.coverage import Trace, coverage, coverage_headers, trace

DAY_MS = 86_400_000


def record(*headers: tuple[str, bytes]) -> Record:
    return Record(5, 20_000 * DAY_MS + 1, None, b"", headers)


def test_headers_are_read_back() -> None:
    written = record(*coverage_headers(7, 9, Trace(19_990, "abc"), EventClock(5, 6, 7)))

    assert coverage(written, "usage.priced[0]") == (7, 9)
    assert trace(written) == (19_990, "abc")


@pytest.mark.parametrize("day", [None, -1])
def test_where_no_day_is_known_it_is_that_of_the_record(day: int | None) -> None:
    headers = [(COVERED_FROM, b"7"), (COVERED_TO, b"9")]

    old = record(*headers) if day is None else record(*coverage_headers(7, 9, Trace(day, ""), EventClock()))

    assert coverage(old, "usage.priced[0]") == (7, 9)
    assert trace(old) == (20_000, "")


def test_a_record_without_coverage_stops() -> None:
    with pytest.raises(DataLossError, match=r"usage\.priced\[0\] at offset 5 does not say what it covers"):
        coverage(record(), "usage.priced[0]")
