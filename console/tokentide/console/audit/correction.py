"""What an audit adds to a total of ClickHouse to make it right."""

from collections.abc import Iterator
from typing import NamedTuple

from tokentide.console.audit.totals import Cell, Totals, Used

__all__ = ["Aggregates", "Correction", "corrections"]


class Aggregates(NamedTuple):
    """Totals, and what of them was added by earlier audits; all of one look, so that they belong together."""

    totals: Totals
    adjusted: Totals
    version: int
    """The highest version of what was added; 0 for none."""


class Correction(NamedTuple):
    """One total that is wrong."""

    cell: Cell
    off_by: Used
    """What the log says, less what was found."""
    adjustment: Used
    """What must be added to what the meter published, whatever was added before."""


def corrections(expected: Totals, found: Aggregates) -> Iterator[Correction]:
    """Yield a correction for each total that is not as expected, in the order of names and periods."""
    for cell in sorted(expected.keys() | found.totals.keys()):
        off_by = expected.get(cell, Used()).minus(found.totals.get(cell, Used()))
        if off_by != Used():
            yield Correction(cell, off_by, found.adjusted.get(cell, Used()).plus(off_by))
