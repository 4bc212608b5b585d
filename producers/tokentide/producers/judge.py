"""What the guard knows, and what it decides from that: values in memory, no Kafka."""

import time
from collections.abc import Callable, Collection, Container
from datetime import UTC, datetime
from decimal import Decimal

from tokentide.producers.decision import Cause, Decision
from tokentide.producers.guard_settings import GuardSettings
from tokentide.producers.limits_view import Bound, Entry, LimitsView
from tokentide.schemas.provider import canonical_provider

__all__ = ["Judge"]


class Judge:
    """Decides by the newest view that it was shown; any thread may ask, without a lock.

    `exceptions` are the budgets for which not `settings.when_stale` holds but its opposite.
    """

    def __init__(
        self,
        settings: GuardSettings,
        view: LimitsView,
        *,
        exceptions: Collection[str] = (),
        blocked: Container[str] = frozenset(),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = view
        self.as_of: datetime | None = None
        self._settings = settings
        self._is_closed_by_default = settings.when_stale == "closed"
        self._exceptions = frozenset(exceptions)
        self._blocked = blocked
        self._clock = clock
        self._monotonic = monotonic
        self._fresh_until = float("-inf")

    def show(self, view: LimitsView, as_of: datetime) -> None:
        """Decide by this view from now on, which holds all that the meter had told at `as_of`."""
        self.view = view
        self.as_of = as_of
        self._fresh_until = self._monotonic() + self._settings.stale_seconds

    def undecided(self, reason: str) -> Decision:
        """Answer by `when_stale` alone."""
        return Decision(not self._is_closed_by_default, reason, None, None, None, self.as_of, "unknown", None)

    def decide(
        self,
        user_id: object,
        team_id: object,
        org_id: object,
        provider: str | None,
        model: str | None,
        operation: str | None,
        estimated_tokens: int | None,
    ) -> Decision:
        """Answer as `Guard.check` does; may raise for what is no id or no number."""
        if user_id is not None and _text(user_id) in self._blocked:
            return self._refuse("blocked", "this user is blocked")
        most = self._settings.max_tokens_per_request
        if most and estimated_tokens is not None and estimated_tokens > most:
            return self._refuse(
                "too_large",
                f"the call is estimated to use {estimated_tokens} tokens, one may use {most} at most",
            )
        now = self._clock()
        as_of = self.as_of
        is_unknown = is_view_stale = self._monotonic() > self._fresh_until
        found = self._entries(user_id, team_id, org_id, provider, model, operation)
        usd: Decimal | None = None
        tokens: int | None = None
        resets_at: datetime | None = None
        has_bounds = False
        is_closed = False
        for entry in found:
            is_stale = is_view_stale or now - entry.published > self._settings.stale_seconds
            for bound in entry.bounds:
                has_bounds = True
                if is_stale:
                    is_unknown = True
                    if not is_view_stale:
                        as_of = datetime.fromtimestamp(entry.published, UTC)
                    if self._is_closed_by_default is not (bound.budget_id in self._exceptions):
                        is_closed = True
                if not bound.starts <= now < bound.until:
                    continue
                if bound.exceeded:
                    return self._refuse("budget", f"{_name(entry, bound)} is used up", bound)
                if bound.usd is not None:
                    usd = bound.usd if usd is None or bound.usd < usd else usd
                elif bound.tokens is not None:
                    if estimated_tokens is not None and estimated_tokens > bound.tokens:
                        left = f"has {bound.tokens} tokens left, and the call may use {estimated_tokens}"
                        return self._refuse("budget", f"{_name(entry, bound)} {left}", bound)
                    tokens = bound.tokens if tokens is None or bound.tokens < tokens else tokens
                if resets_at is None or bound.resets_at < resets_at:
                    resets_at = bound.resets_at
        if not is_unknown:
            return Decision(True, "", usd, tokens, resets_at, as_of, "ok", None)
        # Of whom no budget is known there may be one all the same.
        is_closed = is_closed or (
            is_view_stale
            and not has_bounds
            and (self._is_closed_by_default or (as_of is None and bool(self._exceptions)))
        )
        since = "not known yet" if as_of is None else f"not known since {as_of:%Y-%m-%d %H:%M:%S} UTC"
        return Decision(not is_closed, f"limits are {since}", usd, tokens, resets_at, as_of, "unknown", None)

    def _entries(
        self,
        user_id: object,
        team_id: object,
        org_id: object,
        provider: str | None,
        model: str | None,
        operation: str | None,
    ) -> list[Entry]:
        view = self.view
        found = []
        if user_id is not None:
            found.append(view.users.get(_text(user_id)))
        if team_id is not None:
            found.append(view.teams.get(_text(team_id)))
        if org_id is not None:
            found.append(view.orgs.get(_text(org_id)))
        if provider is not None and (view.providers or view.models):
            name = canonical_provider(provider)
            found.append(view.providers.get(name))
            found.append(view.models.get(f"{name}/{model}"))
        if operation is not None:
            found.append(view.operations.get(operation))
        return [entry for entry in found if entry is not None]

    def _refuse(self, cause: Cause, reason: str, bound: Bound | None = None) -> Decision:
        if bound is None:
            return Decision(False, reason, None, None, None, self.as_of, cause, None)
        return Decision(
            False, reason, bound.usd, bound.tokens, bound.resets_at, self.as_of, cause, bound.budget_id
        )


def _text(value: object) -> str:
    return value if type(value) is str else str(value)


def _name(entry: Entry, bound: Bound) -> str:
    return f"the budget of {entry.name}, {bound.text},"
