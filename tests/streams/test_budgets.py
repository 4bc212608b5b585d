"""Alerts and limits: whatever the order, the repeats and the crashes, each alert is one, and none is missing."""

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import (
    Alert,
    AlertKind,
    AlertLevel,
    Budget,
    DataLossError,
    Limits,
    Period,
    Scope,
    Unit,
    alert_id,
)
from tokentide.schemas.chunk import Record
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.budgets import BudgetState

SOURCES = 3
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp())
MONTH = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())
ENTITIES = [("team", "red"), ("user", "ann:b|c"), ("model", "openai/gpt-9")]


def budget(budget_id: str = "b", **fields: Any) -> Budget:
    defaults: dict[str, Any] = {
        "scope": Scope.TEAM,
        "scope_id": "red",
        "limit": Decimal("10"),
        "period": Period.DAY,
    }
    return Budget(budget_id=budget_id, **(defaults | fields))


def index_of(*budgets: Budget) -> BudgetIndex:
    index = BudgetIndex()
    for offset, each in enumerate(budgets):
        index.apply(Record(offset, 0, each.budget_id.encode(), each.model_dump_json().encode()))
    return index


def update(
    scope: str = "team",
    scope_id: str = "red",
    *,
    usd: str = "0",
    tokens: int = 0,
    version: int = 1,
    source: int = 0,
    day: int = DAY,
    unpriced: int = 0,
) -> bytes:
    """A record of `usage.spend` with a day and its month."""
    total = {
        "requests": 1,
        "input_tokens": tokens,
        "output_tokens": 0,
        "cost_pico_usd": str(int(Decimal(usd) * 10**12)),
        "unpriced_requests": unpriced,
    }
    return json.dumps(
        {
            "scope": scope,
            "scope_id": scope_id,
            "source_partition": source,
            "version": version,
            "totals": [
                {"period": "hour", "period_start": day, **total},
                {"period": "day", "period_start": day, **total},
                {"period": "month", "period_start": MONTH, **total},
            ],
        }
    ).encode()


def state_after(index: BudgetIndex, *updates: bytes) -> BudgetState:
    state = BudgetState(index, SOURCES)
    for offset, value in enumerate(updates):
        state.apply(value, offset)
    return state


def percents(state: BudgetState) -> list[int | None]:
    changes = state.take_changes(NOW)
    return [] if changes is None else [alert.threshold_pct for alert in changes.alerts]


def test_one_event_that_crosses_several_thresholds_raises_each_once() -> None:
    state = state_after(index_of(budget()), update(usd="9.5"))

    assert percents(state) == [75, 90]
    state.apply(update(usd="9.9", version=2), 1)
    assert percents(state) == []
    state.apply(update(usd="10", version=3), 2)
    assert percents(state) == [100]


def test_a_threshold_is_reached_exactly_and_not_a_pico_dollar_before() -> None:
    state = state_after(index_of(budget(thresholds=(100,))), update(usd="9.999999999999"))
    assert percents(state) == []

    state.apply(update(usd="10.000000000000", version=2), 1)

    assert percents(state) == [100]


def test_partials_of_several_source_partitions_are_added_up() -> None:
    state = state_after(
        index_of(budget(unit=Unit.TOKENS, limit=Decimal(100), thresholds=(100,))),
        update(tokens=60, source=0, version=7),
        update(tokens=40, source=3, version=2),
    )

    changes = state.take_changes(NOW)

    assert changes is not None
    [alert] = changes.alerts
    assert (alert.kind, alert.level) == (AlertKind.BUDGET_EXCEEDED, AlertLevel.CRITICAL)
    assert (alert.used, alert.limit) == (Decimal(100), Decimal(100))


def test_an_old_partial_that_comes_late_changes_nothing() -> None:
    state = state_after(index_of(budget()), update(usd="8", version=9), update(usd="99", version=8))

    assert percents(state) == [75]


