"""Comparing what the sources say, number by number."""

from collections.abc import Iterator, Mapping

from tokentide.console.audit.identities import Identities, Identity, Place
from tokentide.console.audit.report import Difference, Source
from tokentide.console.audit.totals import Cell, Totals, Used
from tokentide.schemas import Period, Scope

__all__ = ["compare_rows", "compare_totals"]

# A day says most to a person, and of whom: so days of users come first.
_PERIODS = {Period.DAY: 0, Period.MONTH: 1, Period.HOUR: 2}
_SCOPES = {scope: place for place, scope in enumerate(Scope)}


def compare_totals(source: Source, expected: Totals, found: Totals) -> Iterator[Difference]:
    """Yield every number of every total that is not as expected; days first, then months and hours."""
    cells = (cell for cell in expected.keys() | found.keys() if expected.get(cell) != found.get(cell))
    for cell in sorted(cells, key=_reading_order):
        values = zip(Used._fields, expected.get(cell, Used()), found.get(cell, Used()), strict=True)
        for field, wanted, got in values:
            if wanted != got:
                yield Difference(source, *cell, field, wanted, got)


def compare_rows(identities: Identities, refused: Mapping[Place, str]) -> Iterator[Difference]:
    """Yield every event and every rejected record that is not one row, and the rows that are no record.

    `refused` are the events whose rows ClickHouse refused, with its reasons: missing they are all the same.
    """
    for identity in identities.missing():
        yield _event(identity, 1, 0, refused.get(Place(identity.partition, identity.offset)))
    for identity in identities.surplus():
        yield _event(identity, 0, 1)
    for identity, count in identities.repeated():
        yield _event(identity, 1, count)
    for place in identities.missing_rejected():
        yield _rejected(place, 1, 0)
    for place in identities.surplus_rejected():
        yield _rejected(place, 0, 1)


def _event(identity: Identity, expected: int, found: int, reason: str | None = None) -> Difference:
    name = f"{identity.event_id} @ {identity.partition}:{identity.offset}"
    return Difference(Source.RAW, "event", name, None, None, "rows", expected, found, reason)


def _rejected(place: Place, expected: int, found: int) -> Difference:
    name = f"{place.partition}:{place.offset}"
    return Difference(Source.RAW, "rejected", name, None, None, "rows", expected, found)


def _reading_order(cell: Cell) -> tuple[int, int, int, str]:
    return _PERIODS[cell.period], cell.period_start, _SCOPES[cell.scope], cell.scope_id
