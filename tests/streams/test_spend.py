"""The totals behind `usage.spend`: whatever the batches, repeats and crashes, they are those of the log."""

import json
import random
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import DataLossError, Period, SpendUpdate, period_start
from tokentide.streams.day import FENCE_KEY
from tokentide.streams.rows import Rows
from tokentide.streams.spend import SpendState

# 30 November, 23:00 UTC: an hour on, day and month change too.
START = 1_796_079_600 - 1_796_079_600 % 3600
Row = tuple[int, int, str | None, str | None, int, int | None]
"""offset, hour, user, team, tokens, cost in pico-USD"""


def rows_of(rows: list[Row]) -> Rows:
    return Rows(
        offsets=[row[0] for row in rows],
        hours=[row[1] for row in rows],
        users=[row[2] for row in rows],
        teams=[row[3] for row in rows],
        orgs=[None] * len(rows),
        providers=["openai"] * len(rows),
        models=["openai/gpt-4o"] * len(rows),
        operations=[""] * len(rows),
        requests=[1] * len(rows),
        input_tokens=[row[4] for row in rows],
        output_tokens=[row[4] // 2 for row in rows],
        costs=[row[5] for row in rows],
    )


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


class Pipeline:
    """A meter that dies at any step of a flush, with what Kafka has of it: the log of a stage in miniature."""

    def __init__(self, records: list[list[Row]], chance: random.Random) -> None:
        self.records = records
        self.chance = chance
        self.spend: list[bytes] = []
        self.changelog: list[tuple[bytes, bytes]] = []
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

    def flush(self, survives: float) -> None:
        """Send what changed; `survives` is the share of the flush that reaches Kafka before the process dies."""
        changes = self.state.take_changes()
        if changes is None:
            return
        steps: list[Any] = [*changes.spend, *changes.changelog]
        for step in steps[: round(len(steps) * survives)]:
            if isinstance(step[0], str):
                self.spend.append(step[1])
            else:
                self.changelog.append(step)
        if survives >= 1:
            self.committed = changes.priced
        else:
            self.crash()

    def run(self) -> None:
        while (self.state.priced or 0) < len(self.records):
            place = self.state.priced or 0
            rows = self.records[place]
            first, last = rows[0][0], rows[-1][0]
            if last <= self.state.fence:
                self.state.skip(place + 1)
            else:
                assert first <= self.state.fence + 1
                self.state.apply(rows_of(rows).after(self.state.fence), last, place + 1)
            draw = self.chance.random()
            if draw < 0.3:
                self.flush(1.0)
            elif draw < 0.5:
                self.flush(self.chance.random())
            elif draw < 0.6:
                self.crash()
            elif draw < 0.7:
                self.changelog += self.state.rewrites(self.chance.randrange(4))
        self.flush(1.0)


def published(spend: list[bytes]) -> dict[tuple[str, str, str, int], list[int]]:
    """Return the totals of the highest versions; the same version never says two things."""
    best: dict[tuple[str, str, str, int], tuple[int, list[int]]] = {}
    said: dict[tuple[tuple[str, str, str, int], int], list[int]] = {}
    for value in spend:
        update = SpendUpdate.model_validate_json(value)
        for total in update.totals:
            key = (update.scope.value, update.scope_id, total.period.value, total.period_start)
            numbers = [
                total.requests,
                total.input_tokens,
                total.output_tokens,
                total.cost_pico_usd,
                total.unpriced_requests,
            ]
            assert said.setdefault((key, update.version), numbers) == numbers
            if key not in best or update.version >= best[key][0]:
                best[key] = (update.version, numbers)
    return {key: numbers for key, (_, numbers) in best.items()}


def remembered(changelog: list[tuple[bytes, bytes]]) -> dict[tuple[str, str, int], list[int]]:
    """Return totals by scope, id and hour: per key the highest fence."""
    best: dict[bytes, dict[str, Any]] = {}
    for key, value in changelog:
        record = json.loads(value)
        if key != FENCE_KEY and record["fence"] >= best.get(key, {"fence": -1})["fence"]:
            best[key] = record
    found = {}
    for key, record in best.items():
        scope, _, rest = key.decode().partition(":")
        for hour, (requests, input_tokens, output_tokens, cost, unpriced) in record["hours"].items():
            found[scope, rest.rpartition("|")[0], int(hour)] = [
                requests,
                input_tokens,
                output_tokens,
                int(cost),
                unpriced,
            ]
    return found


a_row = st.tuples(
    st.sampled_from([START - 86_400, START, START + 3600]),
    st.sampled_from(["ann", "bob|2026-11-30", "zo:e", None]),
    st.sampled_from(["red", "blue", None]),
    st.integers(0, 1000),
    st.one_of(st.none(), st.integers(0, 10**15)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(a_row, min_size=1, max_size=40), st.integers(0, 2**32))
def test_totals_are_those_of_the_log_whatever_crashes(
    drawn: list[tuple[int, str | None, str | None, int, int | None]], seed: int
) -> None:
    chance = random.Random(seed)
    rows: list[Row] = [(offset, *row) for offset, row in enumerate(drawn)]
    # Chunks of any size, some of which a worker that had lost the partition sent once more with other borders.
    records: list[list[Row]] = []
    covered = 0
    while covered < len(rows):
        begin = chance.randrange(max(0, covered - 5), covered + 1)
        end = chance.randrange(begin + 1, min(len(rows), covered + 8) + 1)
        records.append(rows[begin:end])
        covered = max(covered, end)

    pipeline = Pipeline(records, chance)
    pipeline.run()

    expected = oracle(rows)
    assert published(pipeline.spend) == expected
    assert remembered(pipeline.changelog) == {
        (scope, name, start): total
        for (scope, name, period, start), total in expected.items()
        if period == "hour"
    }
    assert pipeline.committed == len(records)


def test_a_cut_off_flush_publishes_nothing_until_all_totals_are_level() -> None:
    ahead = SpendState(0)
    ahead.apply(rows_of([(0, START, "ann", None, 1, 1), (1, START, "ann", None, 1, 1)]), 1, 1)
    changes = ahead.take_changes()
    assert changes is not None
    survivor = next(record for record in changes.changelog if record[0].startswith(b"user:ann"))

    state = SpendState(0)
    state.load(*survivor)
    state.loaded()
    state.apply(rows_of([(0, START, "ann", None, 1, 1)]), 0, 1)
    assert state.is_catching_up
    assert state.take_changes() is None
    state.apply(rows_of([(1, START, "ann", None, 1, 1)]), 1, 2)

    changes = state.take_changes()
    assert changes is not None
    user = next(
        SpendUpdate.model_validate_json(value) for key, value in changes.spend if key == "provider:openai"
    )
    assert [total.requests for total in user.totals] == [2, 2, 2]
    # Ann's totals were published before they were remembered, so they need not be said again.
    assert "user:ann" not in [key for key, _ in changes.spend]


def test_every_record_is_written_again_in_turn() -> None:
    state = SpendState(0)
    state.apply(rows_of([(0, START, "ann", "red", 1, 1), (1, START, "bob", None, 1, 1)]), 1, 1)
    assert state.rewrites(100) == [], "what is not published yet must not be remembered"
    changes = state.take_changes()
    assert changes is not None
    everything = [record for record in changes.changelog if record[0] != FENCE_KEY]

    first, second = state.rewrites(3), state.rewrites(3)

    assert sorted(first + second) == sorted(everything)


def test_money_beyond_64_bits_is_kept_whole() -> None:
    state = SpendState(0)
    state.apply(rows_of([(0, START, "ann", None, 1, 2**63 - 1), (1, START, "ann", None, 1, 2**63 - 1)]), 1, 1)

    changes = state.take_changes()

    assert changes is not None
    assert published([value for _, value in changes.spend])["user", "ann", "hour", START][3] == 2**64 - 2


@pytest.mark.parametrize(
    ("key", "value"), [(b"user:ann|2026-11-30", b"{}"), (b"\xff", b"{}"), (b"nobody:x|2026-11-30", b"{}")]
)
def test_a_changelog_record_that_no_meter_writes_stops_the_recovery(key: bytes, value: bytes) -> None:
    with pytest.raises(DataLossError, match="no meter of this version writes"):
        SpendState(0).load(key, value)


def test_a_recovered_month_holds_its_days_that_nobody_touched() -> None:
    before = SpendState(0)
    early, late = START - 2 * 86_400, START - 86_400
    before.apply(rows_of([(0, early, "ann", None, 10, 1), (1, late, "ann", None, 20, None)]), 1, 1)
    changes = before.take_changes()
    assert changes is not None
    state = SpendState(0)
    for key, value in changes.changelog:
        state.load(key, value)
    state.loaded()

    state.apply(rows_of([(2, late, "ann", None, 40, 5)]), 2, 2)

    after = state.take_changes()
    assert after is not None
    (update,) = [SpendUpdate.model_validate_json(value) for key, value in after.spend if key == "user:ann"]
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
        state.apply(rows_of([(2, START, "ann", None, 40, 5)]), 2, 2)


def test_a_day_whose_hours_end_out_of_order_counts_once_when_its_fence_was_cut_off() -> None:
    """Seeds 32 and 73: the hour that came first ended last, and its rows were counted again."""
    day = START - 86_400
    rows: list[Row] = [(0, day, "u", None, 1, 1), (1, day - 3600, "u", None, 1, 1), (2, day, "u", None, 1, 1)]
    state = SpendState(0)
    state.apply(rows_of(rows), 2, 1)
    changes = state.take_changes()
    assert changes is not None

    recovered = SpendState(0)
    for key, value in changes.changelog:
        if key != FENCE_KEY:
            recovered.load(key, value)
    recovered.loaded()
    recovered.apply(rows_of(rows), 2, 1)
    recovered.take_changes()

    assert dict(recovered.rewrites(100)).items() >= {
        item for item in changes.changelog if item[0] != FENCE_KEY
    }
