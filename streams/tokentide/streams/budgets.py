"""Totals of every entity, its budgets and alerts: the state behind `usage.alerts` and `usage.limits`, as values."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from tokentide.schemas import Alert, Budget, DataLossError, Limits, Period, Scope
from tokentide.schemas.totals import Update, decode_update
from tokentide.streams.alerting import AsOf, budget_alerts, budget_limits, cells_to_review, unpriced_alerts
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.clock import Grace
from tokentide.streams.entity import Cell, Entity, Partial
from tokentide.streams.horizon import Horizon
from tokentide.streams.partition import entity_key
from tokentide.streams.progress import POSITION_KEY, Progress

__all__ = ["BudgetChanges", "BudgetState"]

_EPOCH = datetime.fromtimestamp(0, UTC)
_SWEPT_AT_ONCE = 2000
_DEFAULT_GRACE = Grace()


class BudgetChanges(NamedTuple):
    """What a flush sends: alerts and limits first, then (key, record) for the changelog."""

    alerts: list[Alert]
    limits: list[Limits]
    changelog: list[tuple[bytes, bytes]]
    deletions: list[bytes]
    """Keys of the changelog."""
    position: int | None
    """The offset of `usage.spend` that may be committed once all of it is delivered; None for no progress."""


class BudgetState:
    """Every entity of one partition of `usage.spend`, with its days and months that are not closed.

    A period is closed once its end + grace is complete. From then on its updates are left out: in that partition of
    the topic, whoever reads it closes it at the same record. It leaves the state only when the changelog says how
    far that is: else a crash would read those records again, to a total that lacks what was forgotten.
    """

    def __init__(self, index: BudgetIndex, partitions: int, grace: Grace = _DEFAULT_GRACE) -> None:
        """`partitions` is the number of source partitions."""
        self._index = index
        self._grace = grace
        self._entities: dict[str, Entity] = {}
        self._cells = self._fired = 0
        self._amended: dict[str, set[Cell]] = {}
        self._reviewed: set[str] = set()
        self._progress = Progress(partitions)
        self._to_rewrite: list[str] = []
        self._has_moved = False
        self._horizon = Horizon()
        # What the changelog tells of it, what was swept up to, and who is left to be.
        self._remembered = self._swept = self._horizon
        self._to_sweep: list[str] = []
        self._gone: set[str] = set()

    def __len__(self) -> int:
        """How many entities are remembered."""
        return len(self._entities)

    @property
    def position(self) -> int | None:
        """The next offset of `usage.spend`; None before the first record."""
        return self._progress.position

    @property
    def complete_up_to(self) -> int | None:
        """The watermark of all source partitions in Unix milliseconds; None while one is not known."""
        return self._progress.complete_up_to

    def sizes(self) -> dict[str, int]:
        """Return how many entities, cells (days and months of an entity) and fired alerts are remembered."""
        return {"entities": len(self._entities), "cells": self._cells, "fired": self._fired}

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog; the order does not matter. Then call `loaded`.

        Raises DataLossError for a record that no meter writes.
        """
        try:
            if value is None:
                return
            if key == POSITION_KEY:
                self._progress.merge(value)
            else:
                self._entities.setdefault(key.decode(), Entity()).merge(value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DataLossError(
                f"the budgets changelog holds a record that no meter of this version writes: key {key!r}: {error}"
            ) from error

    def loaded(self) -> None:
        """Forget what is closed: the changelog may still hold it, or hold it again, from a worker that woke up."""
        self._cells = sum(len(entity.cells) for entity in self._entities.values())
        self._fired = sum(len(entity.fired) for entity in self._entities.values())
        self._horizon = Horizon.at(self._progress.closing_time, self._grace)
        self._remembered = self._swept = self._horizon
        for key in list(self._entities):
            self._sweep(key)

    def apply(self, value: bytes, offset: int) -> None:
        """Take in a record of `usage.spend`. Raises DataLossError for what no meter writes."""
        try:
            update = decode_update(value)
            if update.scope is not None:
                self._add(entity_key(update.scope, update.scope_id), update, offset)
            elif update.totals:
                raise ValueError("totals without a scope")
            elif update.complete_up_to is not None:
                self._progress.advance(update.source_partition, update.complete_up_to, update.event_time or 0)
                self._horizon = Horizon.at(self._progress.closing_time, self._grace)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DataLossError(
                f"usage.spend holds at offset {offset} what no meter of this version writes: {error}"
            ) from error
        self._progress.position = offset + 1
        self._has_moved = True

    def review(self, key: str) -> None:
        """Look at an entity's budgets again, for they changed, or its limits are due."""
        self._reviewed.add(key)

    def take_changes(self, now: datetime) -> BudgetChanges | None:
        """Return what changed since the last call, and remember the alerts as raised; None when nothing did.

        The call after it says that all of it is in the changelog.
        """
        is_closing = self._gone or self._to_sweep or self._swept != self._remembered
        if not (self._has_moved or self._reviewed or is_closing):
            return None
        as_of = AsOf(now, _moment(self.complete_up_to))
        alerts: list[Alert] = []
        limits: list[Limits] = []
        touched = set(self._amended)
        for key in self._amended.keys() | self._reviewed:
            scope, scope_id = _split(key)
            entity = self._entities.get(key)
            budgets = self._index.of(key)
            if entity is not None:
                raised = list(self._alerts(key, scope, scope_id, entity, budgets, as_of))
                self._fired -= len(entity.fired)
                entity.fired |= {alert.alert_id: int(alert.period_start.timestamp()) for alert in raised}
                self._fired += len(entity.fired)
                alerts.extend(raised)
                if raised:
                    touched.add(key)
            if budgets or key in self._reviewed:
                limits.append(self._limits(scope, scope_id, entity, budgets, as_of))
        self._sweep_some()
        changelog = [(key.encode(), self._entities[key].record()) for key in touched]
        deletions = [key.encode() for key in self._gone - self._entities.keys()]
        moved = self.position if self._has_moved else None
        if moved is not None:
            changelog.append((POSITION_KEY, self._progress.record()))
            self._remembered = self._horizon
        self._amended, self._reviewed, self._gone, self._has_moved = {}, set(), set(), False
        return BudgetChanges(alerts, limits, changelog, deletions, moved)

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records for the changelog once more; call after call all of them, in turn.

        Entities that changed and were not taken yet are left out: what is remembered must have been published.
        """
        if not self._to_rewrite:
            self._to_rewrite = list(self._entities)
        chosen, self._to_rewrite = self._to_rewrite[:count], self._to_rewrite[count:]
        return [
            (key.encode(), self._entities[key].record())
            for key in chosen
            if key in self._entities and key not in self._amended
        ]

    def _add(self, key: str, update: Update, offset: int) -> None:
        """Take in the totals of the days and months that are open."""
        for total in update.totals:
            cell = (total.period, total.period_start)
            if total.period is Period.HOUR or self._horizon.closes(*cell):
                continue
            entity = self._entities.get(key)
            if entity is None:
                entity = self._entities[key] = Entity()
            entity.offset = offset + 1
            known = len(entity.cells)
            tokens = total.input_tokens + total.output_tokens
            partial = Partial(update.version, total.cost_pico_usd, tokens, total.unpriced_requests)
            if entity.put(cell, (update.source_partition, update.adjustment), partial):
                self._amended.setdefault(key, set()).add(cell)
            self._cells += len(entity.cells) - known

    def _sweep_some(self) -> None:
        """Go over a part of the entities, until all of them have let go of what the changelog tells closed.

        Nothing that was amended meanwhile is: it was open, by a horizon that is not behind that.
        """
        if not self._to_sweep and self._swept != self._remembered:
            self._swept = self._remembered
            self._to_sweep = list(self._entities)
        for key in self._to_sweep[-_SWEPT_AT_ONCE:]:
            self._sweep(key)
        del self._to_sweep[-_SWEPT_AT_ONCE:]

    def _sweep(self, key: str) -> None:
        """Let go of what is closed of an entity, and of an entity of which nothing is left."""
        entity = self._entities.get(key)
        if entity is None:
            return
        self._cells -= len(entity.cells)
        self._fired -= len(entity.fired)
        entity.expire(self._swept)
        if entity.cells or entity.fired:
            self._cells += len(entity.cells)
            self._fired += len(entity.fired)
        else:
            del self._entities[key]
            self._gone.add(key)

    def _alerts(
        self, key: str, scope: Scope, scope_id: str, entity: Entity, budgets: list[Budget], as_of: AsOf
    ) -> Iterator[Alert]:
        amended = self._amended.get(key, set())
        yield from unpriced_alerts(scope, scope_id, entity, sorted(amended), as_of)
        for budget in budgets:
            cells = set(amended)
            if key in self._reviewed:
                reviewed = cells_to_review(entity, budget.period, as_of.now)
                cells |= {cell for cell in reviewed if not self._horizon.closes(*cell)}
            yield from budget_alerts(budget, entity, sorted(cells), as_of)

    def _limits(
        self, scope: Scope, scope_id: str, entity: Entity | None, budgets: list[Budget], as_of: AsOf
    ) -> Limits:
        known = entity or Entity()
        limits = [limit for budget in budgets for limit in budget_limits(budget, known, as_of.now)]
        return Limits(
            scope=scope,
            scope_id=scope_id,
            budgets_version=self._index.version,
            version=self.position or 0 if entity is None else entity.offset,
            exceeded=any(limit.exceeded for limit in limits),
            complete_up_to=as_of.complete_up_to,
            limits=tuple(limits),
        )


def _split(key: str) -> tuple[Scope, str]:
    scope, _, scope_id = key.partition(":")
    return Scope(scope), scope_id


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)