def test_a_budget_made_in_mid_period_counts_what_was_spent() -> None:
    index = index_of()
    state = state_after(index, update(usd="9.2"))
    assert percents(state) == []

    for key in index.apply(Record(0, 0, b"b", budget().model_dump_json().encode())):
        state.review(key)

    assert percents(state) == [75, 90]


def test_a_new_budget_leaves_closed_days_alone_until_they_are_amended() -> None:
    index = index_of()
    yesterday = DAY - 86_400
    state = state_after(index, update(usd="50", day=yesterday), update(usd="1", version=2))
    state.take_changes(NOW)
    for key in index.apply(Record(0, 0, b"b", budget().model_dump_json().encode())):
        state.review(key)
    assert percents(state) == []

    state.apply(update(usd="51", day=yesterday, version=3), 2)

    changes = state.take_changes(NOW)
    assert changes is not None
    assert {int(alert.period_start.timestamp()) for alert in changes.alerts} == {yesterday}


def test_a_changed_budget_raises_alerts_of_its_own() -> None:
    index = index_of(budget())
    state = state_after(index, update(usd="9.5"))
    assert percents(state) == [75, 90]

    for key in index.apply(
        Record(1, 0, b"b", budget(revision=2, limit=Decimal(9)).model_dump_json().encode())
    ):
        state.review(key)

    assert percents(state) == [75, 90, 100]


def test_a_model_without_a_price_is_reported_once_a_day() -> None:
    model = {"scope": "model", "scope_id": "openai/gpt-9"}
    state = state_after(index_of(), update(**model, unpriced=1), update(**model, unpriced=2, version=2))  # type: ignore[arg-type]
    changes = state.take_changes(NOW)
    assert changes is not None
    [alert] = changes.alerts
    assert alert.alert_id == alert_id(alert.kind, "openai/gpt-9", DAY, None)
    assert (alert.kind, alert.requests) == (AlertKind.UNPRICED_MODEL, 2)

    state.apply(update(**model, unpriced=1, version=3, day=DAY - 86_400), 2)  # type: ignore[arg-type]

    changes = state.take_changes(NOW)
    assert changes is not None
    assert [alert.period_start.day for alert in changes.alerts] == [23]


def test_limits_say_what_is_left_and_until_when() -> None:
    state = state_after(
        index_of(budget(), budget("m", period=Period.MONTH, limit=Decimal(40))), update(usd="12.5")
    )

    changes = state.take_changes(NOW)

    assert changes is not None
    [limits] = changes.limits
    day, month = limits.limits
    assert (day.left, day.exceeded, day.until) == (Decimal(0), True, datetime(2026, 11, 25, tzinfo=UTC))
    assert (month.left, month.exceeded, month.until) == (
        Decimal("27.5"),
        False,
        datetime(2026, 12, 1, tzinfo=UTC),
    )
    assert limits.exceeded
    assert limits.version == 1


def test_a_budget_without_usage_has_its_whole_limit_left() -> None:
    state = BudgetState(index_of(budget()), SOURCES)
    state.review("team:red")

    changes = state.take_changes(NOW)

    assert changes is not None
    [limit] = changes.limits[0].limits
    assert (limit.used, limit.left) == (Decimal(0), Decimal(10))
    assert changes.changelog == []


def test_a_deleted_budget_leaves_an_empty_limit_behind() -> None:
    index = index_of(budget())
    state = state_after(index, update(usd="20"))
    state.take_changes(NOW)

    for key in index.apply(Record(1, 0, b"b", None)):
        state.review(key)

    changes = state.take_changes(NOW)
    assert changes is not None
    assert [(limits.limits, limits.exceeded, limits.budgets_version) for limits in changes.limits] == [
        ((), False, 2)
    ]


