"""Watermarks, adjustments and closed periods: nothing open is ever lost, nothing closed comes back."""

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import Alert, Budget, DataLossError, Period, Scope, period_end, period_start
from tokentide.schemas.chunk import Record
from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.budgets import BudgetState
from tokentide.streams.clock import Grace
from tokentide.streams.progress import POSITION_KEY

SOURCES = 2
DAY_SECONDS = 86_400
FIRST = int(datetime(2026, 10, 28, tzinfo=UTC).timestamp())  # the days of the tests lie in two months
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
GRACE = Grace(2 * DAY_SECONDS, 4 * DAY_SECONDS)


class Put(NamedTuple):
    """An update of one day of an entity and of its month, in whole USD."""

    name: str
    day: int
    usd: int
    version: int
    source: int = 0
    adjustment: str = ""

    def value(self) -> bytes:
        start = FIRST + self.day * DAY_SECONDS
        numbers = {"input_tokens": 0, "output_tokens": 0, "unpriced_requests": 0}
        money = {"requests": 1, "cost_pico_usd": str(self.usd * 10**12)}
        return json.dumps(
            {
                "scope": "user",
                "scope_id": self.name,
                "source_partition": self.source,
                "version": self.version,
                # What an update says of its source holds for this entity only.
                "complete_up_to": 4_102_444_800_000,
                "adjustment": self.adjustment,
                "totals": [
                    {
                        "period": period,
                        "period_start": period_start(Period(period), start),
                        **numbers,
                        **money,
                    }
                    for period in ("hour", "day", "month")
                ],
            }
        ).encode()


class Mark(NamedTuple):
    """A watermark; the moment in days after FIRST."""

    source: int
    day: int

    @property
    def milliseconds(self) -> int:
        return (FIRST + self.day * DAY_SECONDS) * 1000

    def value(self) -> bytes:
        told = {"complete_up_to": self.milliseconds, "event_time": self.milliseconds}
        return json.dumps({"source_partition": self.source, **told}).encode()


Log = list[Put | Mark]
Cell = tuple[str, str, int]


def budgets(*names: str, thresholds: tuple[int, ...] = (50, 100), usd: int = 10) -> BudgetIndex:
    index = BudgetIndex()
    for offset, name in enumerate(names):
        budget = Budget(
            budget_id=name,
            scope=Scope.USER,
            scope_id=name,
            limit=Decimal(usd),
            period=Period.DAY,
            thresholds=thresholds,
        )
        index.apply(Record(offset, 0, name.encode(), budget.model_dump_json().encode()))
    return index


def state_after(index: BudgetIndex, log: Iterable[Put | Mark]) -> BudgetState:
    state = BudgetState(index, SOURCES, GRACE)
    for offset, record in enumerate(log):
        state.apply(record.value(), offset)
    return state


def alerts_of(state: BudgetState) -> list[Alert]:
    changes = state.take_changes(NOW)
    return [] if changes is None else changes.alerts


def settle(state: BudgetState) -> list[tuple[bytes, bytes | None]]:
    """Take changes until there are none; return what went to the changelog."""
    written: list[tuple[bytes, bytes | None]] = []
    while (changes := state.take_changes(NOW)) is not None:
        written += changes.changelog
        written += [(key, None) for key in changes.deletions]
    return written


def cells_of(state: BudgetState) -> dict[Cell, int]:
    """Each remembered cell with its whole USD, as the changelog tells."""
    found: dict[Cell, int] = {}
    # The rest of a round that is under way, which may hold many that went meanwhile, and one whole round.
    for key, value in dict(state.rewrites(10**6) + state.rewrites(10**6)).items():
        for period, start, _source, _version, cost, *_ in json.loads(value)["cells"]:
            cell = (key.decode(), period, start)
            found[cell] = found.get(cell, 0) + int(cost) // 10**12
    return found


def recovered(index: BudgetIndex, changelog: Iterable[tuple[bytes, bytes | None]]) -> BudgetState:
    state = BudgetState(index, SOURCES, GRACE)
    for key, value in changelog:
        state.load(key, value)
    state.loaded()
    return state


