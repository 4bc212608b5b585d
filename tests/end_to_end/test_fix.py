"""Repeats that come when the meter has forgotten their ids: the audit says so, and `--fix` mends totals."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from support.commands import run
from support.servers import Servers

from tokentide.console.audit import AuditRules, Source, run_audit
from tokentide.console.lag import wait_until_settled
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.sinks import connect

SETTLE_SECONDS = 120.0
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
BEFORE = NOW - timedelta(days=3)


def event(number: int, moment: datetime) -> dict[str, Any]:
    """Event `number`, of a user of its own; it costs 0.0025 USD."""
    return {
        "event_id": f"e-{number}",
        "timestamp": moment.isoformat(),
        "user_id": f"user-{number}",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1000,
    }


def published(settings: ConsoleSettings, events: list[dict[str, Any]], produced: datetime) -> None:
    """Send events as a service did at that moment, and return when everybody has dealt with them."""
    producer = Producer({**settings.kafka.librdkafka(), "enable.idempotence": True})
    for each in events:
        producer.produce(
            settings.topics.events,
            json.dumps(each).encode(),
            each["user_id"].encode(),
            timestamp=int(produced.timestamp() * 1000),
        )
    assert producer.flush(30) == 0
    wait_until_settled(settings, SETTLE_SECONDS)


def spent(settings: ConsoleSettings, user_id: str) -> Iterator[tuple[str, Decimal]]:
    """Yield period and cost of the totals of a user that are not zero."""
    client = connect(settings.clickhouse)
    rows = client.query(
        "SELECT period, cost_usd FROM spend_by_user WHERE user_id = {user:String} AND cost_usd != 0 "
        "ORDER BY period, period_start",
        parameters={"user": user_id},
    ).result_rows
    client.close()
    return ((period, cost) for period, cost in rows)


@pytest.mark.slow
def test_repeats_that_the_meter_had_forgotten_are_taken_out_of_the_totals(
    servers: Servers, tmp_path: Path
) -> None:
    variables = {**os.environ, "TOKENTIDE_DEDUPE_DAYS": "1", "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "8"}
    with Stack(
        tmp_path,
        broker=servers.broker,
        clickhouse_url=servers.clickhouse_url,
        meters=1,
        sinks=1,
        partitions=2,
        variables=variables,
    ) as running:
        settings = running.settings
        environment = {**running.environment, "TOKENTIDE_DEDUPE_DAYS": "1", "COLUMNS": "200"}
        old = BEFORE - timedelta(days=20)
        # The last is of a day that is closed when its repeat comes: that is an adjustment.
        published(settings, [*(event(n, BEFORE) for n in range(4)), event(4, old)], BEFORE)
        published(settings, [event(9, NOW)], NOW)
        published(settings, [event(n, NOW) for n in range(100, 140)], NOW)
        # A third one a moment later is remembered again.
        for _ in range(2):
            published(settings, [event(0, BEFORE), event(1, NOW), event(4, old)], NOW)
        wrong = run("audit", "--wait", "60", environment=environment)
        preview = run("audit", "--fix", "--dry-run", "--json", environment=environment)
        again = run("audit", environment=environment)

        assert (wrong.code, preview.code, again.code) == (1, 1, 1), wrong.err + preview.err + again.err
        assert "Wrong: ClickHouse aggregates." in wrong.out
        said = " ".join(wrong.out.split())
        assert "3 duplicates came later than the meter remembers ids (TOKENTIDE_DEDUPE_DAYS)" in said
        assert "so it counted them again, 0.0075 USD in all: e-" in said
        assert "1 of them has another day than the first of the id" in said
        assert "`tokentide audit --fix` corrects" in said
        content = json.loads(preview.out)
        assert content["differing"] == ["ClickHouse aggregates"]
        assert content["late_row_pico_usd"] == "2500000000"
        corrected = {
            (each["scope_id"], each["period"]): each["adjustment"]["cost_pico_usd"]
            for each in content["corrections"]
            if each["scope"] == "user"
        }
        assert corrected == {
            (f"user-{number}", period): "-2500000000"
            for number in (0, 1, 4)
            for period in ("hour", "day", "month")
        }

        fixed = run("audit", "--fix", environment=environment, timeout_seconds=120)
        nothing_to_do = run("audit", "--fix", "--wait", "60", environment=environment, timeout_seconds=120)

        assert (fixed.code, fixed.err) == (0, ""), fixed.out
        assert "user user-1" in fixed.out
        assert "Equal to the token and the pico-dollar" in fixed.out
        assert (nothing_to_do.code, nothing_to_do.err) == (0, ""), nothing_to_do.out
        assert "There is nothing to fix." in nothing_to_do.out
        for number in range(5):
            assert [cost for _, cost in spent(settings, f"user-{number}")] == [Decimal("0.0025")] * 3, number

        # Behind a correction comes another repeat, and somebody breaks a total that was corrected.
        published(settings, [event(2, BEFORE)], NOW)
        client = connect(settings.clickhouse)
        client.command(
            "INSERT INTO spend_totals SELECT * REPLACE (version + 1 AS version, cost_usd * 3 AS cost_usd) "
            "FROM spend_totals FINAL WHERE scope_id = 'user-0' AND period = 'day' AND adjustment = ''"
        )
        client.close()
        assert run_audit(settings, rules=AuditRules(dedupe_days=1)).differing == (Source.AGGREGATES,)
        mended = run("audit", "--fix", environment=environment, timeout_seconds=120)

        assert (mended.code, mended.err) == (0, ""), mended.out
        for number in range(5):
            assert [cost for _, cost in spent(settings, f"user-{number}")] == [Decimal("0.0025")] * 3, number
