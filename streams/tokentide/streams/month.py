"""What one entity used in one month outside its open days, and its record of the spend changelog."""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from tokentide.streams.day import Day, readable
from tokentide.streams.partition import entity_key
from tokentide.streams.total import Total

__all__ = ["Month", "month_key"]


class _MonthRecord(msgspec.Struct):
    """What the changelog holds: everything up to the source offset `fence` that is in no open day."""

    fence: int
    through: int
    total: tuple[int, int, int, str, int]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_MonthRecord).decode


class Month:
    """The days that were folded into it, and late events of days that are closed."""

    __slots__ = ("fence", "through", "total")

    def __init__(self, record: bytes | None = None) -> None:
        """A month without usage, or that of a record; raises DataLossError for one that no meter writes."""
        self.fence = -1
        """The source offset up to which it is true."""
        self.through = -1
        """Days that begin at or before this Unix second are folded; -1 for none."""
        self.total = Total()
        if record is not None:
            with readable(record):
                content = _decode(record)
                requests, input_tokens, output_tokens, cost, unpriced = content.total
                self.fence, self.through = content.fence, content.through
                self.total = Total(requests, input_tokens, output_tokens, int(cost), unpriced)

    def fold(self, start: int, day: Day, fence: int) -> None:
        """Take in a closed day; everything up to `fence` must be counted. Days are folded in order."""
        self.total.add(day.total)
        self.through = max(self.through, start)
        self.fence = max(self.fence, fence)

    def count(self, used: Total, offset: int) -> None:
        """Add what a late event used."""
        self.total.add(used)
        self.fence = max(self.fence, offset)

    def record(self) -> bytes:
        """Return everything, for the changelog."""
        total = self.total
        numbers = (
            total.requests,
            total.input_tokens,
            total.output_tokens,
            str(total.cost_pico_usd),
            total.unpriced_requests,
        )
        return _encode(_MonthRecord(self.fence, self.through, numbers))


def month_key(scope: str, scope_id: str, month: int) -> bytes:
    """Return the key of an entity's month, which is given by its start in Unix seconds."""
    return f"{entity_key(scope, scope_id)}|{_name(month)}".encode()


@lru_cache(maxsize=256)
def _name(month: int) -> str:
    return datetime.fromtimestamp(month, UTC).strftime("%Y-%m")
