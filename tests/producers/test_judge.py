"""What the guard decides: budgets, periods, blocks, sizes, and what it does when it does not know."""

import pickle
from collections.abc import Callable, Collection, Container
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tokentide.producers.complaints import Complaints
from tokentide.producers.decision import BudgetExceeded, Decision
from tokentide.producers.guard_settings import GuardSettings
from tokentide.producers.judge import Judge
from tokentide.producers.limits_view import LimitsView
from tokentide.schemas import BudgetLimit, Limits, Period, Scope, SettingsError, Unit

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DAY = datetime(2026, 11, 27, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = NOW.timestamp()

    def __call__(self) -> float:
        return self.seconds


class Court:
    """A judge with a view that tests write, and its clock."""

    def __init__(self, exceptions: Collection[str], blocked: Container[str], **settings: Any) -> None:
        self.clock = Clock()
        self.view = LimitsView(Complaints())
        self.judge = Judge(
            GuardSettings(**settings),
            self.view,
            exceptions=exceptions,
            blocked=blocked,
            clock=self.clock,
            monotonic=self.clock,
        )

    def know(self) -> None:
        """The view holds all that there is."""
        self.judge.show(self.view, datetime.fromtimestamp(self.clock.seconds, UTC))

    def told(self, scope: Scope, scope_id: str, *limits: BudgetLimit) -> None:
        """The meter tells the limits of an entity now."""
        record = Limits(
            scope=scope, scope_id=scope_id, budgets_version=0, version=0, exceeded=False, limits=limits
        )
        key = f"{scope}:{scope_id}".encode()
        self.view.apply(key, record.model_dump_json().encode(), self.clock.seconds)

    def decide(self, user: object = None, team: object = None, **call: Any) -> Decision:
        names = ("org_id", "provider", "model", "operation", "estimated_tokens")
        return self.judge.decide(user, team, *(call.get(name) for name in names))


def court(exceptions: Collection[str] = (), blocked: Container[str] = frozenset(), **settings: Any) -> Court:
    return Court(exceptions, blocked, **settings)


def budget(
    left: int, unit: Unit = Unit.USD, period: Period = Period.DAY, budget_id: str = "b"
) -> BudgetLimit:
    """A budget of 100 USD or tokens, in today or in this month."""
    start = DAY if period is Period.DAY else MONTH
    return BudgetLimit(
        budget_id=budget_id,
        unit=unit,
        limit=Decimal(100),
        used=Decimal(100 - left),
        left=Decimal(left),
        exceeded=not left,
        period=period,
        period_start=start,
        until=start + timedelta(days=1 if period is Period.DAY else 30),
    )


def test_what_remains_is_the_least_of_all_budgets_that_bind() -> None:
    case = court()
    case.told(Scope.USER, "ada", budget(40, period=Period.MONTH), budget(70, Unit.TOKENS))
    case.told(Scope.TEAM, "maths", budget(30), budget(90, Unit.TOKENS, Period.MONTH))
    case.know()

    decision = case.decide("ada", "maths")

    assert decision == (True, "", Decimal(30), 70, DAY + timedelta(days=1), NOW, "ok", None)


@pytest.mark.parametrize(
    ("scope", "scope_id", "call"),
    [
        (Scope.USER, "7", {"user": 7}),
        (Scope.TEAM, "maths", {"user": "ada", "team": "maths"}),
        (Scope.ORG, "acme", {"org_id": "acme"}),
        (Scope.PROVIDER, "google", {"provider": "gcp.gemini", "model": "m"}),
        (Scope.MODEL, "openai/gpt-4o", {"provider": "openai", "model": "gpt-4o"}),
        (Scope.OPERATION, "summary", {"operation": "summary"}),
    ],
)
def test_a_used_up_budget_of_each_scope_refuses(scope: Scope, scope_id: str, call: dict[str, Any]) -> None:
    case = court()
    case.told(scope, scope_id, budget(0, budget_id="spent"))
    case.know()

    refused, other = case.decide(**call), case.decide("somebody", "else", provider="openai", model="o3")

    assert (refused.allowed, bool(refused), refused.cause, refused.budget_id) == (
        False,
        False,
        "budget",
        "spent",
    )
    assert refused.reason == f"the budget of {scope} {scope_id}, 100 USD a day, is used up"
    assert (refused.remaining_usd, refused.resets_at) == (Decimal(0), DAY + timedelta(days=1))
    assert other.allowed
    assert bool(other)


def test_a_limit_binds_in_its_period_only() -> None:
    case = court()
    case.told(Scope.USER, "ada", budget(0))
    allowed = {}

    for moment in (DAY - timedelta(seconds=1), DAY, DAY + timedelta(days=1), DAY + timedelta(days=9)):
        case.clock.seconds = moment.timestamp()
        allowed[moment] = case.decide("ada").allowed

    assert list(allowed.values()) == [True, False, True, True]


@pytest.mark.parametrize(("estimated", "allowed"), [(None, True), (50, True), (51, False)])
def test_a_call_must_fit_into_the_tokens_that_are_left(estimated: int | None, allowed: bool) -> None:
    case = court()
    case.told(Scope.USER, "ada", budget(50, Unit.TOKENS))
    case.know()

    decision = case.decide("ada", estimated_tokens=estimated)

    assert decision.allowed is allowed
    assert decision.remaining_tokens == 50


@pytest.mark.parametrize(
    ("most", "estimated", "allowed"), [(0, 10**9, True), (100, 100, True), (100, 101, False)]
)
def test_a_request_may_be_too_large(most: int, estimated: int, allowed: bool) -> None:
    case = court(max_tokens_per_request=most)
    case.know()

    decision = case.decide("ada", estimated_tokens=estimated)

    assert (decision.allowed, decision.cause) == (allowed, "ok" if allowed else "too_large")


def test_blocked_users_are_refused_whatever_is_left() -> None:
    blocked = set[str]()
    case = court(blocked=blocked)
    case.know()
    assert case.decide(7).allowed

    blocked.add("7")

    assert (case.decide(7).allowed, case.decide(7).cause) == (False, "blocked")
    assert case.decide("ada").allowed


def stale_view(case: Court) -> None:
    case.know()
    case.clock.seconds += 181


def silent_meter(case: Court) -> None:
    case.clock.seconds += 181
    case.know()


@pytest.mark.parametrize("go_stale", [stale_view, silent_meter])
@pytest.mark.parametrize(
    ("when_stale", "exceptions", "allowed"),
    [("open", set(), True), ("open", {"b"}, False), ("closed", set(), False), ("closed", {"b"}, True)],
)
def test_the_policy_decides_when_limits_are_stale(
    when_stale: str, exceptions: set[str], allowed: bool, go_stale: Callable[[Court], None]
) -> None:
    case = court(exceptions, when_stale=when_stale)
    case.told(Scope.USER, "ada", budget(40))
    go_stale(case)

    decision = case.decide("ada")

    assert (decision.allowed, decision.cause, decision.as_of) == (allowed, "unknown", NOW)
    assert decision.reason == "limits are not known since 2026-11-27 12:00:00 UTC"
    assert decision.remaining_usd == Decimal(40)


def test_a_budget_that_is_used_up_refuses_though_the_view_is_stale() -> None:
    case = court(when_stale="open")
    case.told(Scope.USER, "ada", budget(0))
    stale_view(case)

    assert case.decide("ada").cause == "budget"


@pytest.mark.parametrize(
    ("when_stale", "exceptions", "never_read", "went_stale"),
    [("open", set(), True, True), ("open", {"b"}, False, True), ("closed", {"b"}, False, False)],
)
def test_of_whom_no_budget_is_known_there_may_be_one(
    when_stale: str, exceptions: set[str], never_read: bool, went_stale: bool
) -> None:
    case = court(exceptions, when_stale=when_stale)

    first = case.decide("ada")
    case.know()
    fresh = case.decide("ada")
    case.clock.seconds += 181
    last = case.decide("ada")

    assert (first.allowed, fresh.allowed, last.allowed) == (never_read, True, went_stale)
    assert (first.cause, fresh.cause, last.cause) == ("unknown", "ok", "unknown")


def test_a_refusal_keeps_its_decision_through_pickling() -> None:
    case = court()
    case.told(Scope.USER, "ada", budget(0))
    refused = BudgetExceeded(case.decide("ada"))

    copy = pickle.loads(pickle.dumps(refused))

    assert (type(copy), str(copy), copy.decision) == (BudgetExceeded, str(refused), refused.decision)


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        GuardSettings.from_env(
            {"TOKENTIDE_GUARD_STALE_SECONDS": "0", "TOKENTIDE_GUARD_MAX_TOKENS_PER_REQUEST": "many"}
        )
    assert "STALE_SECONDS" in str(refused.value)
    assert "MAX_TOKENS_PER_REQUEST" in str(refused.value)

    with pytest.raises(SettingsError, match="when_stale = 'ajar' must be open or closed"):
        GuardSettings.from_env({"TOKENTIDE_GUARD_WHEN_STALE": "ajar"})


def test_the_environment_is_read() -> None:
    settings = GuardSettings.from_env(
        {
            "TOKENTIDE_BROKER": "kafka:9092",
            "TOKENTIDE_TOPIC_LIMITS": "llm.limits",
            "TOKENTIDE_GUARD_MAX_TOKENS_PER_REQUEST": "8000",
            "TOKENTIDE_GUARD_STALE_SECONDS": "90",
            "TOKENTIDE_GUARD_WHEN_STALE": "Closed",
        }
    )

    assert settings.kafka.broker == "kafka:9092"
    assert (settings.topic, settings.max_tokens_per_request) == ("llm.limits", 8000)
    assert (settings.stale_seconds, settings.when_stale) == (90, "closed")
