"""Totals of every entity, its budgets and alerts: the state behind `usage.alerts` and `usage.limits`, as values."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from tokentide.schemas import Alert, Budget, DataLossError, Limits, Scope
from tokentide.schemas.totals import decode_update
from tokentide.streams.alerting import AsOf, budget_alerts, budget_limits, cells_to_review, unpriced_alerts
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.clock import Grace
from tokentide.streams.entities import Entities
from tokentide.streams.entity import Entity
from tokentide.streams.horizon import Horizon
from tokentide.streams.partition import entity_key
from tokentide.streams.progress import POSITION_KEY, Progress

__all__ = ["BudgetChanges", "BudgetState"]

_EPOCH = datetime.fromtimestamp(0, UTC)
_MODEL = f"{Scope.MODEL}:"
"""How the keys begin of entities that may raise alerts without a budget: those of unknown price."""
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
        self._entities = Entities()
        self._reviewed: set[str] = set()
        self._progress = Progress(partitions)
        self._has_moved = False
        self._horizon = Horizon()
        self._remembered = self._horizon  # what the changelog tells of it

    def __len__(self) -> int:
        """How many records of the changelog it takes: one for each entity, and the position."""
        return len(self._entities) + 1

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
        return self._entities.sizes()

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog; the order does not matter. Then call `loaded`.

        Raises DataLossError for a record that no meter writes.
        """
        try:
            if value is None:
                # Sent late by a zombie, it may follow what the entity used since: compaction would keep it.
                self._entities.round.urgent.add(key.decode())
            elif key == POSITION_KEY:
                if not self._progress.merge(value):
                    self._has_moved = True  # an older one was written over it
            else:
                self._entities.load(key.decode(), value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DataLossError(
                f"the budgets changelog holds a record that no meter of this version writes: key {key!r}: {error}"
            ) from error

    def loaded(self) -> None:
        """Forget what is closed: the changelog may still hold it, or hold it again, from a worker that woke up."""
        self._horizon = self._remembered = Horizon.at(self._progress.closing_time, self._grace)
        self._entities.loaded(self._horizon)

    def apply(self, value: bytes, offset: int) -> None:
        """Take in a record of `usage.spend`. Raises DataLossError for what no meter writes."""
        try:
            update = decode_update(value)
            if update.scope is not None:
                key = entity_key(update.scope.value, update.scope_id)
                self._entities.add(key, update, offset, self._horizon)
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
        if not (self._has_moved or self._reviewed or self._entities.is_sweeping(self._remembered)):
            return None
        as_of = AsOf(now, _moment(self.complete_up_to))
        alerts: list[Alert] = []
        limits: list[Limits] = []
        fired: set[str] = set()
        for key in self._of_interest():
            scope, scope_id = _split(key)
            entity = self._entities.get(key)
            budgets = self._index.of(key)
            if entity is not None and (
                raised := list(self._alerts(key, scope, scope_id, entity, budgets, as_of))
            ):
                self._entities.fire(
                    entity, {alert.alert_id: int(alert.period_start.timestamp()) for alert in raised}
                )
                alerts.extend(raised)
                fired.add(key)
            if budgets or key in self._reviewed:
                limits.append(self._limits(scope, scope_id, entity, budgets, as_of))
        self._entities.sweep_some(self._remembered)
        changelog = self._entities.take_amended(fired)
        deletions = self._entities.take_gone()
        moved = self.position if self._has_moved else None
        if moved is not None:
            changelog.append((POSITION_KEY, self._progress.record()))
            self._remembered = self._horizon
        self._reviewed, self._has_moved = set(), False
        return BudgetChanges(alerts, limits, changelog, deletions, moved)

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records for the changelog once more, call after call all of them, in turn; and before
        those each that `load` found written over. The position is left to `take_changes`.

        Entities that changed and were not taken yet are left out: what is remembered must have been published.
        """
        if count and self._entities.round.is_over:
            self._entities.begin_round()
            self._has_moved = True
        return self._entities.rewrites(count)

    def _of_interest(self) -> set[str]:
        """Return the entities of which alerts or limits may be told: most have no budget, and are only remembered."""
        amended = self._entities.amended
        chosen = {key for key in amended if key.startswith(_MODEL) or self._index.has(key)}
        return chosen | self._reviewed

    def _alerts(
        self, key: str, scope: Scope, scope_id: str, entity: Entity, budgets: list[Budget], as_of: AsOf
    ) -> Iterator[Alert]:
        amended = self._entities.amended.get(key, ())
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
