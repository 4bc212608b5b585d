"""Periods close, events come later still: the state stays small, and every total is what the log says."""

import json
import os
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.oracle import read_topic
from support.servers import Servers
from support.traffic import Sent, send

from tokentide.console.audit import run_audit
from tokentide.console.lag import wait_until_settled
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.schemas import changelog_name
from tokentide.sinks import connect

USERS = 24
SETTLE_SECONDS = 120.0
GRACE = {"TOKENTIDE_DAY_GRACE_DAYS": "2", "TOKENTIDE_MONTH_GRACE_DAYS": "20"}


def events(moment: datetime, tokens: int) -> list[dict[str, Any]]:
    """One event of every user."""
    return [
        {
            "event_id": str(uuid.uuid4()),
            "timestamp": (moment + timedelta(seconds=number)).isoformat(),
            "user_id": f"user-{number:02d}",
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": tokens,
            "output_tokens": 1,
        }
        for number in range(USERS)
    ]


def published(settings: ConsoleSettings, of_all: list[dict[str, Any]]) -> None:
    """Send the events and return when everybody has dealt with them."""
    records = [Sent(event["user_id"].encode(), json.dumps(event).encode(), False) for event in of_all]
    send(records, settings.kafka.broker, settings.topics.events)
    wait_until_settled(settings, SETTLE_SECONDS)


def sums(of_all: list[dict[str, Any]]) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Requests and input tokens of every user and period."""
    found: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for event in of_all:
        moment = datetime.fromisoformat(event["timestamp"]).replace(minute=0, second=0, microsecond=0)
        day = moment.replace(hour=0)
        for period, start in (("hour", moment), ("day", day), ("month", day.replace(day=1))):
            total = found[event["user_id"], period, int(start.timestamp())]
            total[0] += 1
            total[1] += event["input_tokens"]
    return {key: (requests, tokens) for key, (requests, tokens) in found.items()}


def remembered(settings: ConsoleSettings, table: str) -> Iterator[bytes]:
    """Yield the keys that compaction would leave in a changelog."""
    last: dict[tuple[Any, Any], Any] = {}
    for message in read_topic(settings.kafka.broker, changelog_name(settings.meter_id, table)):
        last[message.partition(), message.key()] = message.value()
    for (_, key), value in last.items():
        if value is not None and not key.startswith(b"#"):
            yield key


@pytest.mark.slow
def test_late_events_beyond_every_grace_count_once_and_the_state_stays_small(
    servers: Servers, tmp_path: Path
) -> None:
    now = datetime.now(UTC) - timedelta(minutes=10)
    ancient, old = now - timedelta(days=75), now - timedelta(days=9)
    variables = {**os.environ, **GRACE, "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "8"}
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
        of_all = [*events(ancient, 1), *events(old, 2)]
        published(settings, of_all)
        of_all += events(now, 4)
        published(settings, of_all[-USERS:])
        running.kill("meter-1", signal.SIGKILL)
        late = [*events(ancient, 8), *events(old, 16), *events(now, 32)]
        of_all += late
        published(settings, late)

        client = connect(settings.clickhouse)
        rows = client.query(
            "SELECT user_id, period, toUnixTimestamp(period_start), requests, total_tokens - requests "
            "FROM spend_by_user"
        ).result_rows
        assert {row[:3]: row[3:] for row in map(tuple, rows)} == sums(of_all)
        marked = client.query("SELECT event_id, late FROM usage").result_rows
        assert {row[0]: row[1] for row in marked} == {
            event["event_id"]: (2 if event in late[:USERS] else 1) if event in late[: 2 * USERS] else 0
            for event in of_all
        }
        report = run_audit(settings)
        assert report.equal, report.differences[:5]

        oldest = (now - timedelta(days=3)).date().isoformat()
        for table in ("spend", "budgets"):
            keys = list(remembered(settings, table))
            assert keys, table
            if table == "spend":
                days = [key.rpartition(b"|")[2].decode() for key in keys]
                assert all(day >= oldest[: len(day)] or len(day) == 7 for day in days), days
                assert not [day for day in days if day <= ancient.date().isoformat()[: len(day)]], days

        sent = datetime.now(UTC)
        deadline = time.monotonic() + 60
        while True:
            ((complete_up_to,),) = client.query("SELECT min(complete_up_to) FROM spend_by_user").result_rows
            if complete_up_to is not None and complete_up_to.replace(tzinfo=UTC) > sent - timedelta(
                minutes=2
            ):
                break
            assert time.monotonic() < deadline, complete_up_to
            time.sleep(1)
        client.close()
