"""The budgets that hold now, by the entity they limit."""

import logging

from pydantic import ValidationError

from tokentide.schemas import Budget
from tokentide.schemas.chunk import Record
from tokentide.streams.partition import entity_key

__all__ = ["BudgetIndex"]

_LOGGER = logging.getLogger(__name__)


class BudgetIndex:
    """What the records of `usage.budgets`, applied in their order, amount to."""

    def __init__(self) -> None:
        self.version = 0
        """The offset of the topic up to which (exclusive) it is known."""
        self._budgets: dict[str, Budget] = {}
        self._by_entity: dict[str, dict[str, Budget]] = {}

    def apply(self, record: Record) -> set[str]:
        """Take in a record; return the keys of the entities whose budgets it changes.

        A record that is no budget is logged and left out: the budget it meant stays as it was.
        """
        self.version = record.offset + 1
        budget_id = (record.key or b"").decode(errors="replace")
        after = None
        if record.value is not None:
            try:
                after = Budget.model_validate_json(record.value)
            except ValidationError as error:
                _LOGGER.warning(
                    "the record of budget %r at offset %d is left out: %s", budget_id, record.offset, error
                )
                return set()
        before = self._budgets.pop(budget_id, None)
        changed = set()
        if before is not None:
            key = entity_key(before.scope, before.scope_id)
            self._by_entity[key].pop(budget_id)
            changed.add(key)
        if after is not None:
            self._budgets[budget_id] = after
            key = entity_key(after.scope, after.scope_id)
            self._by_entity.setdefault(key, {})[budget_id] = after
            changed.add(key)
        return changed

    def has(self, key: str) -> bool:
        """Whether an entity has budgets, or had one since this process began."""
        return key in self._by_entity

    def of(self, key: str) -> list[Budget]:
        """Return the budgets of an entity, by their ids."""
        return [budget for _, budget in sorted(self._by_entity.get(key, {}).items())]

    def entities(self) -> list[str]:
        """Return the keys of the entities that have budgets, or had one since this process began."""
        return list(self._by_entity)