def slow(log: Log) -> tuple[dict[Cell, int], dict[Cell, int]]:
    """Obviously: what is open at the end of the log, and all that was ever counted."""
    marks: dict[int, int] = {}
    grace = {"day": 2 * DAY_SECONDS, "month": 4 * DAY_SECONDS}

    def is_open(period: str, start: int) -> bool:
        over = period_end(Period(period), start) + grace[period]
        return len(marks) < SOURCES or over * 1000 > min(marks.values())

    best: dict[Cell, dict[tuple[int, str], tuple[int, int]]] = {}
    for record in log:
        if isinstance(record, Mark):
            marks[record.source] = max(record.milliseconds, marks.get(record.source, 0))
            continue
        for period in ("day", "month"):
            start = period_start(Period(period), FIRST + record.day * DAY_SECONDS)
            if is_open(period, start):
                of_cell = best.setdefault((f"user:{record.name}", period, start), {})
                source = (record.source, record.adjustment)
                of_cell[source] = max(of_cell.get(source, (-1, 0)), (record.version, record.usd))
    counted = {cell: sum(usd for _, usd in of_cell.values()) for cell, of_cell in best.items()}
    return {cell: usd for cell, usd in counted.items() if is_open(*cell[1:])}, counted


def test_nothing_is_complete_before_every_source_has_told() -> None:
    state = state_after(budgets("ann"), [Mark(0, 3), Put("ann", 0, 10, 1)])

    [half, whole] = alerts_of(state)
    assert (half.complete_up_to, whole.complete_up_to, state.complete_up_to) == (None, None, None)


def test_alerts_and_limits_are_complete_up_to_the_slowest_source() -> None:
    state = state_after(budgets("ann"), [Mark(0, 3), Mark(1, 1), Mark(0, 2), Put("ann", 0, 10, 1)])

    changes = state.take_changes(NOW)

    assert changes is not None
    moment = datetime(2026, 10, 29, tzinfo=UTC)
    assert [alert.complete_up_to for alert in changes.alerts] == [moment] * 2
    assert [limits.complete_up_to for limits in changes.limits] == [moment]


def test_a_watermark_moves_the_position_and_writes_nothing_else() -> None:
    state = state_after(budgets("ann"), [Put("ann", 0, 1, 1)])
    settle(state)
    for offset in range(1, 40):
        state.apply(Mark(offset % 2, 0).value(), offset)

    changes = state.take_changes(NOW)

    assert changes is not None
    assert (changes.alerts, changes.limits, changes.position) == ([], [], 40)
    milliseconds = FIRST * 1000
    [(key, value)] = changes.changelog
    assert (key, json.loads(value)) == (
        POSITION_KEY,
        {
            "position": 40,
            "watermarks": {"0": milliseconds, "1": milliseconds},
            "event_time": milliseconds,
        },
    )


def test_a_total_is_the_sum_of_what_was_counted_and_of_all_adjustments() -> None:
    log = [
        Put("ann", 0, 7, 50),
        Put("ann", 0, 2, 60, adjustment="late/60"),
        Put("ann", 0, 4, 61, adjustment="late/61"),
        Put("ann", 0, 4, 61, adjustment="late/61"),  # sent again
        Put("ann", 0, 1, 9, source=1),
    ]
    state = state_after(budgets("ann"), log)
    assert [alert.used for alert in alerts_of(state)] == [Decimal(14)] * 2

    state.apply(Put("ann", 0, -6, 1_790_000_000_000, adjustment="audit").value(), len(log))

    changes = state.take_changes(NOW)
    assert changes is not None
    assert changes.alerts == []
    assert cells_of(state)["user:ann", "day", FIRST] == 8


def test_an_alert_stays_raised_when_its_total_goes_down_and_up_again() -> None:
    state = state_after(budgets("ann"), [Put("ann", 0, 10, 1)])
    assert [alert.threshold_pct for alert in alerts_of(state)] == [50, 100]

    for offset, usd in enumerate((-8, 0)):
        state.apply(Put("ann", 0, usd, offset, adjustment="audit").value(), 1 + offset)
        assert alerts_of(state) == []


