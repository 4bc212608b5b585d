"""Comparing what the sources say, number by number."""

from collections.abc import Iterable, Iterator, Mapping

from tokentide.console.audit.fold import Rejections
from tokentide.console.audit.identities import Identities, Identity
from tokentide.console.audit.report import Difference, Source
from tokentide.console.audit.totals import Cell, Totals, Used
from tokentide.schemas import Period

__all__ = ["compare_identities", "compare_rejections", "compare_totals", "suspects"]

# A day says most to a person, so days come first.
_ORDER = {Period.DAY: 0, Period.MONTH: 1, Period.HOUR: 2}


def compare_totals(source: Source, expected: Totals, found: Totals) -> Iterator[Difference]:
    """Yield every number of every total that is not as expected; days first, then months and hours."""
    cells = (cell for cell in expected.keys() | found.keys() if expected.get(cell) != found.get(cell))
    for cell in sorted(cells, key=_reading_order):
        values = zip(Used._fields, expected.get(cell, Used()), found.get(cell, Used()), strict=True)
        for field, wanted, got in values:
            if wanted != got:
                yield Difference(source, *cell, field, wanted, got)


def compare_identities(identities: Identities) -> Iterator[Difference]:
    """Yield every event that has no raw row, or more than one, and every raw row that is no event."""
    yield from _events(identities.missing(), 1, 0)
    yield from _events(identities.surplus(), 0, 1)
    yield from _events(identities.repeated(), 1, 2)


def compare_rejections(
    expected: Mapping[int, Rejections], found: Mapping[int, Rejections]
) -> Iterator[Difference]:
    """Yield the partitions of which other records are stored as rejected than must be."""
    for partition in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(partition, Rejections()), found.get(partition, Rejections())
        for field, value, other in zip(("rejected", "rejected_offset_sum"), wanted, got, strict=True):
            if value != other:
                yield Difference(
                    Source.RAW, "partition", str(partition), None, None, field, value, other
                )


def suspects(differences: Iterable[Difference]) -> tuple[Source, ...]:
    """Return the sources that are wrong: those that differ, or the log where all others agree on another number."""
    places: dict[tuple[object, ...], dict[Source, int]] = {}
    guilty = set()
    for difference in differences:
        if difference.period is None:
            guilty.add(difference.source)
            continue
        place = (
            difference.scope,
            difference.scope_id,
            difference.period,
            difference.period_start,
            difference.field,
        )
        places.setdefault(place, {})[difference.source] = difference.found
    for found in places.values():
        agreed = len(found) == len(Source) - 1 and len(set(found.values())) == 1
        guilty.update([Source.LOG] if agreed else found)
    return tuple(source for source in Source if source in guilty)


def _events(identities: Iterable[Identity], expected: int, found: int) -> Iterator[Difference]:
    for event_id, partition, offset in identities:
        name = f"{event_id} @ {partition}:{offset}"
        yield Difference(Source.RAW, "event", name, None, None, "rows", expected, found)


def _reading_order(cell: Cell) -> tuple[int, int, str, str]:
    return _ORDER[cell.period], cell.period_start, cell.scope, cell.scope_id
