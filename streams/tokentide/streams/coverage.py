"""Which source offsets a record of `usage.priced` covers, rejected and duplicate records included."""

from collections.abc import Sequence

from tokentide.schemas import DataLossError
from tokentide.schemas.chunk import Record
from tokentide.schemas.columns import COVERED_FROM, COVERED_TO

__all__ = ["coverage", "coverage_headers"]


def coverage(record: Record, place: str) -> tuple[int, int]:
    """Return the first and the last offset; raises DataLossError for a record that no meter writes."""
    headers = dict(record.headers)
    try:
        return int(headers[COVERED_FROM]), int(headers[COVERED_TO])
    except (KeyError, ValueError) as error:
        raise DataLossError(
            f"{place} at offset {record.offset} does not say what it covers: stop what else writes to this topic"
        ) from error


def coverage_headers(first: int, last: int) -> Sequence[tuple[str, bytes]]:
    """Return the headers for a record that covers these offsets."""
    return [(COVERED_FROM, b"%d" % first), (COVERED_TO, b"%d" % last)]
