"""Which alerts an entity's totals amount to, and what is left of its budgets: functions of values."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from tokentide.schemas import (
    Alert,
    AlertKind,
    AlertLevel,
    Budget,
    BudgetLimit,
    Period,
    Scope,
    Unit,
    alert_id,
    format_usd,
    period_end,
    period_start,
    usd_from_pico,
)
from tokentide.streams.entity import Cell, Entity

__all__ = ["AsOf", "budget_alerts", "budget_limits", "cells_to_review", "unpriced_alerts"]

_EXCEEDED_PCT = 100
_WARNING_PCT = 90


class AsOf(NamedTuple):
    """When an alert is raised, and up to when the totals that it rests on are complete; None for not known."""

    now: datetime
    complete_up_to: datetime | None


def budget_alerts(budget: Budget, entity: Entity, cells: Iterable[Cell], as_of: AsOf) -> Iterator[Alert]:
    """Yield an alert for every threshold of the budget that a cell has reached and that was not raised before."""
    limit = budget.limit_units()
    for cell in cells:
        period, start = cell
        if period is not budget.period:
            continue
        used = entity.used(cell).of(budget.unit)
        for percent in sorted(set(budget.thresholds)):
            kind = AlertKind.BUDGET_EXCEEDED if percent >= _EXCEEDED_PCT else AlertKind.THRESHOLD
            name = alert_id(kind, f"{budget.budget_id}@{budget.revision}", start, percent)
            if used * 100 >= limit * percent and name not in entity.fired:
                yield _budget_alert(budget, name, kind, percent, start, used, as_of)


def unpriced_alerts(
    scope: Scope, scope_id: str, entity: Entity, cells: Iterable[Cell], as_of: AsOf
) -> Iterator[Alert]:
    """Yield an alert for every day on which a model was used without a price, unless it was raised before."""
    if scope is not Scope.MODEL:
        return
    for cell in cells:
        period, start = cell
        requests = entity.used(cell).unpriced_requests
        name = alert_id(AlertKind.UNPRICED_MODEL, scope_id, start, None)
        if period is Period.DAY and requests > 0 and name not in entity.fired:
            yield Alert(
                alert_id=name,
                timestamp=as_of.now,
                complete_up_to=as_of.complete_up_to,
                kind=AlertKind.UNPRICED_MODEL,
                level=AlertLevel.WARNING,
                scope=scope,
                scope_id=scope_id,
                period=period,
                period_start=_moment(start),
                period_end=_moment(period_end(period, start)),
                requests=requests,
                message=f"the price of {scope_id} is unknown: its cost is missing in every total of "
                f"{_moment(start):%Y-%m-%d}",
            )


def cells_to_review(entity: Entity, period: Period, now: datetime) -> set[Cell]:
    """Return the cells to which a new budget applies at once: the latest one, and that of today.

    Closed periods stay closed for it until a late event amends them.
    """
    current = (period, period_start(period, int(now.timestamp())))
    return {cell for cell in (entity.latest(period), current) if cell is not None and cell in entity.cells}


def budget_limits(budget: Budget, entity: Entity, now: datetime) -> list[BudgetLimit]:
    """Return what is left in the latest period with usage and in those that are not over; at least in today's."""
    period = budget.period
    second = int(now.timestamp())
    latest = entity.latest(period)
    cells = {cell for cell in entity.cells if cell[0] is period and period_end(*cell) > second}
    if latest is not None:
        cells.add(latest)
    return [
        _limit(budget, entity, cell) for cell in sorted(cells) or [(period, period_start(period, second))]
    ]


def _limit(budget: Budget, entity: Entity, cell: Cell) -> BudgetLimit:
    used, limit = entity.used(cell).of(budget.unit), budget.limit_units()
    return BudgetLimit(
        budget_id=budget.budget_id,
        unit=budget.unit,
        limit=_amount(limit, budget.unit),
        used=_amount(used, budget.unit),
        left=_amount(max(0, limit - used), budget.unit),
        exceeded=used >= limit,
        period=budget.period,
        period_start=_moment(cell[1]),
        until=_moment(period_end(*cell)),
    )


def _budget_alert(
    budget: Budget, name: str, kind: AlertKind, percent: int, start: int, used: int, as_of: AsOf
) -> Alert:
    limit, unit = budget.limit_units(), budget.unit
    level = AlertLevel.INFO
    if percent >= _WARNING_PCT:
        level = AlertLevel.CRITICAL if percent >= _EXCEEDED_PCT else AlertLevel.WARNING
    return Alert(
        alert_id=name,
        timestamp=as_of.now,
        complete_up_to=as_of.complete_up_to,
        kind=kind,
        level=level,
        scope=budget.scope,
        scope_id=budget.scope_id,
        period=budget.period,
        period_start=_moment(start),
        period_end=_moment(period_end(budget.period, start)),
        budget_id=budget.budget_id,
        budget_revision=budget.revision,
        threshold_pct=percent,
        unit=unit,
        limit=_amount(limit, unit),
        used=_amount(used, unit),
        message=f"{budget.scope} {budget.scope_id} has used {_words(used, unit)} of {_words(limit, unit)} "
        f"({percent} % reached) of the budget {budget.budget_id} for the {budget.period} from "
        f"{_moment(start):%Y-%m-%d}",
    )


def _amount(units: int, unit: Unit) -> Decimal:
    return usd_from_pico(units) if unit is Unit.USD else Decimal(units)


def _words(units: int, unit: Unit) -> str:
    return f"{format_usd(units)} USD" if unit is Unit.USD else f"{units:,} tokens"


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
