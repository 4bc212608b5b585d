"""The differences of an audit: all are counted and weighed, the first ones are kept."""

from collections.abc import Iterable
from itertools import zip_longest

from tokentide.console.audit.report import Difference, Source

__all__ = ["Findings"]

_KEPT = 250
_COMPARED = tuple(source for source in Source if source is not Source.LOG)


class Findings:
    """What was found to differ, and who is to blame."""

    def __init__(self) -> None:
        self.count = 0
        self._differing: set[Source] = set()
        self._rows: list[Difference] = []
        self._totals: dict[Source, list[Difference]] = {source: [] for source in _COMPARED}
        # One number stands for each difference of a total: there may be as many of them as totals.
        self._evidence: dict[Source, set[int]] = {source: set() for source in _COMPARED}
        self._guilty_of_rows: dict[str, Source] = {}

    def add(self, differences: Iterable[Difference]) -> None:
        """Take differences in, in the order in which a person shall read them."""
        for difference in differences:
            self.count += 1
            self._differing.add(difference.source)
            if difference.period is None:
                self._guilty_of_rows[difference.scope] = difference.source
                kept = self._rows
            else:
                self._evidence[difference.source].add(_digest(difference))
                kept = self._totals[difference.source]
            if len(kept) < _KEPT:
                kept.append(difference)

    def first(self) -> tuple[Difference, ...]:
        """Return the first differences: of rows, then of totals, in turn from each source."""
        turns = zip_longest(*self._totals.values())
        return (*self._rows, *(difference for turn in turns for difference in turn if difference is not None))

    def differing(self) -> tuple[Source, ...]:
        """Return the sources that have differences, whoever is to blame."""
        return tuple(source for source in Source if source in self._differing)

    def suspects(self) -> tuple[Source, ...]:
        """Return the sources that are wrong: those that differ, or the log where all others agree."""
        agreed = set.intersection(*self._evidence.values())
        guilty = {source for source, evidence in self._evidence.items() if evidence - agreed}
        if agreed:
            guilty.add(Source.LOG)
        # Rows that the log alone knows of, or does not know, follow from its being another one.
        guilty.update(
            source for scope, source in self._guilty_of_rows.items() if scope != "event" or not agreed
        )
        return tuple(source for source in Source if source in guilty)


def _digest(difference: Difference) -> int:
    return hash(
        (
            difference.scope,
            difference.scope_id,
            difference.period,
            difference.period_start,
            difference.field,
            difference.found,
        )
    )
