"""Rows that ClickHouse refuses, and records that are no events, through real workers: rejected, told, retried."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from support.commands import run

from tokentide.console.audit import run_audit
from tokentide.console.lag import wait_until_settled
from tokentide.console.stack import Stack
from tokentide.sinks import connect

SETTLE_SECONDS = 120.0


@pytest.mark.slow
def test_what_was_rejected_is_told_by_the_audit_and_counts_once_when_it_is_retried(tmp_path: Path) -> None:
    moment = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    events = [
        {
            "event_id": f"event-{number}",
            "timestamp": moment,
            "provider": "openai",
            "model": "gpt-4o",
            "user_id": f"user-{number % 7}",
            "input_tokens": number,
        }
        for number in range(500)
    ]
    del events[100]["event_id"]
    variables = {**os.environ, "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "8"}
    with Stack(tmp_path, meters=1, sinks=1, partitions=2, variables=variables) as running:
        client = connect(running.settings.clickhouse)
        client.command(
            "ALTER TABLE usage_events ADD CONSTRAINT small CHECK input_tokens NOT IN (13, 57, 401)"
        )
        producer = Producer({"bootstrap.servers": running.bootstrap})
        for event in events:
            key = str(event["user_id"])
            producer.produce(running.settings.topics.events, json.dumps(event).encode(), key)
        assert producer.flush(30) == 0
        wait_until_settled(running.settings, SETTLE_SECONDS)
        environment = running.settings.environment()

        before = run_audit(running.settings)
        refused = run("rejected", "retry", "--all", environment=environment)
        client.command("ALTER TABLE usage_events DROP CONSTRAINT small")
        retried = [run("rejected", "retry", "--all", environment=environment) for _ in range(2)]
        wait_until_settled(running.settings, SETTLE_SECONDS)
        after = run_audit(running.settings)
        rows = client.query("SELECT count(), sum(input_tokens) FROM usage").result_rows
        client.close()

    assert (before.equal, before.refused_rows, before.events, before.rejected) == (False, 3, 499, 1)
    # The event without an id is submitted again at once; the rows are refused as before.
    assert (refused.code, refused.err.count("Constraint `small`")) == (1, 3)
    assert [answer.code for answer in retried] == [0, 0], retried
    assert retried[0].out.count("is stored in usage_events") == 3
    assert retried[1].out == "There is nothing to submit again.\n"
    assert after.equal, after.differences
    assert (after.events, after.rejected, after.refused_rows) == (500, 1, 0)
    assert rows == [(500, sum(range(500)))]
