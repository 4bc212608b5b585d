"""What the guard answers, and what it raises."""

from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from tokentide.schemas import TokentideError

__all__ = ["BudgetExceeded", "Cause", "Decision", "GuardRefused", "UserBlocked"]

Cause = Literal["ok", "budget", "blocked", "too_large", "unknown"]


class Decision(NamedTuple):
    """Whether a call may be made; true when it is allowed.

    What remains is the least of all budgets that bind the call: None when none of that unit does, or none is
    known. `resets_at` is the end of the period of the budget that refuses, or else of the one that ends first.
    """

    allowed: bool
    # One sentence; empty when the call is allowed and its limits are known.
    reason: str
    remaining_usd: Decimal | None
    remaining_tokens: int | None
    resets_at: datetime | None
    # All that the meter had told until then is known; None: nothing was read yet.
    as_of: datetime | None
    # ok; or why it is refused; unknown (limits are stale or were never read) also of a call that is allowed so.
    cause: Cause
    budget_id: str | None

    def __bool__(self) -> bool:
        return self.allowed


class GuardRefused(TokentideError):
    """Raised by `Guard.require`: the call must not be made; `decision` says why."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision

    def __reduce__(self) -> "tuple[type[GuardRefused], tuple[Decision]]":
        return type(self), (self.decision,)


class BudgetExceeded(GuardRefused):
    """Raised when a budget is used up, or has fewer tokens left than the call is estimated to use."""


class UserBlocked(GuardRefused):
    """Raised when the user is blocked, whatever is left."""