def test_a_late_event_within_the_grace_amends_its_day_and_raises_its_alert_once() -> None:
    log: Log = [Put("ann", 0, 1, 1), Mark(0, 2), Mark(1, 2)]
    state = state_after(budgets("ann"), log)
    settle(state)

    state.apply(Put("ann", 0, 6, 2).value(), 3)
    [alert] = alerts_of(state)
    state.apply(Put("ann", 0, 7, 3).value(), 4)

    assert (int(alert.period_start.timestamp()), alert.threshold_pct) == (FIRST, 50)
    assert alerts_of(state) == []


def test_nothing_fires_beyond_the_grace() -> None:
    state = state_after(budgets("ann"), [Put("ann", 0, 1, 1), Mark(0, 3), Mark(1, 3)])
    settle(state)

    state.apply(Put("ann", 0, 99, 2).value(), 3)

    assert alerts_of(state) == []
    assert {cell[1] for cell in cells_of(state)} == {"month"}


def test_a_new_budget_does_not_look_at_a_closed_day() -> None:
    index = budgets()
    state = state_after(index, [Put("ann", 5, 99, 1)])
    settle(state)
    # 2 November, today by the clock, is closed by the log; the changelog does not tell yet.
    for offset, mark in enumerate([Mark(0, 8), Mark(1, 8)], 1):
        state.apply(mark.value(), offset)
    budget = Budget(budget_id="b", scope=Scope.USER, scope_id="ann", limit=Decimal(1), period=Period.DAY)
    index.apply(Record(0, 0, b"b", budget.model_dump_json().encode()))
    state.review("user:ann")

    assert alerts_of(state) == []


def test_an_entity_of_which_all_is_closed_leaves_the_changelog_too() -> None:
    october = [Put("ann", 0, 10, 1), Put("bob", 5, 1, 2)]
    state = state_after(budgets("ann"), [*october, Mark(0, 9), Mark(1, 9)])
    assert state.sizes() == {"entities": 2, "cells": 4, "fired": 0}

    changes = state.take_changes(NOW)
    assert changes is not None
    # Only once the changelog tells how far the log is.
    assert b"user:ann" in dict(changes.changelog)
    assert changes.deletions == []
    assert state.sizes()["fired"] == 2
    written = settle(state)

    assert written == [(b"user:ann", None)]
    assert state.sizes() == {"entities": 1, "cells": 1, "fired": 0}


def test_what_fired_about_a_month_lives_as_long_as_the_month() -> None:
    index = BudgetIndex()
    budget = Budget(budget_id="m", scope=Scope.USER, scope_id="ann", limit=Decimal(1), thresholds=(100,))
    index.apply(Record(0, 0, b"m", budget.model_dump_json().encode()))
    state = state_after(index, [Put("ann", 3, 2, 1)])
    [alert] = alerts_of(state)
    for offset, mark in enumerate([Mark(0, 7), Mark(1, 7)], 1):
        state.apply(mark.value(), offset)
    settle(state)
    assert state.sizes() == {"entities": 1, "cells": 1, "fired": 1}

    state.apply(Put("ann", 3, 3, 4).value(), 3)

    assert alert.period is Period.MONTH
    assert alerts_of(state) == []


def test_limits_of_an_entity_that_left_are_newer_than_those_before() -> None:
    state = state_after(budgets("ann"), [Put("ann", 0, 10, 1), Mark(0, 9), Mark(1, 9)])
    before = state.take_changes(NOW)
    settle(state)

    state.review("user:ann")
    after = state.take_changes(NOW)

    assert before is not None
    assert after is not None
    [old], [new] = before.limits, after.limits
    assert (old.version, new.version) == (1, 3)
    assert (new.exceeded, [limit.used for limit in new.limits]) == (False, [Decimal(0)])


def test_what_a_zombie_writes_about_an_entity_that_left_does_not_come_back() -> None:
    index = budgets("ann")
    state = state_after(index, [Put("ann", 0, 10, 1), Mark(0, 9), Mark(1, 9)])
    changes = state.take_changes(NOW)
    assert changes is not None
    changelog = [*changes.changelog, *settle(state), changes.changelog[0]]

    again = recovered(index, changelog)

    assert again.sizes()["entities"] == 0
    assert settle(again) == [(b"user:ann", None)]


