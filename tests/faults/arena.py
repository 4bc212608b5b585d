"""The real processes that a schedule is played on: servers that stay up, and a pipeline of its own for every seed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from faults.schedule import SERVERS, Fault, Schedule
from support.traffic import send, traffic
from support.verdict import judge

from tokentide.console.budgets import new_budget, next_revision, read_budgets, write_budget
from tokentide.console.lag import wait_until_settled
from tokentide.console.program import ProgramState
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.schemas import TokentideError, TopicNames

__all__ = ["Arena", "Outcome"]

PARTITIONS = 6
SETTLE_SECONDS = 90.0
BUDGETS: list[dict[str, Any]] = [
    {"budget_id": "team-day", "scope": "team", "scope_id": "team-03", "period": "day", "unit": "usd", "limit": "5"},
    {"budget_id": "user-month", "scope": "user", "scope_id": "user-0007", "period": "month", "unit": "tokens",
     "limit": "200000"},
    {"budget_id": "model-day", "scope": "model", "scope_id": "openai/gpt-4o", "period": "day", "unit": "usd",
     "limit": "10", "thresholds": (10, 50, 100, 500)},
]  # fmt: skip


@dataclass
class Outcome:
    """What became of a schedule."""

    schedule: Schedule
    problems: list[str]
    seconds: float
    restarts: int
    repeated_alerts: int

    def __str__(self) -> str:
        verdict = "exact" if not self.problems else "WRONG: " + " | ".join(self.problems)
        return (
            f"seed {self.schedule.seed}: {verdict} ({self.schedule.events} events, "
            f"{len(self.schedule.faults)} faults, "
            f"{self.restarts} restarts, {self.repeated_alerts} repeated alerts, {self.seconds:.0f} s)"
        )


class Arena:
    """Kafka and ClickHouse, up for many schedules."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers = Stack(folder / "servers", meters=0, sinks=0, partitions=PARTITIONS)

    @contextmanager
    def open(self) -> Iterator["Arena"]:
        """Start the servers, and stop them at the end."""
        with self._servers:
            yield self

    def play(self, schedule: Schedule) -> Outcome:
        """Run a pipeline of its own through the schedule, let it come to rest, and judge it."""
        started = time.monotonic()
        pipeline = self._pipeline(schedule.seed)
        try:
            pipeline.start()
            self._set_budgets(pipeline.settings)
            self._disturb(pipeline, schedule)
            self._rest(pipeline)
            verdict = judge(pipeline.settings, BUDGETS)
            problems, repeated = verdict.problems, verdict.repeated_alerts
        except TokentideError as error:
            problems, repeated = [f"{type(error).__name__}: {error}"], 0
        restarts = sum(status.restarts for status in pipeline.statuses())
        pipeline.stop()
        return Outcome(schedule, problems, time.monotonic() - started, restarts, repeated)

    def _pipeline(self, seed: int) -> Stack:
        name = f"s{seed}-{os.getpid()}"
        topics = {
            f"TOKENTIDE_TOPIC_{field.name.upper()}": f"{name}.{field.name}" for field in fields(TopicNames)
        }
        return Stack(
            self._folder / name,
            broker=self._servers.bootstrap,
            clickhouse_url=self._servers.clickhouse_url,
            meters=3,
            sinks=2,
            partitions=PARTITIONS,
            variables={
                **os.environ,
                **topics,
                "TOKENTIDE_METER_ID": f"{name}-meter",
                "TOKENTIDE_SINK_ID": f"{name}-sink",
                "TOKENTIDE_CLICKHOUSE_DATABASE": name.replace("-", "_"),
                "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "6",
            },
        )

    def _set_budgets(self, settings: ConsoleSettings) -> None:
        for budget in BUDGETS:
            fields_of = {**budget, "limit": Decimal(budget["limit"])}
            write_budget(settings.kafka, settings.topics.budgets, new_budget(**fields_of))

    def _disturb(self, pipeline: Stack, schedule: Schedule) -> None:
        """Send the traffic and let the faults happen beside it."""
        end = datetime.now(UTC) - timedelta(minutes=5)
        events = traffic(schedule.events, seed=schedule.seed, end=end)
        producing = threading.Thread(
            target=send,
            args=(events, pipeline.bootstrap, pipeline.settings.topics.events),
            kwargs={"per_second": schedule.per_second},
        )
        began = time.monotonic()
        producing.start()
        thaws: list[threading.Timer] = []
        for fault in schedule.faults:
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            self._strike(pipeline, fault, thaws)
        producing.join()
        for thaw in thaws:
            thaw.join()

    def _strike(self, pipeline: Stack, fault: Fault, thaws: list[threading.Timer]) -> None:
        stack = self._servers if fault.target in SERVERS else pipeline
        if fault.kind == "budget":
            self._rewrite_budget(pipeline.settings)
        elif fault.kind == "freeze":
            stack.kill(fault.target, signal.SIGSTOP)
            thaw = threading.Timer(fault.seconds, stack.kill, (fault.target, signal.SIGCONT))
            thaw.start()
            thaws.append(thaw)
        else:
            stack.kill(fault.target, signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM)

    def _rewrite_budget(self, settings: ConsoleSettings) -> None:
        """Delete a budget and make it again: a new revision, whose alerts are new ones."""
        book = read_budgets(settings.kafka, settings.topics.budgets)
        known = book.budgets.get("never")
        wanted = new_budget(
            budget_id="never",
            scope="org",
            scope_id="acme",
            limit=Decimal(100_000 + (known.revision if known else 0)),
        )
        changed = next_revision(book, wanted)
        if changed is not None:
            write_budget(settings.kafka, settings.topics.budgets, changed)

    def _rest(self, pipeline: Stack) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (_all_run(self._servers) and _all_run(pipeline)):
            time.sleep(0.2)
        wait_until_settled(pipeline.settings, SETTLE_SECONDS)


def _all_run(stack: Stack) -> bool:
    return all(status.state is ProgramState.RUNNING for status in stack.statuses())
