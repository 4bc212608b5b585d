"""What an entity used in an hour, from each source partition, and the sums of that."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tokentide.schemas import Period, Scope, UsageEvent, period_start

__all__ = [
    "Cell",
    "Entity",
    "HourTotals",
    "Totals",
    "Used",
    "add_to",
    "entities",
    "overall",
    "roll_up",
]


class Used(NamedTuple):
    """Counts and money; `requests` is the sum of what the events say themselves: one may stand for several calls."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico_usd: int = 0
    unpriced_requests: int = 0

    def plus(self, other: "Used") -> "Used":
        """Return the sum, field by field."""
        return Used(*map(int.__add__, self, other))

    def minus(self, other: "Used") -> "Used":
        """Return the difference, field by field."""
        return Used(*map(int.__sub__, self, other))


class Entity(NamedTuple):
    """Whom a total is about."""

    scope: Scope
    scope_id: str


class Cell(NamedTuple):
    """Whom a total is about, and when."""

    scope: Scope
    scope_id: str
    period: Period
    period_start: int


Totals = dict[Cell, Used]
Hour = tuple[int, Entity, int]


class HourTotals:
    """What each source partition adds to each entity's hours; memory grows with those, not with events."""

    def __init__(self) -> None:
        self._used: dict[Hour, Used] = {}
        self._entities: dict[Entity, Entity] = {}

    def add(self, partition: int, entity: Entity, hour_start: int, used: Used) -> None:
        """Add to an hour; `hour_start` is in Unix seconds."""
        # One object for each entity, not for each of its hours.
        key = (partition, self._entities.setdefault(entity, entity), hour_start)
        known = self._used.get(key)
        self._used[key] = used if known is None else known.plus(used)

    def __iter__(self) -> Iterator[tuple[Hour, Used]]:
        return iter(self._used.items())


def entities(event: UsageEvent) -> list[Entity]:
    """Return everybody whose totals the event counts in."""
    named = (
        (Scope.USER, event.user_id),
        (Scope.TEAM, event.team_id),
        (Scope.ORG, event.org_id),
        (Scope.PROVIDER, event.provider),
        (Scope.MODEL, f"{event.provider}/{event.model}"),
        (Scope.OPERATION, event.operation),
    )
    return [Entity(scope, scope_id) for scope, scope_id in named if scope_id]


def roll_up(hours: Iterable[tuple[Hour, Used]]) -> Totals:
    """Return the totals per entity and hour, day and month, over all source partitions."""
    totals: Totals = {}
    for (_, entity, hour_start), used in hours:
        for period in Period:
            add_to(totals, Cell(*entity, period, period_start(period, hour_start)), used)
    return totals


def add_to(totals: Totals, cell: Cell, used: Used) -> None:
    """Add to one of the totals."""
    known = totals.get(cell)
    totals[cell] = used if known is None else known.plus(used)


def overall(totals: Totals) -> Used:
    """Return the sum of everything: each event belongs to exactly one provider and one day."""
    everything = Used()
    for cell, used in totals.items():
        if cell.scope is Scope.PROVIDER and cell.period is Period.DAY:
            everything = everything.plus(used)
    return everything
