"""The guard: may this user still spend, asked before a model is called and answered from memory."""

import threading
import time
from collections.abc import Callable, Collection, Container
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from tokentide.producers.complaints import Complaints
from tokentide.producers.decision import BudgetExceeded, Cause, Decision, GuardRefused, UserBlocked
from tokentide.producers.guard_settings import GuardSettings
from tokentide.producers.limits_reader import LimitsReader
from tokentide.producers.limits_view import Bound, Entry, LimitsView
from tokentide.producers.process import abandon, close_at_worker_exit, register
from tokentide.schemas.provider import canonical_provider

__all__ = ["Guard"]

_CLOSE_SECONDS = 2.0
_REFUSALS: dict[Cause, type[GuardRefused]] = {"budget": BudgetExceeded, "blocked": UserBlocked}


class Guard:
    """Answers from a view of the topic `usage.limits` that a thread keeps fresh; one for a process is enough.

    Without `settings` the environment is read. Raises SettingsError for wrong settings; an unreachable broker
    is no error: calls are then allowed or refused by `when_stale`. `fail_open` and `fail_closed` name
    budgets for which the other policy holds. A budget that is known to be used up refuses until its period
    ends, also when the view is stale, for use only grows. `blocked` holds users that are refused whatever is
    left: a set that the service keeps, or anything with `in`. Any thread may use it, and a child after a fork,
    which goes on with what its parent knew and reads by itself from its first check.
    """

    _reader: LimitsReader | None

    def __init__(
        self,
        settings: GuardSettings | None = None,
        *,
        broker: str | None = None,
        topic: str | None = None,
        fail_open: Collection[str] = (),
        fail_closed: Collection[str] = (),
        blocked: Container[str] = frozenset(),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or GuardSettings.from_env()
        if broker is not None:
            settings = replace(settings, kafka=replace(settings.kafka, broker=broker))
        if topic is not None:
            settings = replace(settings, topic=topic)
        self._settings = settings
        self._is_closed_by_default = settings.when_stale == "closed"
        self._exceptions = frozenset(fail_open if self._is_closed_by_default else fail_closed)
        self._blocked = blocked
        self._clock = clock
        self._monotonic = monotonic
        self._as_of: datetime | None = None
        self._fresh_until = 0.0
        self._closed = False
        self._forget()
        self._view = LimitsView(self._complaints)
        self._revive()
        register(self)

    def check(
        self,
        user_id: object = None,
        team_id: object = None,
        *,
        org_id: object = None,
        provider: str | None = None,
        model: str | None = None,
        operation: str | None = None,
        estimated_tokens: int | None = None,
    ) -> Decision:
        """Say whether the call may be made, in microseconds; never raises and never waits for Kafka.

        `estimated_tokens`, input and output together, are held against `max_tokens_per_request` and what budgets
        in tokens have left. `model` matters to budgets of a model when its provider is given, too.
        """
        try:
            return self._decide(user_id, team_id, org_id, provider, model, operation, estimated_tokens)
        except Exception as error:  # whatever a service passes
            self._complaints.warn("check", f"limits could not be checked: {type(error).__name__}: {error}")
            reason = "limits could not be checked"
            return Decision(
                not self._is_closed_by_default, reason, None, None, None, self._as_of, "unknown", None
            )

    def require(self, user_id: object = None, team_id: object = None, **call: Any) -> Decision:
        """Return the decision of `check`, if the call is allowed.

        Raises BudgetExceeded, UserBlocked, or for a request that is too large and for limits that are not known
        their base GuardRefused.
        """
        decision = self.check(user_id, team_id, **call)
        if not decision.allowed:
            with self._lock:
                self._refused += 1
            raise _REFUSALS.get(decision.cause, GuardRefused)(decision)
        return decision

    def ready(self, timeout: float) -> bool:
        """Wait until the limits were read once, at most `timeout` seconds; return whether they are known now."""
        self._revive()
        return self._was_fresh.wait(timeout)

    @property
    def refused(self) -> int:
        """How many calls `require` has refused in this process."""
        return self._refused

    @property
    def entities(self) -> int:
        """How many users, teams, ... the view knows limits of, with those that have none left."""
        return len(self._view)

    def close(self) -> None:
        """Stop reading; what is known then goes stale. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop(_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Forget the thread, which stayed in the parent; called by the interpreter."""
        if self._reader is not None and self._reader.consumer is not None:
            abandon(self._reader.consumer)
        self._forget()

    def close_at_exit(self) -> None:
        """Close; called by the interpreter at the end of the process."""
        self.close()

    def _decide(
        self,
        user_id: object,
        team_id: object,
        org_id: object,
        provider: str | None,
        model: str | None,
        operation: str | None,
        estimated_tokens: int | None,
    ) -> Decision:
        if self._reader is None:
            self._revive()
        if user_id is not None and _text(user_id) in self._blocked:
            return self._refuse("blocked", "this user is blocked")
        most = self._settings.max_tokens_per_request
        if most and estimated_tokens is not None and estimated_tokens > most:
            return self._refuse(
                "too_large",
                f"the call is estimated to use {estimated_tokens} tokens, one may use {most} at most",
            )
        now = self._clock()
        is_unknown = is_view_stale = self._monotonic() > self._fresh_until
        found = self._entries(user_id, team_id, org_id, provider, model, operation)
        usd: Decimal | None = None
        tokens: int | None = None
        resets_at: datetime | None = None
        has_bounds = False
        closed: Entry | None = None
        for entry in found:
            is_stale = is_view_stale or now - entry.published > self._settings.stale_seconds
            for bound in entry.bounds:
                has_bounds = True
                if is_stale:
                    is_unknown = True
                    if self._is_closed_by_default is not (bound.budget_id in self._exceptions):
                        closed = entry
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
            return Decision(True, "", usd, tokens, resets_at, self._as_of, "ok", None)
        # Of whom no budget is known there may be one all the same.
        is_closed = closed is not None or (
            is_view_stale
            and not has_bounds
            and (self._is_closed_by_default or (self._as_of is None and bool(self._exceptions)))
        )
        since = (
            "not known yet" if self._as_of is None else f"not known since {self._as_of:%Y-%m-%d %H:%M:%S} UTC"
        )
        return Decision(
            not is_closed, f"limits are {since}", usd, tokens, resets_at, self._as_of, "unknown", None
        )

    def _entries(
        self,
        user_id: object,
        team_id: object,
        org_id: object,
        provider: str | None,
        model: str | None,
        operation: str | None,
    ) -> list[Entry]:
        view = self._view
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
            return Decision(False, reason, None, None, None, self._as_of, cause, None)
        return Decision(
            False, reason, bound.usd, bound.tokens, bound.resets_at, self._as_of, cause, bound.budget_id
        )

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._complaints = Complaints()
        self._reader = None
        self._was_fresh = threading.Event()
        self._refused = 0

    def _revive(self) -> None:
        with self._lock:
            if self._closed or self._reader is not None:
                return
            # The first view grows under the eyes of the calls; a later one is shown when it is whole.
            view = self._view if self._as_of is None else LimitsView(self._complaints)
            reader = LimitsReader(self._settings, view, self._show, self._complaints)
            try:
                reader.thread.start()
            except RuntimeError as error:
                self._complaints.warn("thread", f"limits are not read, for no thread can be started: {error}")
                return
            self._reader = reader
            close_at_worker_exit()

    def _show(self, view: LimitsView, as_of: datetime) -> None:
        self._view = view
        self._as_of = as_of
        self._fresh_until = self._monotonic() + self._settings.stale_seconds
        self._was_fresh.set()


def _text(value: object) -> str:
    return value if type(value) is str else str(value)


def _name(entry: Entry, bound: Bound) -> str:
    return f"the budget of {entry.name}, {bound.text},"
