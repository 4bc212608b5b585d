"""What is left of every budget, as the topic `usage.limits` tells it: a view in memory."""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from pydantic import ValidationError

from tokentide.producers.complaints import Complaints
from tokentide.schemas import BudgetLimit, Limits, Scope, Unit

__all__ = ["Bound", "Entry", "LimitsView"]


class Bound(NamedTuple):
    """What is left of one budget in one period; times in Unix seconds."""

    budget_id: str
    exceeded: bool
    starts: float
    until: float
    resets_at: datetime
    # One of the two is None: a budget limits either.
    usd: Decimal | None
    tokens: int | None
    # How the limit reads: "12 USD a day".
    text: str


class Entry(NamedTuple):
    """The budgets of one entity; `published` is when the meter last told them, in Unix seconds."""

    # "user ada".
    name: str
    version: tuple[int, int]
    published: float
    bounds: tuple[Bound, ...]


class LimitsView:
    """The newest record of each entity. One thread applies; any thread reads, without a lock."""

    def __init__(self, complaints: Complaints) -> None:
        scopes = self._scopes = {scope: dict[str, Entry]() for scope in Scope}
        # Once more by name: to hash a member of an enum costs more than the look-up.
        self.users, self.teams, self.orgs = scopes[Scope.USER], scopes[Scope.TEAM], scopes[Scope.ORG]
        self.providers, self.models = scopes[Scope.PROVIDER], scopes[Scope.MODEL]
        self.operations = scopes[Scope.OPERATION]
        self._complaints = complaints

    def __len__(self) -> int:
        return sum(map(len, self._scopes.values()))

    def apply(self, key: bytes | None, value: bytes | None, published: float) -> None:
        """Take in a record; an older version than the known one, and what is no record of limits, change nothing.

        A null value deletes.
        """
        if value is None:
            self._delete(key)
            return
        try:
            limits = Limits.model_validate_json(value)
        except ValidationError as error:
            self._complaints.warn(
                "limits", f"a record of limits was left out, a newer meter may have written it: {error.title}"
            )
            return
        entries = self._scopes[limits.scope]
        version = (limits.budgets_version, limits.version)
        known = entries.get(limits.scope_id)
        name = f"{limits.scope} {limits.scope_id}"
        # An equal version is the same record, told again: the limits are that much fresher.
        if known is None or known.version <= version:
            entries[limits.scope_id] = Entry(name, version, published, tuple(map(_bound, limits.limits)))

    def _delete(self, key: bytes | None) -> None:
        scope, _, scope_id = (key or b"").decode(errors="replace").partition(":")
        if scope in self._scopes:
            self._scopes[Scope(scope)].pop(scope_id, None)


def _bound(limit: BudgetLimit) -> Bound:
    is_usd = limit.unit is Unit.USD
    return Bound(
        limit.budget_id,
        limit.exceeded,
        limit.period_start.timestamp(),
        limit.until.timestamp(),
        limit.until,
        limit.left if is_usd else None,
        None if is_usd else int(limit.left),
        f"{limit.limit.normalize():f} {'USD' if is_usd else 'tokens'} a {limit.period}",
    )
