"""What is left of every budget, as the topic `usage.limits` tells it: a view in memory."""

import math
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Self

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
    limit: BudgetLimit

    @property
    def text(self) -> str:
        """How the limit reads: "12 USD a day"."""
        unit = "tokens" if self.usd is None else "USD"
        return f"{self.limit.limit.normalize():f} {unit} a {self.limit.period}"


class Entry(NamedTuple):
    """The budgets of one entity; `published` is when the meter last told them, in Unix seconds."""

    # "user ada".
    name: str
    version: tuple[int, int]
    published: float
    bounds: tuple[Bound, ...]
    # When all bounds bind and none refuses, and then what is left of them together; never, if one is used up.
    since: float
    before: float
    usd: Decimal | None
    tokens: int | None
    resets_at: datetime | None

    @classmethod
    def of(cls, limits: Limits, published: float) -> Self:
        """Return the entry that the record tells."""
        bounds = tuple(map(_bound, limits.limits))
        since, before, resets_at = -math.inf, math.inf, None
        usd: Decimal | None = None
        tokens: int | None = None
        for bound in bounds:
            since = math.inf if bound.exceeded else max(since, bound.starts)
            if bound.until < before:
                before, resets_at = bound.until, bound.resets_at
            if bound.usd is not None and (usd is None or bound.usd < usd):
                usd = bound.usd
            if bound.tokens is not None and (tokens is None or bound.tokens < tokens):
                tokens = bound.tokens
        return cls(
            f"{limits.scope} {limits.scope_id}",
            (limits.budgets_version, limits.version),
            published,
            bounds,
            since,
            before,
            usd,
            tokens,
            resets_at,
        )


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
        entry = Entry.of(limits, published)
        # An equal version is the same record, told again: the limits are that much fresher.
        known = entries.get(limits.scope_id)
        if known is None or known.version <= entry.version:
            entries[limits.scope_id] = entry

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
        limit,
    )
