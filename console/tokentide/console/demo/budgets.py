"""Three budgets that a trace will cross: each of their thresholds, so that a demo shows every alert."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from tokentide.schemas import Budget, Period, Scope, Unit, UsageEvent, format_usd, period_start
from tokentide.streams.prices import Catalogue, Counts, PriceContext

__all__ = ["LIMIT_PERCENT", "TraceSurvey", "survey"]

# A limit is this share of what the trace will use: 75, 90 and 100 % of it are all crossed.
LIMIT_PERCENT = 80
_DAY_SECONDS = 86_400


class _Wish(NamedTuple):
    budget_id: str
    scope: Scope
    period: Period
    unit: Unit


_WISHES = (
    _Wish("demo-team-month", Scope.TEAM, Period.MONTH, Unit.USD),
    _Wish("demo-team-day", Scope.TEAM, Period.DAY, Unit.TOKENS),
    _Wish("demo-user-day", Scope.USER, Period.DAY, Unit.USD),
)


@dataclass(frozen=True, slots=True)
class TraceSurvey:
    """What is known of a trace before it is replayed."""

    events: int
    budgets: tuple[Budget, ...]


@dataclass(slots=True)
class _Use:
    tokens: int = 0
    cost_pico_usd: int = 0

    def of(self, unit: Unit) -> int:
        return self.tokens if unit is Unit.TOKENS else self.cost_pico_usd


_Entity = tuple[Scope, str]
_Uses = Mapping[tuple[Period, _Entity, int], _Use]


def survey(events: Iterable[UsageEvent]) -> TraceSurvey:
    """Count the events and choose a budget for the largest team of a month, the largest other team of a day and
    the largest user of a day.

    A limit is 80 % of what the entity will use in that period, rounded down to two digits. Where a trace names
    no teams or users a model takes their place, where it has no price tokens do; a trace without any usage gets
    no budget.
    """
    catalogue = Catalogue()
    uses: dict[tuple[Period, _Entity, int], _Use] = {}
    count = 0
    for event in events:
        count += 1
        cost = _cost_pico_usd(event, catalogue)
        day, month = _periods(int(event.timestamp.timestamp()))
        for entity in _entities(event):
            for period, start in ((Period.DAY, day), (Period.MONTH, month)):
                use = uses.setdefault((period, entity, start), _Use())
                use.tokens += event.total_tokens
                use.cost_pico_usd += cost
    budgets: list[Budget] = []
    for wish in _WISHES:
        budget = _choose(wish, uses, {(taken.scope, taken.scope_id) for taken in budgets})
        if budget is not None:
            budgets.append(budget)
    return TraceSurvey(count, tuple(budgets))


def _entities(event: UsageEvent) -> list[_Entity]:
    named = [(Scope.TEAM, event.team_id), (Scope.USER, event.user_id)]
    return [(Scope.MODEL, f"{event.provider}/{event.model}")] + [
        (scope, name) for scope, name in named if name
    ]


def _periods(second: int) -> tuple[int, int]:
    day = second - second % _DAY_SECONDS
    return day, _month(day)


@lru_cache(maxsize=1024)
def _month(day: int) -> int:
    return period_start(Period.MONTH, day)


def _cost_pico_usd(event: UsageEvent, catalogue: Catalogue) -> int:
    """Return what the meter will charge; an unknown price is 0 here."""
    counts = Counts(**{name: getattr(event, name) for name in Counts._fields})
    context = PriceContext(event.processing, event.service_tier or "", event.speed or "")
    return catalogue.price(event.provider, event.model, event.timestamp, context, counts).total or 0


def _choose(wish: _Wish, uses: _Uses, taken: set[_Entity]) -> Budget | None:
    for scope in (wish.scope, Scope.MODEL):
        for unit in (wish.unit, Unit.TOKENS):
            found = [
                (entity not in taken, use.of(unit), entity)
                for (period, entity, _), use in uses.items()
                if period is wish.period and entity[0] is scope and use.of(unit)
            ]
            if found:
                _, used, (_, scope_id) = max(found)
                return Budget(
                    budget_id=wish.budget_id,
                    scope=scope,
                    scope_id=scope_id,
                    period=wish.period,
                    unit=unit,
                    limit=_limit(used, unit),
                )
    return None


def _limit(used: int, unit: Unit) -> Decimal:
    share = max(1, used * LIMIT_PERCENT // 100)
    coarse = 10 ** max(0, len(str(share)) - 2)
    rounded = share // coarse * coarse
    return Decimal(rounded) if unit is Unit.TOKENS else Decimal(format_usd(rounded))
