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

# A named tuple's own constructor takes more than twice as long, a tenth of a check.
_tuple = tuple.__new__


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
        view = self.view
        found: list[Entry] = []
        if user_id is not None:
            name = user_id if type(user_id) is str else str(user_id)
            if name in self._blocked:
                return self._refuse("blocked", "this user is blocked")
            if (entry := view.users.get(name)) is not None:
                found.append(entry)
        if team_id is not None:
            name = team_id if type(team_id) is str else str(team_id)
            if (entry := view.teams.get(name)) is not None:
                found.append(entry)
        names_model = provider is not None and (view.providers or view.models)
        if names_model or org_id is not None or operation is not None:
            self._find_more(found, org_id, operation, provider, model)
        most = self._settings.max_tokens_per_request
        if most and estimated_tokens is not None and estimated_tokens > most:
            too_many = f"the call may use {estimated_tokens} tokens, and {most} are the most for one"
            return self._refuse("too_large", too_many)
        now = self._clock()
        if self._monotonic() > self._fresh_until:
            return self._weigh(found, now, True, estimated_tokens)
        usd: Decimal | None = None
        tokens: int | None = None
        resets_at: datetime | None = None
        oldest = now - self._settings.stale_seconds
        for entry in found:
            if not entry.since <= now < entry.before or entry.published < oldest:
                return self._weigh(found, now, False, estimated_tokens)
            if entry.usd is not None and (usd is None or entry.usd < usd):
                usd = entry.usd
            if entry.tokens is not None and (tokens is None or entry.tokens < tokens):
                tokens = entry.tokens
            if entry.resets_at is not None and (resets_at is None or entry.resets_at < resets_at):
                resets_at = entry.resets_at
        if tokens is not None and estimated_tokens is not None and estimated_tokens > tokens:
            return self._weigh(found, now, False, estimated_tokens)
        return _tuple(Decision, (True, "", usd, tokens, resets_at, self.as_of, "ok", None))

    def _find_more(
        self,
        found: list[Entry],
        org_id: object,
        operation: str | None,
        provider: str | None,
        model: str | None,
    ) -> None:
        view = self.view
        more: list[Entry | None] = []
        if org_id is not None:
            more.append(view.orgs.get(str(org_id)))
        if operation is not None:
            more.append(view.operations.get(operation))
        if provider is not None and (view.providers or view.models):
            name = canonical_provider(provider)
            more += view.providers.get(name), view.models.get(f"{name}/{model}")
        found.extend(entry for entry in more if entry is not None)

    def _weigh(
        self, found: list[Entry], now: float, is_view_stale: bool, estimated_tokens: int | None
    ) -> Decision:
        """Look at each bound: one refuses, or is of another period, or is stale."""
        as_of = self.as_of
        is_unknown = is_view_stale
        is_closed = False
        live: list[Bound] = []
        for entry in found:
            is_stale = is_view_stale or now - entry.published > self._settings.stale_seconds
            for bound in entry.bounds:
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
                if (
                    bound.tokens is not None
                    and estimated_tokens is not None
                    and estimated_tokens > bound.tokens
                ):
                    left = f"has {bound.tokens} tokens left, and the call may use {estimated_tokens}"
                    return self._refuse("budget", f"{_name(entry, bound)} {left}", bound)
                live.append(bound)
        usd = min((bound.usd for bound in live if bound.usd is not None), default=None)
        tokens = min((bound.tokens for bound in live if bound.tokens is not None), default=None)
        resets_at = min((bound.resets_at for bound in live), default=None)
        if not is_unknown:
            return Decision(True, "", usd, tokens, resets_at, as_of, "ok", None)
        # Of whom no budget is known there may be one all the same.
        if is_view_stale and not any(entry.bounds for entry in found):
            is_closed = self._is_closed_by_default or (as_of is None and bool(self._exceptions))
        since = "not known yet" if as_of is None else f"not known since {as_of:%Y-%m-%d %H:%M:%S} UTC"
        return Decision(not is_closed, f"limits are {since}", usd, tokens, resets_at, as_of, "unknown", None)

    def _refuse(self, cause: Cause, reason: str, bound: Bound | None = None) -> Decision:
        if bound is None:
            return Decision(False, reason, None, None, None, self.as_of, cause, None)
        return Decision(
            False, reason, bound.usd, bound.tokens, bound.resets_at, self.as_of, cause, bound.budget_id
        )


def _name(entry: Entry, bound: Bound) -> str:
    return f"the budget of {entry.name}, {bound.text},"
