"""The whole line on real servers and real processes, against an oracle that shares nothing with it."""

import importlib.util
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.oracle import Expected
from support.servers import Servers
from support.traffic import send, traffic
from support.verdict import judge

from tokentide.console.audit import run_audit
from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.lag import wait_until_settled
from tokentide.console.program import ProgramState
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack

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
    time.sleep(1)  # the supervisor looks ten times a second
    deadline = time.monotonic() + 60
    while any(status.state is not ProgramState.RUNNING for status in running.statuses()):
        assert time.monotonic() < deadline, running.statuses()
        time.sleep(0.2)


def check_everything(settings: ConsoleSettings) -> Expected:
    """Every copy of the numbers, and the product's own verdict, agree with the oracle."""
    verdict = judge(settings, BUDGETS)
    assert verdict.problems == []
    report = run_audit(settings)
    assert report.equal, report.differences[:5]
    assert report.events == len(verdict.expected.rows)
    assert report.duplicates == verdict.expected.duplicates
    assert report.rejected == len(verdict.expected.rejected)
    return verdict.expected


def assert_without_pandas(running: Stack) -> None:
    """A fifth of a second and 45 MB that no worker needs, though it is installed here."""
    assert importlib.util.find_spec("pandas") is not None
    for name in ("meter-1", "sink-1"):
        libraries = {Path(each.path) for each in psutil.Process(running.processes[name].pid).memory_maps()}
        assert any("pyarrow" in path.parts for path in libraries)
        assert not any("pandas" in path.parts for path in libraries), name


@pytest.mark.slow
def test_fifty_thousand_events_come_out_exact(servers: Servers, tmp_path: Path) -> None:
    end = datetime.now(UTC) - timedelta(minutes=5)
    with stack(servers, tmp_path) as running:
        set_budgets(running.settings)
        sent = send(traffic(50_000, seed=1, end=end), running.bootstrap, running.settings.topics.events)

        wait_until_settled(running.settings, SETTLE_SECONDS)

        assert sent == 50_000
        assert_without_pandas(running)
        expected = check_everything(running.settings)
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

        check_everything(running.settings)
        restarts = {status.name: status.restarts for status in running.statuses()}
    assert all(restarts[name] >= 1 for name in names), restarts