def test_a_record_that_is_no_budget_leaves_the_old_one_in_force(caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(budget())

    changed = index.apply(Record(1, 0, b"b", b'{"limit": "-1"}'))

    assert changed == set()
    assert [each.budget_id for each in index.of("team:red")] == ["b"]
    assert "budget 'b' at offset 1 is left out" in caplog.text


@pytest.mark.parametrize("value", [b"{}", b"[]", b'{"scope": "planet"}'])
def test_a_spend_record_that_no_meter_writes_stops_the_stage(value: bytes) -> None:
    with pytest.raises(DataLossError, match="no meter of this version writes"):
        BudgetState(index_of(), SOURCES).apply(value, 0)


class Stage:
    """A budget stage that dies at any step of a flush, with what Kafka has of it."""

    def __init__(self, index: BudgetIndex, log: list[bytes], chance: random.Random) -> None:
        self.index = index
        self.log = log
        self.chance = chance
        self.alerts: list[Alert] = []
        self.limits: dict[str, Limits] = {}
        self.changelog: list[tuple[bytes, bytes]] = []
        self.state = BudgetState(index, SOURCES)

    def recover(self) -> None:
        self.state = BudgetState(self.index, SOURCES)
        for key, value in self.chance.sample(self.changelog, len(self.changelog)):
            self.state.load(key, value)
        for entity in self.index.entities():
            self.state.review(entity)

    def flush(self, survives: float) -> None:
        changes = self.state.take_changes(NOW)
        if changes is None:
            return
        steps: list[Any] = [*changes.alerts, *changes.limits, *changes.changelog]
        for step in steps[: round(len(steps) * survives)]:
            if isinstance(step, Alert):
                self.alerts.append(step)
            elif isinstance(step, Limits):
                self._publish(step)
            else:
                self.changelog.append(step)
        if survives < 1:
            self.recover()

    def run(self) -> None:
        while (self.state.position or 0) < len(self.log):
            place = self.state.position or 0
            self.state.apply(self.log[place], place)
            draw = self.chance.random()
            if draw < 0.4:
                self.flush(1.0)
            elif draw < 0.6:
                self.flush(self.chance.random())
            elif draw < 0.7:
                self.recover()
            elif draw < 0.8:
                self.changelog += self.state.rewrites(self.chance.randrange(3))
        self.flush(1.0)

    def _publish(self, limits: Limits) -> None:
        key = f"{limits.scope}:{limits.scope_id}"
        known = self.limits.get(key)
        if known is None or (limits.budgets_version, limits.version) >= (
            known.budgets_version,
            known.version,
        ):
            self.limits[key] = limits


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(ENTITIES), st.integers(0, 2), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 2**32),
)
def test_every_alert_is_raised_whatever_crashes(
    drawn: list[tuple[tuple[str, str], int, int, bool]], seed: int
) -> None:
    chance = random.Random(seed)
    budgets = [
        budget("red", thresholds=(50, 100), limit=Decimal(6)),
        budget("ann", scope=Scope.USER, scope_id="ann:b|c", period=Period.MONTH, limit=Decimal(9)),
    ]
    spent: dict[tuple[str, str, int], int] = {}
    log = []
    for version, ((scope, name), source, dollars, is_unpriced) in enumerate(drawn):
        spent[scope, name, source] = spent.get((scope, name, source), 0) + dollars
        value = update(
            scope,
            name,
            usd=str(spent[scope, name, source]),
            version=version,
            source=source,
            unpriced=int(is_unpriced),
        )
        log.append(value)
        if chance.random() < 0.3:
            log.insert(chance.randrange(len(log)), chance.choice(log))

    stage = Stage(index_of(*budgets), log, chance)
    stage.run()

    expected = set()
    for each in budgets:
        used = sum(
            dollars
            for (scope, name, _), dollars in spent.items()
            if (scope, name) == (each.scope, each.scope_id)
        )
        start = DAY if each.period is Period.DAY else MONTH
        expected |= {
            (each.budget_id, start, percent)
            for percent in each.thresholds
            if used * 100 >= each.limit * percent
        }
        known = stage.limits.get(f"{each.scope}:{each.scope_id}")
        assert known is None or known.limits[0].used == used
    raised = {alert.alert_id: alert for alert in stage.alerts if alert.budget_id}
    assert {
        (alert.budget_id, int(alert.period_start.timestamp()), alert.threshold_pct)
        for alert in raised.values()
    } == expected
    assert len(raised) == len(expected)
