"""Totals landing in `spend_totals`, read back through the views `spend_by_*`."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tokentide.schemas import (
    DataLossError,
    Period,
    Scope,
    SpendTotal,
    SpendUpdate,
    period_start,
    usd_from_pico,
)
from tokentide.sinks import SPEND, Batcher, ClickHouseSettings, ClickHouseWriter, connect

NOON = int(datetime(2026, 8, 31, 12, tzinfo=UTC).timestamp())
NUMBERS = itertools.count()
TO_THE_SECOND = datetime(2026, 8, 31, 12, 0, 7, tzinfo=UTC)
COLUMNS = "requests, input_tokens, output_tokens, total_tokens, cost_usd, unpriced_requests"


def total(number: int, period: Period = Period.DAY, second: int = NOON) -> SpendTotal:
    """A total whose numbers follow from one."""
    return SpendTotal(
        period=period,
        period_start=period_start(period, second),
        requests=number,
        input_tokens=number * 100,
        output_tokens=number * 10,
        cost_pico_usd=number * 1_000_000_007,
        unpriced_requests=number // 3,
    )


def update(scope: Scope, scope_id: str, partition: int, version: int, *totals: SpendTotal) -> bytes:
    """One record of `usage.spend`."""
    return (
        SpendUpdate(
            scope=scope, scope_id=scope_id, source_partition=partition, version=version, totals=totals
        )
        .model_dump_json()
        .encode()
    )


def watermark(source: int, moment: datetime) -> bytes:
    """The other kind of record of `usage.spend`."""
    milliseconds = int(moment.timestamp() * 1000)
    return SpendUpdate(source_partition=source, complete_up_to=milliseconds).model_dump_json().encode()


def land(settings: ClickHouseSettings, *records: tuple[int, bytes], partition: int = 0) -> None:
    """Insert the records (offset, value) as one batch."""
    batcher = Batcher(SPEND, "usage.spend")
    for offset, value in records:
        batcher.add(partition, offset, value)
    batch = batcher.take()
    assert batch is not None
    ClickHouseWriter(settings).insert(batch.table, batch.rows(), batch.token)


def select(settings: ClickHouseSettings, sql: str) -> Sequence[Sequence[Any]]:
    """The rows of a query."""
    client = connect(settings)
    try:
        return client.query(sql).result_rows
    finally:
        client.close()


def shown(number: int) -> tuple[Any, ...]:
    """What a view shows for `total(number)`."""
    cost = usd_from_pico(number * 1_000_000_007)
    return (number, number * 100, number * 10, number * 110, cost, number // 3)


def test_hour_day_and_month_of_one_entity_land_from_one_record(settings: ClickHouseSettings) -> None:
    value = update(
        Scope.USER, "ann", 0, 9, total(1, Period.HOUR), total(2, Period.DAY), total(3, Period.MONTH)
    )

    land(settings, (0, value))

    rows = select(
        settings, f"SELECT period, period_start, user_id, {COLUMNS} FROM spend_by_user ORDER BY period"
    )
    assert rows == [
        ("day", datetime(2026, 8, 31, tzinfo=UTC), "ann", *shown(2)),
        ("hour", datetime(2026, 8, 31, 12, tzinfo=UTC), "ann", *shown(1)),
        ("month", datetime(2026, 8, 1, tzinfo=UTC), "ann", *shown(3)),
    ]


def test_money_beyond_64_bits_lands_to_the_pico_dollar(settings: ClickHouseSettings) -> None:
    huge = total(1).model_copy(update={"cost_pico_usd": 10**38 - 1})

    land(settings, (0, update(Scope.TEAM, "a", 0, 1, huge)))

    assert select(settings, "SELECT cost_usd FROM spend_by_team") == [(usd_from_pico(10**38 - 1),)]


@pytest.mark.parametrize("second", [1262304000, 4102444799], ids=["2010", "2099"])
def test_the_first_and_the_last_period_that_an_event_may_have_land(
    settings: ClickHouseSettings, second: int
) -> None:
    land(
        settings,
        (0, update(Scope.ORG, "a", 0, 1, total(1, Period.HOUR, second), total(1, Period.MONTH, second))),
    )

    rows = select(
        settings, "SELECT period_start, period FROM spend_by_org WHERE requests = 1 ORDER BY period"
    )
    assert rows == [
        (datetime.fromtimestamp(period_start(period, second), UTC), period.value)
        for period in (Period.HOUR, Period.MONTH)
    ]


@examples(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_highest_version_of_each_partition_wins_whatever_the_order(
    settings: ClickHouseSettings, data: st.DataObject
) -> None:
    user = f"user-{next(NUMBERS)}"
    partials = data.draw(
        st.dictionaries(
            st.tuples(st.integers(0, 2), st.integers(0, 10**6)), st.integers(0, 10**6), min_size=1, max_size=8
        ),
        label="(partition, version): number",
    )
    deliveries = data.draw(
        st.permutations(list(partials) * 2).flatmap(
            lambda order: st.lists(st.integers(1, 4), min_size=len(order), max_size=len(order)).map(
                lambda sizes: _cut(order, sizes)
            )
        ),
        label="batches",
    )
    offsets = itertools.count()

    for batch in deliveries:
        land(
            settings,
            *((next(offsets), update(Scope.USER, user, *place, total(partials[place]))) for place in batch),
        )

    latest = {partition: number for (partition, _), number in sorted(partials.items())}
    expected = [sum(column) for column in zip(*map(shown, latest.values()), strict=True)]
    rows = select(settings, f"SELECT {COLUMNS} FROM spend_by_user WHERE user_id = '{user}'")
    assert [list(row) for row in rows] == [expected]


def _cut(order: list[tuple[int, int]], sizes: list[int]) -> list[list[tuple[int, int]]]:
    rest = iter(order)
    return [batch for size in sizes if (batch := list(itertools.islice(rest, size)))]


VIEWS = [
    (Scope.USER, "spend_by_user", "user_id"),
    (Scope.TEAM, "spend_by_team", "team_id"),
    (Scope.ORG, "spend_by_org", "org_id"),
    (Scope.PROVIDER, "spend_by_provider", "provider"),
    (Scope.MODEL, "spend_by_model", "model"),
    (Scope.OPERATION, "spend_by_operation", "operation"),
]


def test_each_scope_has_a_view_that_adds_up_its_own_partitions_only(settings: ClickHouseSettings) -> None:
    numbers = {
        (scope, name, partition): 1 + 10 * place + partition
        for place, (scope, name) in enumerate(itertools.product(Scope, ("first", "second")))
        for partition in range(3)
    }
    records = [
        update(scope, name, partition, 5, total(number))
        for (scope, name, partition), number in numbers.items()
    ]

    land(settings, *enumerate(records))

    assert {scope for scope, _, _ in VIEWS} == set(Scope)
    for scope, view, column in VIEWS:
        rows = select(settings, f"SELECT {column}, {COLUMNS} FROM {view} ORDER BY {column}")
        assert [tuple(row) for row in rows] == [
            (
                name,
                *[sum(c) for c in zip(*(shown(numbers[scope, name, p]) for p in range(3)), strict=True)],
            )
            for name in ("first", "second")
        ]


def test_a_total_is_found_by_period_without_reading_the_others(settings: ClickHouseSettings) -> None:
    march = int(datetime(2026, 3, 15, tzinfo=UTC).timestamp())
    land(settings, (0, update(Scope.MODEL, "openai/gpt-5", 0, 1, total(4, Period.MONTH, march), total(9))))

    rows = select(
        settings,
        "SELECT requests FROM spend_by_model WHERE period = 'month' AND period_start >= '2026-03-01 00:00:00' "
        "AND period_start < '2026-04-01 00:00:00'",
    )

    assert rows == [(4,)]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        update(Scope.USER, "ann", 0, 1, total(1)).replace(b'"user"', b'"galaxy"'),
        update(Scope.USER, "ann", 0, 1, total(1)).replace(b'"user"', b"null"),
        b'{"source_partition":1}',
        update(Scope.USER, "ann", 0, 1, total(1).model_copy(update={"cost_pico_usd": 10**38})),
    ],
    ids=["empty", "no fields", "unknown scope", "no scope", "no moment", "39 digits of money"],
)
def test_a_record_that_is_no_update_is_named_by_its_place(value: bytes) -> None:
    batcher = Batcher(SPEND, "usage.spend")

    with pytest.raises(DataLossError, match="spend_totals at partition 1, offset 8 cannot be read"):
        batcher.add(1, 8, value)


def test_a_count_that_the_table_cannot_hold_stops_the_batch_with_its_place() -> None:
    batcher = Batcher(SPEND, "usage.spend")
    batcher.add(1, 8, update(Scope.USER, "ann", 0, 1, total(1).model_copy(update={"requests": 2**64})))
    batch = batcher.take()
    assert batch is not None

    with pytest.raises(DataLossError, match=r"usage\.spend/1:8-8/.* do not fit into spend_totals"):
        batch.rows()


def test_the_fast_decoder_reads_what_the_model_writes(settings: ClickHouseSettings) -> None:
    value = update(Scope.MODEL, 'openai/gpt "5" ü', 7, 2**40, total(12345))

    land(settings, (0, value))

    rows = select(settings, "SELECT scope, scope_id, source_partition, version, cost_usd FROM spend_totals")
    assert rows == [("model", 'openai/gpt "5" ü', 7, 2**40, Decimal(12345 * 1_000_000_007).scaleb(-12))]


def test_adjustments_are_added_to_what_was_counted_and_each_once(settings: ClickHouseSettings) -> None:
    counted = update(Scope.USER, "ann", 0, 900, total(100))
    negative = SpendTotal(
        period=Period.DAY,
        period_start=period_start(Period.DAY, NOON),
        requests=-2,
        input_tokens=-200,
        output_tokens=-20,
        cost_pico_usd=-2 * 1_000_000_007,
        unpriced_requests=-1,
    )
    late = [
        SpendUpdate.model_validate_json(
            update(Scope.USER, "ann", 0, number, total(7)), strict=False
        ).model_copy(update={"adjustment": f"late/{number}"})
        for number in (3, 4)
    ]
    audit = SpendUpdate(
        scope=Scope.USER,
        scope_id="ann",
        source_partition=0,
        version=1,
        adjustment="audit",
        totals=(negative,),
    )
    land(settings, (0, counted), *enumerate((each.model_dump_json().encode() for each in late), 1))
    land(settings, (3, audit.model_dump_json().encode()), (4, late[0].model_dump_json().encode()))

    rows = select(settings, f"SELECT {COLUMNS} FROM spend_by_user")

    requests, inputs, outputs, tokens, cost, unpriced = rows[0]
    assert len(rows) == 1
    assert (requests, inputs, outputs, tokens) == (112, 11_200, 1_120, 12_320)
    assert (cost, unpriced) == (usd_from_pico(112 * 1_000_000_007), 33 + 2 + 2 - 1)


def test_totals_are_complete_up_to_the_slowest_source(settings: ClickHouseSettings) -> None:
    land(settings, (0, update(Scope.USER, "ann", 0, 1, total(1))))
    assert select(settings, "SELECT complete_up_to FROM spend_by_user") == [(None,)]

    land(settings, (1, watermark(0, TO_THE_SECOND)), (2, watermark(1, TO_THE_SECOND + timedelta(hours=1))))
    land(settings, (0, watermark(0, TO_THE_SECOND + timedelta(hours=2))), partition=1)
    # An old one that comes again.
    land(settings, (3, watermark(1, TO_THE_SECOND)))

    rows = select(settings, "SELECT * FROM watermarks ORDER BY ALL")
    assert rows == [
        (0, 0, TO_THE_SECOND),
        (0, 1, TO_THE_SECOND + timedelta(hours=1)),
        (1, 0, TO_THE_SECOND + timedelta(hours=2)),
    ]
    assert select(settings, "SELECT user_id, requests, complete_up_to FROM spend_by_user") == [
        ("ann", 1, TO_THE_SECOND)
    ]
    for _, view, _ in VIEWS[1:]:
        assert select(settings, f"SELECT * FROM {view}") == []


def test_a_view_reads_the_watermarks_of_its_own_database(settings: ClickHouseSettings) -> None:
    land(settings, (0, update(Scope.USER, "ann", 0, 1, total(1))), (1, watermark(0, TO_THE_SECOND)))
    client = connect(settings, database="")
    try:
        name = settings.database
        assert client.query(f"SELECT complete_up_to FROM {name}.spend_by_user").result_rows == [
            (TO_THE_SECOND,)
        ]
    finally:
        client.close()


def test_a_watermark_that_is_refused_is_one_row_that_can_be_retried(settings: ClickHouseSettings) -> None:
    batcher = Batcher(SPEND, "usage.spend")
    batcher.add(3, 7, update(Scope.USER, "ann", 0, 1, total(1), total(2, Period.HOUR)))
    batcher.add(3, 8, watermark(1, TO_THE_SECOND))
    batch = batcher.take()
    assert batch is not None

    refused = batch.dead_letter(2, "no room")

    assert (refused.offset, refused.row) == (8, 0)
    land(settings, (8, refused.value or b""), partition=3)
    assert select(settings, "SELECT * FROM watermarks") == [(3, 1, TO_THE_SECOND)]
