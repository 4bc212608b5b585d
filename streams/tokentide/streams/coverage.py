"""What a record of `usage.priced` says of itself: the source offsets that it covers, and how to know it again."""

from collections.abc import Sequence
from typing import NamedTuple

from tokentide.schemas import DataLossError
from tokentide.schemas.chunk import Record
from tokentide.schemas.columns import COVERED_FROM, COVERED_TO, EVENT_CLOCK, NONCE, SEEN_DAY
from tokentide.streams.clock import EventClock

__all__ = ["Trace", "coverage", "coverage_headers", "event_clock", "trace"]

_DAY_MS = 86_400_000


class Trace(NamedTuple):
    """What the dedupe memory asks of a record; records of meters before it have no nonce."""

    day: int
    """The newest day, counted from 1970, that the source partition had reached."""
    nonce: str
    """What the records of no other chunk carry."""


def coverage(record: Record, place: str) -> tuple[int, int]:
    """Return the first and the last offset covered; raises DataLossError for a record that no meter writes."""
    headers = dict(record.headers)
    try:
        return int(headers[COVERED_FROM]), int(headers[COVERED_TO])
    except (KeyError, ValueError) as error:
        raise DataLossError(
            f"{place} at offset {record.offset} does not say what it covers: stop what else writes to this topic"
        ) from error


def trace(record: Record) -> Trace:
    """Return the day and the nonce; where the day is not said, it is that of the record."""
    headers = dict(record.headers)
    day = headers.get(SEEN_DAY, b"")
    return Trace(
        int(day) if day.isdigit() else record.timestamp // _DAY_MS, headers.get(NONCE, b"").decode("latin-1")
    )


def event_clock(record: Record) -> EventClock:
    """Return the clock after the record: what it had closed was closed for the rows of the record too.

    Records of meters before it close nothing.
    """
    text = dict(record.headers).get(EVENT_CLOCK, b"")
    try:
        event_time, closed_days, closed_months = map(int, text.split(b","))
    except ValueError:
        return EventClock()
    return EventClock(event_time, closed_days, closed_months)


def coverage_headers(first: int, last: int, traced: Trace, clock: EventClock) -> Sequence[tuple[str, bytes]]:
    """Return the headers for a record that covers these offsets."""
    return [
        (COVERED_FROM, b"%d" % first),
        (COVERED_TO, b"%d" % last),
        (SEEN_DAY, b"%d" % traced.day),
        (NONCE, traced.nonce.encode()),
        (EVENT_CLOCK, b"%d,%d,%d" % clock),
    ]
