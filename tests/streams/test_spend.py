"""The totals behind `usage.spend`: whatever the batches, repeats and crashes, they are those of the log."""

import json
import random
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import Row, rows_of

from tokentide.schemas import DataLossError, Period, SpendUpdate, period_start
from tokentide.streams.clock import EventClock, Grace
from tokentide.streams.day import FENCE_KEY
from tokentide.streams.spend import SpendState
from tokentide.streams.spend_record import place_of

# 30 November, 23:00 UTC: an hour on, day and month change too.
START = 1_796_079_600 - 1_796_079_600 % 3600
Cell = tuple[str, str, str, int]
"""scope, id, period, start"""


def oracle(rows: list[Row]) -> dict[tuple[str, str, str, int], list[int]]:
    """Add up row by row."""
    totals: dict[tuple[str, str, str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for _, hour, user, team, tokens, cost in rows:
        for scope, name in (
            ("user", user),
            ("team", team),
            ("provider", "openai"),
            ("model", "openai/gpt-4o"),
        ):
            if not name:
                continue
            for period in Period:
                total = totals[scope, name, period.value, period_start(period, hour)]
                total[0] += 1
                total[1] += tokens
                total[2] += tokens // 2
                total[3] += cost or 0
                total[4] += cost is None
    return dict(totals)


class Record(NamedTuple):
    """A record of `usage.priced`."""

    rows: list[Row]
    clock: EventClock


class Pipeline:
    """A meter that dies at any step of a flush, with what Kafka has of it: the log of a stage in miniature."""

    def __init__(self, records: list[Record], chance: random.Random) -> None:
        self.records = records
        self.chance = chance
        self.spend: list[bytes] = []
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.committed = 0
        self.state = self.recover()

    def recover(self) -> SpendState:
        state = SpendState(0)
        shuffled = self.chance.sample(self.changelog, len(self.changelog))
        for key, value in shuffled:
            state.load(key, value)
        state.loaded()
        return state

    def crash(self) -> None:
        self.state = self.recover()
        assert self.committed <= (self.state.priced or 0)
        # As `Lanes` does when it has opened a partition.
        self.committed = self.state.priced or 0

    def flush(self, *, dies: bool) -> None:
        """Send what changed; a process that dies gets some of it to Kafka, often nearly all."""
        rewritten = self.state.rewrites(self.chance.randrange(4))
        changes = self.state.take_changes()
        folded, deletions = self.state.fold(self.chance.choice((1, 3, 1000)))
        steps: list[tuple[bytes | None, bytes | None]] = []
        fences: list[tuple[bytes, bytes]] = []
        if changes is not None:
            steps += [(None, value) for _, _, value in changes.spend]
            *others, fence = changes.changelog
            steps += others
            fences.append(fence)
        steps += [*rewritten, *folded, *fences, *((key, None) for key in deletions)]
        sent = len(steps)
        if dies:
            sent -= min(
                self.chance.randrange(1, 9) if self.chance.random() < 0.6 else self.chance.randrange(99), sent
            )
        for key, value in steps[:sent]:
            if key is not None:
                self.changelog.append((key, value))
            elif value is not None:
                self.spend.append(value)
        if dies:
            self.crash()
        elif changes is not None:
            self.committed = changes.priced

    def run(self) -> None:
        while (self.state.priced or 0) < len(self.records):
            place = self.state.priced or 0
            rows, clock = self.records[place]
            first, last = rows[0][0], rows[-1][0]
            if last <= self.state.fence:
                self.state.skip(place + 1)
            else:
                assert first <= self.state.fence + 1
                self.state.apply(rows_of(rows).after(self.state.fence), last, place + 1, clock)
            draw = self.chance.random()
            if draw < 0.3:
                self.flush(dies=False)
            elif draw < 0.6:
                self.flush(dies=True)
            elif draw < 0.8:
                self.crash()
        for _ in range(60):
            self.flush(dies=False)


def published(spend: list[bytes]) -> dict[tuple[str, str, str, int], list[int]]:
    """Add up the totals of the highest versions; the same version never says two things."""
    best: dict[tuple[Cell, str], tuple[int, list[int]]] = {}
    said: dict[tuple[Cell, str, int], list[int]] = {}
    for value in spend:
        update = SpendUpdate.model_validate_json(value)
        assert update.scope is not None
        for total in update.totals:
            key = (update.scope.value, update.scope_id, total.period.value, total.period_start)
            numbers = [
                total.requests,
                total.input_tokens,
                total.output_tokens,
                total.cost_pico_usd,
                total.unpriced_requests,
            ]
            assert said.setdefault((key, update.adjustment, update.version), numbers) == numbers
            if update.version >= best.get((key, update.adjustment), (-1, []))[0]:
                best[key, update.adjustment] = (update.version, numbers)
    totals: dict[Cell, list[int]] = defaultdict(lambda: [0] * 5)
    for (key, _), (_, numbers) in best.items():
        totals[key] = [a + b for a, b in zip(totals[key], numbers, strict=True)]
    return dict(totals)


def remembered(changelog: list[tuple[bytes, bytes | None]], clock: EventClock) -> dict[Cell, list[int]]:
    """Return the totals of open days, by the hour, and of open months: per key the highest fence."""
    best: dict[bytes, dict[str, Any]] = {}
    for key, value in changelog:
        if key == FENCE_KEY or value is None:
            continue
        record = json.loads(value)
        rank = (record["fence"], record.get("through", 0))
        known = best.get(key)
        if known is None or rank >= (known["fence"], known.get("through", 0)):
            best[key] = record
    found: dict[Cell, list[int]] = defaultdict(lambda: [0] * 5)
    for key, record in best.items():
        name, _, date = key.decode().rpartition("|")
        scope, _, scope_id = name.partition(":")
        start = int(datetime.strptime(f"{date}-01"[:10], "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
        month = period_start(Period.MONTH, start)
        if month < clock.closed_months:
            continue
        parts = {"month": [record["total"]] if "total" in record else record["hours"].values()}
        if "hours" in record:
            through = best.get(f"{name}|{date[:7]}".encode(), {}).get("through", -1)
            if start <= through:
                continue
            if start >= clock.closed_days:
                parts |= {hour: [total] for hour, total in record["hours"].items()}
        for period, totals in parts.items():
            cell = (scope, scope_id, "month" if period == "month" else "hour", month)
            if period != "month":
                cell = (*cell[:3], int(period))
            for total in totals:
                found[cell] = [a + int(b) for a, b in zip(found[cell], total, strict=True)]
    return dict(found)


DAY = 86_400
a_row = st.tuples(
    st.sampled_from(
        [
            START - 70 * DAY,
            START - 40 * DAY,
            START - 39 * DAY,
            START - 9 * DAY,
            START - DAY,
            START,
            START + 3600,
        ]
    ),
    st.sampled_from(["ann", "bob|2026-11-30", "zo:e", None]),
    st.sampled_from(["red", "blue", None]),
    st.integers(0, 1000),
    st.one_of(st.none(), st.integers(0, 10**15)),
)
OPEN = EventClock()
GRACE = Grace(2 * DAY, 20 * DAY)


@settings(max_examples=600, deadline=None)
@given(st.lists(a_row, min_size=1, max_size=40), st.integers(0, 2**32))
def test_totals_are_those_of_the_log_whatever_crashes(
    drawn: list[tuple[int, str | None, str | None, int, int | None]], seed: int
) -> None:
    chance = random.Random(seed)
    rows: list[Row] = [(offset, *row) for offset, row in enumerate(drawn)]
    # Chunks of any size, some of which a worker that had lost the partition sent once more with other borders, and
    # an older clock.
    records: list[Record] = []
    clock, closed, covered = EventClock(), EventClock(), 0
    late: set[int] = set()
    while covered < len(rows):
        begin = chance.randrange(max(0, covered - 5), covered + 1)
        end = chance.randrange(begin + 1, min(len(rows), covered + 8) + 1)
        records.append(Record(rows[begin:end], EventClock() if chance.random() < 0.2 else clock))
        if end > covered:
            closed = closed.joined(records[-1].clock)
        late |= {offset for offset in range(covered, end) if rows[offset][1] < closed.closed_days}
        covered = max(covered, end)
        clock = clock.met(max(row[1] for row in rows[begin:end]) * 1000).closing(GRACE)

    pipeline = Pipeline(records, chance)
    pipeline.run()

    expected = oracle(rows)
    final = pipeline.state.clock
    assert published(pipeline.spend) == expected
    on_time = oracle([row for row in rows if row[1] >= final.closed_days and row[0] not in late])
    wanted = {cell: total for cell, total in on_time.items() if cell[2] == "hour"}
    wanted |= {
        cell: total
        for cell, total in expected.items()
        if cell[2] == "month" and cell[3] >= final.closed_months
    }
    assert remembered(pipeline.changelog, final) == wanted
    assert pipeline.committed == len(records)
    # What compaction leaves is bounded: nothing that is closed, and a month no longer than its grace.
    compacted = {key for key, value in dict(pipeline.changelog).items() if value is not None} - {FENCE_KEY}
    for place, is_month in map(place_of, compacted):
        assert place[2] >= (final.closed_months if is_month else final.closed_days)
    assert len(pipeline.state) == len({*compacted, FENCE_KEY})


def test_a_cut_off_flush_publishes_nothing_until_all_totals_are_level() -> None:
    ahead = SpendState(0)
    ahead.apply(rows_of([(0, START, "ann", None, 1, 1), (1, START, "ann", None, 1, 1)]), 1, 1, OPEN)
    changes = ahead.take_changes()
    assert changes is not None
    survivor = next(record for record in changes.changelog if record[0].startswith(b"user:ann"))

    state = SpendState(0)
    state.load(*survivor)
    state.loaded()
    state.apply(rows_of([(0, START, "ann", None, 1, 1)]), 0, 1, OPEN)
    assert state.is_catching_up
    assert state.take_changes() is None
    state.apply(rows_of([(1, START, "ann", None, 1, 1)]), 1, 2, OPEN)

    changes = state.take_changes()
    assert changes is not None
    user = next(
        SpendUpdate.model_validate_json(value) for key, _, value in changes.spend if key == "provider:openai"
    )
    assert [total.requests for total in user.totals] == [2, 2, 2]
    # Ann's totals were published before they were remembered, so they need not be said again.
    assert "user:ann" not in [key for key, _, _ in changes.spend]


def test_every_record_is_written_again_in_turn() -> None:
    state = SpendState(0)
    state.apply(rows_of([(0, START, "ann", "red", 1, 1), (1, START, "bob", None, 1, 1)]), 1, 1, OPEN)
    assert state.rewrites(100) == [], "what is not published yet must not be remembered"
    changes = state.take_changes()
    assert changes is not None
    everything = [record for record in changes.changelog if record[0] != FENCE_KEY]

    first, second = state.rewrites(3), state.rewrites(3)

    assert sorted(first + second) == sorted(everything)


def test_money_beyond_64_bits_is_kept_whole() -> None:
    state = SpendState(0)
    state.apply(
        rows_of([(0, START, "ann", None, 1, 2**63 - 1), (1, START, "ann", None, 1, 2**63 - 1)]), 1, 1, OPEN
    )

    changes = state.take_changes()

    assert changes is not None
    assert published([value for _, _, value in changes.spend])["user", "ann", "hour", START][3] == 2**64 - 2


@pytest.mark.parametrize(
    ("key", "value"), [(b"user:ann|2026-11-30", b"{}"), (b"\xff", b"{}"), (b"nobody:x|2026-11-30", b"{}")]
)
def test_a_changelog_record_that_no_meter_writes_stops_the_recovery(key: bytes, value: bytes) -> None:
    with pytest.raises(DataLossError, match="no meter of this version writes"):
        SpendState(0).load(key, value)


def test_a_recovered_month_holds_its_days_that_nobody_touched() -> None:
    before = SpendState(0)
    early, late = START - 2 * 86_400, START - 86_400
    before.apply(rows_of([(0, early, "ann", None, 10, 1), (1, late, "ann", None, 20, None)]), 1, 1, OPEN)
    changes = before.take_changes()
    assert changes is not None
    state = SpendState(0)
    for key, value in changes.changelog:
        state.load(key, value)
    state.loaded()

    state.apply(rows_of([(2, late, "ann", None, 40, 5)]), 2, 2, OPEN)

    after = state.take_changes()
    assert after is not None
    (update,) = [SpendUpdate.model_validate_json(value) for key, _, value in after.spend if key == "user:ann"]
    months = [total for total in update.totals if total.period is Period.MONTH]
    assert [(m.requests, m.input_tokens, m.cost_pico_usd, m.unpriced_requests) for m in months] == [
        (3, 70, 6, 1)
    ]
    assert dict(state.rewrites(100)).items() >= {
        (key, value) for key, value in changes.changelog if key.endswith(b"|2026-11-28")
    }


def test_a_day_whose_hours_no_meter_writes_is_no_total() -> None:
    state = SpendState(0)
    state.load(b"user:ann|2026-11-30", b'{"fence":1,"hours":{"1796079600":[1,2]}}')
    state.loaded()

    with pytest.raises(DataLossError, match="no meter of this version writes"):
        state.apply(rows_of([(2, START, "ann", None, 40, 5)]), 2, 2, OPEN)


def test_a_day_whose_hours_end_out_of_order_counts_once_when_its_fence_was_cut_off() -> None:
    """Seeds 32 and 73: the hour that came first ended last, and its rows were counted again."""
    day = START - 86_400
    rows: list[Row] = [(0, day, "u", None, 1, 1), (1, day - 3600, "u", None, 1, 1), (2, day, "u", None, 1, 1)]
    state = SpendState(0)
    state.apply(rows_of(rows), 2, 1, OPEN)
    changes = state.take_changes()
    assert changes is not None

    recovered = SpendState(0)
    for key, value in changes.changelog:
        if key != FENCE_KEY:
            recovered.load(key, value)
    recovered.loaded()
    recovered.apply(rows_of(rows), 2, 1, OPEN)
    recovered.take_changes()

    assert dict(recovered.rewrites(100)).items() >= {
        item for item in changes.changelog if item[0] != FENCE_KEY
    }


@pytest.mark.parametrize("last", [START - 9 * DAY, START])
def test_a_day_that_is_counted_and_closed_in_one_flush_counts_once_wherever_that_is_cut_off(
    last: int,
) -> None:
    old, new = START - 9 * DAY, START
    rows: list[Row] = [(0, old, "ann", None, 1, 1), (1, new, "ann", None, 2, 1), (2, last, "ann", None, 4, 1)]
    after_first = EventClock().met(new * 1000).closing(GRACE)
    records = [Record(rows[:2], EventClock()), Record(rows[2:], after_first)]
    whole = SpendState(0)
    for place, record in enumerate(records):
        whole.apply(rows_of(record.rows), record.rows[-1][0], place + 1, record.clock)
    changes = whole.take_changes()
    assert changes is not None
    folded, deletions = whole.fold(1000)
    *others, fence = changes.changelog
    steps = [*others, *folded, fence, *((key, None) for key in deletions)]
    assert folded
    assert deletions

    for cut in range(len(steps) + 1):
        log: list[tuple[bytes, bytes | None]] = list(steps[:cut])
        state = SpendState(0)
        for key, value in log:
            state.load(key, value)
        state.loaded()
        for place in range(state.priced or 0, len(records)):
            record = records[place]
            state.apply(rows_of(record.rows), record.rows[-1][0], place + 1, record.clock)
        again = state.take_changes()
        log += again.changelog if again else []
        months, gone = state.fold(1000)
        log += [*months, *((key, None) for key in gone)]

        assert remembered(log, state.clock) == remembered(list(steps), whole.clock), cut
