"""Totals of every entity, its budgets and alerts: the state behind `usage.alerts` and `usage.limits`, as values."""

from datetime import datetime
from typing import NamedTuple

import msgspec

from tokentide.schemas import Alert, Budget, DataLossError, Limits, Period, Scope
from tokentide.schemas.totals import decode_update
from tokentide.streams.alerting import budget_alerts, budget_limits, cells_to_review, unpriced_alerts
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.entity import Cell, Entity, Partial
from tokentide.streams.partition import entity_key

__all__ = ["POSITION_KEY", "BudgetChanges", "BudgetState"]

POSITION_KEY = b"#position"
"""Key of the changelog record that holds the next offset of `usage.spend`; no scope begins with #."""

_decode_position = msgspec.json.Decoder(int).decode


class BudgetChanges(NamedTuple):
    """What a flush sends: alerts and limits first, then (key, record) for the changelog."""

    alerts: list[Alert]
    limits: list[Limits]
    changelog: list[tuple[bytes, bytes]]
    position: int | None
    """The offset of `usage.spend` that may be committed once all of it is delivered; None for no progress."""


class BudgetState:
    """Every entity of one partition of `usage.spend`."""

    def __init__(self, index: BudgetIndex) -> None:
        self._index = index
        self._entities: dict[str, Entity] = {}
        self._amended: dict[str, set[Cell]] = {}
        self._reviewed: set[str] = set()
        self.position: int | None = None
        self._to_rewrite: list[str] = []
        self._has_moved = False

    def __len__(self) -> int:
        """How many entities are remembered."""
        return len(self._entities)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog; the order does not matter.

        Raises DataLossError for a record that no meter writes.
        """
        try:
            if key == POSITION_KEY:
                if value is not None:
                    self.position = max(self.position or 0, _decode_position(value))
            elif value is not None:
                self._entities.setdefault(key.decode(), Entity()).merge(value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DataLossError(
                f"the budgets changelog holds a record that no meter of this version writes: key {key!r}: {error}"
            ) from error

    def apply(self, value: bytes, offset: int) -> None:
        """Take in a record of `usage.spend`. Raises DataLossError for what no meter writes."""
        try:
            update = decode_update(value)
        except msgspec.MsgspecError as error:
            raise DataLossError(
                f"usage.spend holds at offset {offset} what no meter of this version writes: {error}"
            ) from error
        key = entity_key(update.scope, update.scope_id)
        entity = self._entities.get(key)
        if entity is None:
            entity = self._entities[key] = Entity()
        entity.offset = offset + 1
        for total in update.totals:
            if total.period is Period.HOUR:
                continue
            cell = (total.period, total.period_start)
            tokens = total.input_tokens + total.output_tokens
            partial = Partial(update.version, total.cost_pico_usd, tokens, total.unpriced_requests)
            if entity.put(cell, update.source_partition, partial):
                self._amended.setdefault(key, set()).add(cell)
        self.position = offset + 1
        self._has_moved = True

    def review(self, key: str) -> None:
        """Look at an entity's budgets again, for they changed, or its limits are due."""
        self._reviewed.add(key)

    def take_changes(self, now: datetime) -> BudgetChanges | None:
        """Return what changed since the last call, and remember the alerts as raised; None when nothing did."""
        if not (self._has_moved or self._reviewed):
            return None
        alerts: list[Alert] = []
        limits: list[Limits] = []
        touched = set(self._amended)
        for key in self._amended.keys() | self._reviewed:
            scope, scope_id = _split(key)
            entity = self._entities.get(key) or Entity()
            budgets = self._index.of(key)
            raised = list(self._alerts(key, scope, scope_id, entity, budgets, now))
            if raised:
                entity.fired |= {alert.alert_id: int(alert.period_start.timestamp()) for alert in raised}
                alerts.extend(raised)
                touched.add(key)
            if budgets or key in self._reviewed:
                limits.append(self._limits(scope, scope_id, entity, budgets, now))
        changelog = [(key.encode(), self._entities[key].record()) for key in touched]
        moved = self.position if self._has_moved else None
        if moved is not None:
            changelog.append((POSITION_KEY, b"%d" % moved))
        self._amended, self._reviewed, self._has_moved = {}, set(), False
        return BudgetChanges(alerts, limits, changelog, moved)

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records for the changelog once more; call after call all of them, in turn.

        Entities that changed and were not taken yet are left out: what is remembered must have been published.
        """
        if not self._to_rewrite:
            self._to_rewrite = list(self._entities)
        chosen, self._to_rewrite = self._to_rewrite[:count], self._to_rewrite[count:]
        return [(key.encode(), self._entities[key].record()) for key in chosen if key not in self._amended]

    def _alerts(
        self, key: str, scope: Scope, scope_id: str, entity: Entity, budgets: list[Budget], now: datetime
    ) -> list[Alert]:
        amended = self._amended.get(key, set())
        alerts = list(unpriced_alerts(scope, scope_id, entity, sorted(amended), now))
        for budget in budgets:
            cells = amended | (
                cells_to_review(entity, budget.period, now) if key in self._reviewed else set()
            )
            alerts.extend(budget_alerts(budget, entity, sorted(cells), now))
        return alerts

    def _limits(
        self, scope: Scope, scope_id: str, entity: Entity, budgets: list[Budget], now: datetime
    ) -> Limits:
        limits = [limit for budget in budgets for limit in budget_limits(budget, entity, now)]
        return Limits(
            scope=scope,
            scope_id=scope_id,
            budgets_version=self._index.version,
            version=entity.offset,
            exceeded=any(limit.exceeded for limit in limits),
            limits=tuple(limits),
        )


def _split(key: str) -> tuple[Scope, str]:
    scope, _, scope_id = key.partition(":")
    return Scope(scope), scope_id
