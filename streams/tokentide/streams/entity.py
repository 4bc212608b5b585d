"""What is known of one entity: its partial totals by day and month, and the alerts that were raised about it."""

from typing import NamedTuple

import msgspec

from tokentide.schemas import Period, Unit
from tokentide.streams.horizon import Horizon

__all__ = ["Cell", "Entity", "Partial", "Source", "Used"]

Cell = tuple[Period, int]
"""A day or a month, with its start in Unix seconds."""


Source = tuple[int, str]
"""What a partial is of: a source partition, and the adjustment, which is empty for what it counted itself."""


class Partial(msgspec.Struct, frozen=True, gc=False):
    """What one source adds to a cell; the one with the highest version is true. Adjustments may be negative."""

    version: int
    cost_pico_usd: int
    tokens: int
    unpriced_requests: int


class Used(NamedTuple):
    """The sum of a cell's partials."""

    cost_pico_usd: int
    tokens: int
    unpriced_requests: int

    def of(self, unit: Unit) -> int:
        """Return pico-USD or tokens."""
        return self.cost_pico_usd if unit is Unit.USD else self.tokens


class _Row(msgspec.Struct, array_like=True):
    """A partial; an older meter wrote no adjustment."""

    period: Period
    start: int
    source_partition: int
    version: int
    cost_pico_usd: str
    tokens: int
    unpriced_requests: int
    adjustment: str = ""


class _Record(msgspec.Struct):
    """What the changelog holds of an entity."""

    offset: int
    cells: list[_Row]
    fired: dict[str, int]


_decode = msgspec.json.Decoder(_Record).decode
_encode = msgspec.json.Encoder().encode


class Entity:
    """Partials and fired alerts. Merging is commutative: any order of updates and records gives the same."""

    __slots__ = ("cells", "fired", "offset")

    def __init__(self) -> None:
        self.cells: dict[Cell, dict[Source, Partial]] = {}
        self.fired: dict[str, int] = {}
        """Alert id to the start of its period."""
        self.offset = 0
        """The offset of `usage.spend` up to which (exclusive) it is known; it only grows."""

    def put(self, cell: Cell, source: Source, partial: Partial) -> bool:
        """Take in a partial; return whether it is newer than what was known."""
        partials = self.cells.get(cell)
        if partials is None:
            self.cells[cell] = {source: partial}
            return True
        known = partials.get(source)
        if known is not None and partial.version <= known.version:
            return False
        partials[source] = partial
        return True

    def expire(self, horizon: Horizon) -> None:
        """Forget the cells that are closed, and the alerts about them."""
        for cell in [cell for cell in self.cells if horizon.closes(*cell)]:
            del self.cells[cell]
        for name in [name for name, start in self.fired.items() if horizon.closes_alert(start)]:
            del self.fired[name]

    def used(self, cell: Cell) -> Used:
        """Return the total of a cell over all sources."""
        partials = self.cells.get(cell, {}).values()
        return Used(
            sum(partial.cost_pico_usd for partial in partials),
            sum(partial.tokens for partial in partials),
            sum(partial.unpriced_requests for partial in partials),
        )

    def latest(self, period: Period) -> Cell | None:
        """Return the cell of this kind that began last."""
        starts = [start for kind, start in self.cells if kind is period]
        return (period, max(starts)) if starts else None

    def merge(self, record: bytes) -> bool:
        """Take in what `record` returned once; raises msgspec.MsgspecError or ValueError for anything else.

        Returns whether it is as new as any before it.
        """
        content = _decode(record)
        is_new = content.offset >= self.offset and content.fired.keys() >= self.fired.keys()
        for row in content.cells:
            partial = Partial(row.version, int(row.cost_pico_usd), row.tokens, row.unpriced_requests)
            self.put((row.period, row.start), (row.source_partition, row.adjustment), partial)
        self.fired |= content.fired
        self.offset = max(self.offset, content.offset)
        return is_new

    def record(self) -> bytes:
        """Return everything, for the changelog."""
        cells: list[tuple[object, ...]] = []
        for (period, start), partials in self.cells.items():
            for (source_partition, adjustment), partial in partials.items():
                row = (
                    period,
                    start,
                    source_partition,
                    partial.version,
                    str(partial.cost_pico_usd),
                    partial.tokens,
                    partial.unpriced_requests,
                )
                cells.append((*row, adjustment) if adjustment else row)
        return _encode({"offset": self.offset, "cells": cells, "fired": self.fired})
