"""Alerts and refused records landing in their tables, read back through the views `alerts` and `rejected`."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tokentide.schemas import (
    Alert,
    AlertKind,
    AlertLevel,
    DataLossError,
    Period,
    Rejected,
    Scope,
    Unit,
    alert_id,
)
from tokentide.sinks import ALERTS, REJECTED, Batcher, ClickHouseSettings, ClickHouseWriter, Landing, connect

NOON = datetime(2026, 8, 3, 12, 0, 0, 123456, tzinfo=UTC)
DAY = datetime(2026, 8, 3, tzinfo=UTC)

CROSSED = Alert(
    alert_id=alert_id(AlertKind.THRESHOLD, "budget-1@2", int(DAY.timestamp()), 90),
    timestamp=NOON,
    kind=AlertKind.THRESHOLD,
    level=AlertLevel.WARNING,
    scope=Scope.TEAM,
    scope_id="team-ü",
    period=Period.DAY,
    period_start=DAY,
    period_end=DAY + timedelta(days=1),
    budget_id="budget-1",
    budget_revision=2,
    threshold_pct=90,
    unit=Unit.USD,
    limit=Decimal("100.000000000001"),
    used=Decimal("90.123456789012"),
    message='team "ü" has used 90 %',
    complete_up_to=DAY.replace(microsecond=7000),
)
UNPRICED = Alert(
    alert_id=alert_id(AlertKind.UNPRICED_MODEL, "openai/gpt-9", int(DAY.timestamp()), None),
    timestamp=NOON,
    kind=AlertKind.UNPRICED_MODEL,
    level=AlertLevel.WARNING,
    scope=Scope.MODEL,
    scope_id="openai/gpt-9",
    period=Period.DAY,
    period_start=DAY,
    period_end=DAY + timedelta(days=1),
    requests=3,
    message="openai/gpt-9 has no price",
)
REFUSED = Rejected(
    topic="usage.events",
    partition=2,
    offset=2**40,
    timestamp=NOON,
    reason="model: Field required",
    key=base64.b64encode(b"user-1"),
    value=base64.b64encode(bytes([0, 1, 2, 3, 255, 254])),
)


def land(settings: ClickHouseSettings, landing: Landing[Any], *records: tuple[int, Alert | Rejected]) -> None:
    """Insert the records (offset, content) as one batch."""
    batcher = Batcher(landing, landing.table)
    for offset, content in records:
        batcher.add(1, offset, content.model_dump_json().encode())
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


def alerts(settings: ClickHouseSettings) -> list[Alert]:
    """All rows of the view `alerts`, as the model that they came from."""
    names = [name for name in Alert.model_fields if name != "schema_version"]
    columns = ["budget_limit" if name == "limit" else name for name in names]
    rows = select(settings, f"SELECT {', '.join(columns)} FROM alerts ORDER BY alert_id")
    return [Alert(**dict(zip(names, row, strict=True))) for row in rows]


def test_every_field_of_an_alert_lands_as_it_was_sent(settings: ClickHouseSettings) -> None:
    land(settings, ALERTS, (0, CROSSED), (1, UNPRICED))

    assert alerts(settings) == sorted([CROSSED, UNPRICED], key=lambda alert: alert.alert_id)


@pytest.mark.parametrize("offsets", [(4, 8), (8, 4)], ids=["in order", "late"])
def test_an_alert_that_was_raised_again_is_the_first_one(
    settings: ClickHouseSettings, offsets: tuple[int, int]
) -> None:
    again = CROSSED.model_copy(update={"timestamp": NOON + timedelta(days=40), "used": Decimal(95)})
    by_offset = {4: CROSSED, 8: again}

    for offset in offsets:
        land(settings, ALERTS, (offset, by_offset[offset]))

    assert alerts(settings) == [CROSSED]


def test_a_refused_record_lands_with_its_bytes(settings: ClickHouseSettings) -> None:
    land(settings, REJECTED, (0, REFUSED))

    columns = "source_topic, source_partition, source_offset, timestamp, reason, key, hex(value)"
    assert select(settings, f"SELECT {columns} FROM rejected") == [
        ("usage.events", 2, 2**40, NOON, "model: Field required", "user-1", "00010203FFFE")
    ]


def test_a_refused_record_without_a_value_is_null_and_not_empty(settings: ClickHouseSettings) -> None:
    empty = REFUSED.model_copy(update={"offset": 1, "key": b"", "value": b""})
    absent = REFUSED.model_copy(update={"offset": 2, "key": None, "value": None})

    land(settings, REJECTED, (0, empty), (1, absent))

    assert select(settings, "SELECT key, value FROM rejected ORDER BY source_offset") == [
        ("", ""),
        (None, None),
    ]


@pytest.mark.parametrize("offsets", [(4, 8), (8, 4)], ids=["in order", "late"])
def test_a_record_that_was_refused_twice_is_refused_once(
    settings: ClickHouseSettings, offsets: tuple[int, int]
) -> None:
    by_offset = {4: REFUSED, 8: REFUSED.model_copy(update={"reason": "said otherwise by a newer version"})}

    for offset in offsets:
        land(settings, REJECTED, (offset, by_offset[offset]))

    assert select(settings, "SELECT reason, count() OVER () FROM rejected") == [("model: Field required", 1)]


@pytest.mark.parametrize("landing", [ALERTS, REJECTED], ids=["alert", "rejected"])
def test_a_record_that_cannot_be_read_is_named_by_its_place(landing: Landing[Any]) -> None:
    batcher = Batcher(landing, "topic")

    with pytest.raises(DataLossError, match=f"{landing.table} at partition 3, offset 5 cannot be read"):
        batcher.add(3, 5, b'{"schema_version": 2}')


def test_money_finer_than_a_pico_dollar_is_refused_and_not_cut_off() -> None:
    batcher = Batcher(ALERTS, "usage.alerts")
    fine = CROSSED.model_copy(update={"used": Decimal("0.0000000000001")})
    batcher.add(0, 7, fine.model_dump_json().encode())
    batch = batcher.take()
    assert batch is not None

    with pytest.raises(DataLossError, match=r"usage\.alerts/0:7-7/.* do not fit into alert_events"):
        batch.rows()
