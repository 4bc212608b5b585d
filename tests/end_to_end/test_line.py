"""The whole line on real servers and real processes, against an oracle that shares nothing with it."""

import json
import os
import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.oracle import Expected, Total, expect, read_topic, state_totals
from support.servers import Servers
from support.traffic import send, traffic

from tokentide.console.audit import run_audit
from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.lag import wait_until_settled
from tokentide.console.program import ProgramState
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.schemas import changelog_name
from tokentide.sinks import connect

PARTITIONS = 4
SETTLE_SECONDS = 120.0
BUDGETS: list[dict[str, Any]] = [
    {"budget_id": "team-day", "scope": "team", "scope_id": "team-03", "period": "day", "unit": "usd", "limit": "12"},
    {"budget_id": "user-month", "scope": "user", "scope_id": "user-0007", "period": "month", "unit": "tokens",
     "limit": "400000"},
    {"budget_id": "model-day", "scope": "model", "scope_id": "openai/gpt-4o", "period": "day", "unit": "usd",
     "limit": "20", "thresholds": (10, 50, 100, 500)},
    {"budget_id": "never", "scope": "org", "scope_id": "acme", "period": "month", "unit": "usd", "limit": "100000"},
]  # fmt: skip


def stack(servers: Servers, data_dir: Path) -> Stack:
    """Two meters and one sink, which notice a dead member soon."""
    return Stack(
        data_dir,
        broker=servers.broker,
        clickhouse_url=servers.clickhouse_url,
        meters=2,
        sinks=1,
        partitions=PARTITIONS,
        variables={**os.environ, "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "8"},
    )


def set_budgets(settings: ConsoleSettings) -> None:
    """Write all budgets."""
    for budget in BUDGETS:
        fields = {**budget, "limit": Decimal(budget["limit"])}
        write_budget(settings.kafka, settings.topics.budgets, new_budget(**fields))


def wait_until_all_run(running: Stack) -> None:
    """Return when the last one that was killed is up again."""
    deadline = time.monotonic() + 60
    while any(status.state is not ProgramState.RUNNING for status in running.statuses()):
        assert time.monotonic() < deadline, running.statuses()
        time.sleep(0.2)


def check_everything(settings: ConsoleSettings) -> Expected:
    """Compare every copy of the numbers with the oracle."""
    broker, topics = settings.kafka.broker, settings.topics
    expected = expect(read_topic(broker, topics.events))
    client = connect(settings.clickhouse)

    rows = client.query(
        "SELECT event_id, source_partition, source_offset, input_tokens, output_tokens, cost_usd FROM usage"
    ).result_rows
    assert len(rows) == len(expected.rows)
    assert {(row[0], row[1]): tuple(row[2:]) for row in rows} == expected.rows

    assert state_totals(read_topic(broker, changelog_name(settings.meter_id, "spend"))) == expected.totals

    stored = client.query(
        "SELECT scope, scope_id, period, toUnixTimestamp(period_start), sum(requests), sum(input_tokens), "
        "sum(output_tokens), sum(cost_usd), sum(unpriced_requests) FROM spend_totals FINAL GROUP BY 1, 2, 3, 4"
    ).result_rows
    assert {tuple(row[:4]): Total(*row[4:]) for row in stored} == expected.totals

    rejected = client.query("SELECT source_partition, source_offset, reason FROM rejected").result_rows
    assert Counter((row[0], row[1]) for row in rejected) == Counter(expected.rejected)
    assert all(row[2] for row in rejected)

    check_alerts(settings, expected)
    check_limits(settings, expected)
    client.close()
    return expected


def check_alerts(settings: ConsoleSettings, expected: Expected) -> None:
    """Each alert exactly once, on the topic after dropping repeats by id, and in ClickHouse."""
    on_topic: dict[str, dict[str, Any]] = {}
    for message in read_topic(settings.kafka.broker, settings.topics.alerts):
        alert = json.loads(message.value() or b"")
        on_topic.setdefault(alert["alert_id"], alert)
    names = Counter(
        (
            alert["kind"],
            alert["budget_id"] or alert["scope_id"],
            int(datetime.fromisoformat(alert["period_start"]).timestamp()),
            alert["threshold_pct"],
        )
        for alert in on_topic.values()
    )
    assert names == Counter(expected.alerts(BUDGETS))

    client = connect(settings.clickhouse)
    stored = client.query("SELECT alert_id FROM alerts").result_rows
    assert Counter(row[0] for row in stored) == Counter(on_topic.keys())
    client.close()


def check_limits(settings: ConsoleSettings, expected: Expected) -> None:
    """The newest record of every budgeted entity says what is left."""
    newest: dict[str, dict[str, Any]] = {}
    for message in read_topic(settings.kafka.broker, settings.topics.limits):
        limits = json.loads(message.value() or b"")
        key = f"{limits['scope']}:{limits['scope_id']}"
        version = (limits["budgets_version"], limits["version"])
        if key not in newest or version >= (newest[key]["budgets_version"], newest[key]["version"]):
            newest[key] = limits
    for budget in BUDGETS:
        [limit, *_] = newest[f"{budget['scope']}:{budget['scope_id']}"]["limits"][::-1]
        start = int(datetime.fromisoformat(limit["period_start"]).timestamp())
        total = expected.totals[budget["scope"], budget["scope_id"], budget["period"], start]
        used = (
            total.cost_usd if budget["unit"] == "usd" else Decimal(total.input_tokens + total.output_tokens)
        )
        assert Decimal(limit["used"]) == used
        assert Decimal(limit["left"]) == max(Decimal(0), Decimal(budget["limit"]) - used)
        assert limit["exceeded"] == (used >= Decimal(budget["limit"]))


def check_audit(settings: ConsoleSettings, expected: Expected) -> None:
    """The product's own verdict agrees."""
    report = run_audit(settings)
    assert report.equal, report.differences[:5]
    assert report.events == len(expected.rows)
    assert report.duplicates == expected.duplicates
    assert report.rejected == len(expected.rejected)


@pytest.mark.slow
def test_fifty_thousand_events_come_out_exact(servers: Servers, tmp_path: Path) -> None:
    end = datetime.now(UTC) - timedelta(minutes=5)
    with stack(servers, tmp_path) as running:
        set_budgets(running.settings)
        sent = send(traffic(50_000, seed=1, end=end), running.bootstrap, running.settings.topics.events)

        wait_until_settled(running.settings, SETTLE_SECONDS)

        assert sent == 50_000
        expected = check_everything(running.settings)
        check_audit(running.settings, expected)
    assert expected.duplicates > 2000
    assert len(expected.rejected) > 300


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_every_process_changes_nothing(servers: Servers, tmp_path: Path, number: int) -> None:
    end = datetime.now(UTC) - timedelta(minutes=5)
    with stack(servers, tmp_path) as running:
        set_budgets(running.settings)
        names = list(running.processes)
        producing = threading.Thread(
            target=send,
            args=(traffic(50_000, seed=2, end=end), running.bootstrap, running.settings.topics.events),
            kwargs={"per_second": 1_500.0},
        )
        producing.start()
        for name in ["meter-1", "sink-1", "meter-2", *(set(names) & {"clickhouse", "kafka"})]:
            time.sleep(5)
            running.kill(name, number)
        producing.join()
        wait_until_all_run(running)

        wait_until_settled(running.settings, SETTLE_SECONDS)

        expected = check_everything(running.settings)
        check_audit(running.settings, expected)
        restarts = {status.name: status.restarts for status in running.statuses()}
    assert all(restarts[name] >= 1 for name in names), restarts
