"""State that is lost: a data directory, a changelog topic, a whole machine that stops; all of it comes back."""

import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.servers import stack_on
from support.traffic import send, traffic
from support.verdict import judge

from tokentide.console.audit import run_audit
from tokentide.console.broker import reach
from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.lag import pipeline_lag, wait_until_settled
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.console.topics import ensure_topics
from tokentide.schemas import ServiceUnavailableError, changelog_name

SETTLE_SECONDS = 120.0
END = datetime.now(UTC) - timedelta(minutes=5)
BUDGETS: list[dict[str, Any]] = [
    {"budget_id": "team-day", "scope": "team", "scope_id": "team-03", "period": "day", "unit": "usd", "limit": "2",
     "thresholds": (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200)},
    {"budget_id": "user-month", "scope": "user", "scope_id": "user-0007", "period": "month", "unit": "tokens",
     "limit": "100000", "thresholds": (10, 50, 100, 300)},
    {"budget_id": "never", "scope": "org", "scope_id": "acme", "period": "month", "unit": "usd", "limit": "100000"},
]  # fmt: skip

Start = Callable[..., Stack]


@pytest.fixture
def stack(tmp_path: Path) -> Start:
    """Returns a function that makes a stack on the test's data directory, or workers on the servers of another."""

    def made(meters: int = 2, sinks: int = 1, servers: Stack | None = None) -> Stack:
        quick = {"TOKENTIDE_SESSION_TIMEOUT_SECONDS": "8"}
        return stack_on(
            tmp_path,
            servers,
            meters=meters,
            sinks=sinks,
            partitions=4,
            variables={**os.environ, **quick},
        )

    return made


def set_budgets(settings: ConsoleSettings) -> None:
    """Write all budgets."""
    for budget in BUDGETS:
        write_budget(
            settings.kafka,
            settings.topics.budgets,
            new_budget(**{**budget, "limit": Decimal(budget["limit"])}),
        )


def feed(running: Stack, seed: int, events: int = 8000, **options: Any) -> None:
    """Send some traffic; another seed means other events."""
    send(traffic(events, seed=seed, end=END), running.bootstrap, running.settings.topics.events, **options)


def wait_for_the_meter(running: Stack) -> None:
    """Return when nothing is behind but what only a sink could take: no record of `usage.events` is."""
    names = running.settings.topics
    calm = 0
    while calm < 20:
        before = pipeline_lag(running.settings)
        threading.Event().wait(0.2)
        after = pipeline_lag(running.settings)
        calm = calm + 1 if before == after and not after[names.events] else 0


def check_everything(settings: ConsoleSettings) -> int:
    """Every copy of the numbers is what the oracle says, and the audit agrees; return the repeated alerts."""
    verdict = judge(settings, BUDGETS)
    assert verdict.problems == []
    report = run_audit(settings)
    assert report.equal, report.differences[:5]
    return verdict.repeated_alerts


def lose(running: Stack, table: str) -> None:
    """Delete a changelog of the meter, and make an empty topic of that name."""
    settings = running.settings
    name = changelog_name(settings.meter_id, table)
    broker = reach(settings.kafka)
    broker.admin.delete_topics([name])[name].result(30)
    while name in reach(settings.kafka).metadata.topics:
        threading.Event().wait(0.1)
    ensure_topics(reach(settings.kafka), settings.topic_plans())


@pytest.mark.slow
def test_the_work_directories_of_the_workers_hold_nothing_of_worth(stack: Start, tmp_path: Path) -> None:
    with stack() as running:
        set_budgets(running.settings)
        feed(running, 1)
        wait_until_settled(running.settings, SETTLE_SECONDS)
    for name in ("meter-1", "meter-2", "sink-1"):
        shutil.rmtree(tmp_path / name)

    with stack() as running:
        feed(running, 2)
        wait_until_settled(running.settings, SETTLE_SECONDS)

        check_everything(running.settings)


@pytest.mark.slow
def test_a_lost_changelog_is_noticed_and_rebuilt_from_clickhouse(stack: Start) -> None:
    seeds = count(1)
    with stack(meters=0, sinks=0) as servers:
        settings, environment = servers.settings, servers.environment
        with stack(servers=servers) as running:
            set_budgets(settings)
            feed(running, next(seeds))
            wait_until_settled(settings, SETTLE_SECONDS)

        # One after the other on the same data: what was rebuilt is what the next loss takes.
        for tables in (("spend",), ("budgets",), ("spend", "budgets")):
            # The meter goes on alone: what it publishes now, ClickHouse does not have when the state is lost.
            with stack(sinks=0, servers=servers) as running:
                feed(running, next(seeds))
                wait_for_the_meter(running)

            for table in tables:
                lose(servers, table)
            running = stack(servers=servers)
            with pytest.raises(
                ServiceUnavailableError, match=r"the state is lost: .* run `tokentide .* rebuild`"
            ):
                running.start()

            preview = run("rebuild", "--dry-run", "--json", environment=environment)
            rebuilt = run("rebuild", "--wait", "30", environment=environment)
            again = run("rebuild", environment=environment)
            assert (preview.code, preview.err) == (0, ""), tables
            assert (rebuilt.code, rebuilt.err) == (0, ""), tables
            assert rebuilt.out.count("rebuilt  ") == 4 * len(tables), tables
            assert (again.code, again.out) == (2, ""), tables
            assert "Nothing is lost" in again.err

            with stack(servers=servers) as running:
                feed(running, next(seeds))
                wait_until_settled(settings, SETTLE_SECONDS)

                check_everything(settings)


@pytest.mark.slow
def test_a_stack_that_is_stopped_three_times_under_traffic_forgets_nothing(stack: Start) -> None:
    for seed in (1, 2, 3):
        with stack() as running:
            set_budgets(running.settings)
            feed(running, seed, 3000, per_second=1500.0)

    with stack() as running:
        feed(running, 4, 1000)
        wait_until_settled(running.settings, SETTLE_SECONDS)

        check_everything(running.settings)