def test_records_of_an_older_meter_are_read() -> None:
    cells = [
        ["day", FIRST, 1, 5, "6000000000000", 0, 0],
        ["month", FIRST - 27 * DAY_SECONDS, 1, 5, "6", 0, 0],
    ]
    old = json.dumps({"offset": 3, "cells": cells, "fired": {}}).encode()

    state = recovered(budgets("ann"), [(b"user:ann", old), (POSITION_KEY, b"4"), (POSITION_KEY, b"2")])

    assert (state.position, state.complete_up_to) == (4, None)
    assert cells_of(state)["user:ann", "day", FIRST] == 6
    state.apply(Put("ann", 0, 1, 6, source=1).value(), 4)
    assert cells_of(recovered(budgets(), settle(state)))["user:ann", "day", FIRST] == 1


@pytest.mark.parametrize("value", [b'{"position":"far"}', b"[]", b'{"position":1,"watermarks":{"a":1}}'])
def test_a_position_that_no_meter_writes_stops_the_stage(value: bytes) -> None:
    with pytest.raises(DataLossError, match=r"'#position'"):
        BudgetState(budgets(), SOURCES).load(POSITION_KEY, value)


def test_totals_without_a_scope_stop_the_stage() -> None:
    value = json.loads(Put("ann", 0, 1, 1).value())
    del value["scope"]

    with pytest.raises(DataLossError, match=r"offset 7 .*totals without a scope"):
        BudgetState(budgets(), SOURCES).apply(json.dumps(value).encode(), 7)


puts = st.builds(
    Put,
    name=st.sampled_from(["ann", "bob", "eve"]),
    day=st.integers(0, 7),
    usd=st.integers(0, 6),
    version=st.just(0),
    source=st.integers(0, SOURCES - 1),
    adjustment=st.sampled_from(["", "", "", "late/5", "audit"]),
)
marks = st.builds(Mark, source=st.integers(0, SOURCES - 1), day=st.integers(0, 14))


def numbered(drawn: list[Any]) -> Log:
    """Versions that grow, and absolute totals that grow with them, as a meter makes them."""
    spent: dict[Any, int] = {}
    log: Log = []
    for version, record in enumerate(drawn):
        if isinstance(record, Put):
            source = (record.name, record.day, record.source, record.adjustment)
            spent[source] = spent.get(source, 0) + record.usd
            record = record._replace(version=version, usd=spent[source])
        log.append(record)
    return log


@settings(max_examples=150, deadline=None)
@given(st.lists(puts, max_size=25), st.lists(st.integers(-1, 2), min_size=2, max_size=6), st.randoms())
def test_any_order_of_updates_adjustments_watermarks_and_repeats_is_the_same_state(
    drawn: list[Put], days: list[int], chance: random.Random
) -> None:
    # Watermarks that close nothing: which updates come behind one that does is a matter of order.
    log: Log = [*numbered(drawn), *(Mark(number % SOURCES, day) for number, day in enumerate(days))]
    log = [
        each._replace(usd=-each.usd) if isinstance(each, Put) and each.version % 3 == 0 else each
        for each in log
    ]
    repeated = [*log, *chance.choices(log, k=5)]
    chance.shuffle(repeated)

    state, other = state_after(budgets(), log), state_after(budgets(), repeated)

    assert cells_of(recovered(budgets(), settle(state))) == cells_of(recovered(budgets(), settle(other)))
    assert cells_of(other) == slow(log)[0]
    assert state.complete_up_to == other.complete_up_to


class Life:
    """A stage that dies at any step of a flush, with the log and the changelog that outlive it."""

    def __init__(self, index: BudgetIndex, log: Log, chance: random.Random, *, compacts: bool) -> None:
        self.index = index
        self.log = log
        self.chance = chance
        self.compacts = compacts
        self.alerts: dict[str, Alert] = {}
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.state = recovered(index, [])

    def recover(self) -> None:
        if self.compacts:
            # The last of each key; of deletions not even that.
            kept = dict(self.changelog)
            self.changelog = [record for record in kept.items() if record[1] is not None]
        else:
            # Zombies wrote some of it once more.
            again = [record for record in self.changelog if record[1] is not None]
            self.changelog += self.chance.sample(again, min(3, len(again)))
        self.state = recovered(self.index, self.changelog)
        for key in self.index.entities():
            self.state.review(key)

    def flush(self, survives: float) -> None:
        changes = self.state.take_changes(NOW)
        if changes is None:
            return
        steps: list[Any] = [*changes.alerts, *changes.changelog, *((key, None) for key in changes.deletions)]
        for step in steps[: round(len(steps) * survives)]:
            if isinstance(step, Alert):
                self.alerts[step.alert_id] = step
            else:
                self.changelog.append(step)
        if survives < 1:
            self.recover()

    def run(self) -> None:
        while (place := self.state.position or 0) < len(self.log):
            self.state.apply(self.log[place].value(), place)
            draw = self.chance.random()
            if draw < 0.4:
                self.flush(1.0)
            elif draw < 0.6:
                self.flush(self.chance.random())
            elif draw < 0.65:
                self.recover()
            elif draw < 0.8:
                self.changelog += self.state.rewrites(self.chance.randrange(4))


@settings(max_examples=300, deadline=None)
@given(st.lists(puts | marks, min_size=1, max_size=40), st.integers(0, 2**32), st.booleans())
def test_whatever_crashes_open_cells_are_whole_closed_ones_gone_and_every_alert_is_raised(
    drawn: list[Put | Mark], seed: int, compacts: bool
) -> None:
    chance = random.Random(seed)
    log = numbered(drawn)
    for record in chance.choices(log, k=len(log) // 4):
        log.insert(chance.randrange(len(log) + 1), record)
    index = budgets("ann", "bob")
    life = Life(index, log, chance, compacts=compacts)

    life.run()
    while (changes := life.state.take_changes(NOW)) is not None:
        life.alerts |= {alert.alert_id: alert for alert in changes.alerts}
        life.changelog += [*changes.changelog, *((key, None) for key in changes.deletions)]

    still_open, counted = slow(log)
    assert cells_of(life.state) == still_open
    sizes = life.state.sizes()
    life.recover()
    assert cells_of(life.state) == still_open
    assert life.state.sizes() == sizes
    raised = {
        (f"user:{alert.scope_id}", int(alert.period_start.timestamp()), alert.threshold_pct)
        for alert in life.alerts.values()
    }
    assert raised == {
        (name, start, percent)
        for (name, period, start), usd in counted.items()
        for percent in (50, 100)
        if period == "day" and name != "user:eve" and usd * 100 >= 10 * percent
    }


def test_partitions_at_rest_close_nothing_beyond_what_events_have_come_to() -> None:
    state = BudgetState(budgets("ann"), SOURCES, GRACE)
    present = Mark(0, 1000)
    for source in range(SOURCES):
        record = {"source_partition": source, "complete_up_to": present.milliseconds}
        state.apply(json.dumps(record).encode(), source)
    settle(state)
    state.apply(Put("ann", 0, 10, 1).value(), SOURCES)

    raised = alerts_of(state)

    assert {alert.threshold_pct for alert in raised} == {50, 100}
    assert all(alert.complete_up_to is not None for alert in raised)
    settle(state)
    assert state.sizes()["cells"] > 0


def test_a_large_state_is_swept_in_parts() -> None:
    count = 5000
    log: Log = [Put(f"user-{number}", 0, 1, number) for number in range(count)]
    state = state_after(budgets(), [*log, Mark(0, 9), Mark(1, 9)])
    state.take_changes(NOW)

    sizes = []
    while (changes := state.take_changes(NOW)) is not None:
        sizes.append(len(changes.deletions))

    assert sum(sizes) == count
    assert max(sizes) <= 2000
    assert state.sizes() == {"entities": 0, "cells": 0, "fired": 0}
    assert timedelta(milliseconds=state.complete_up_to or 0) == timedelta(seconds=FIRST, days=9)
