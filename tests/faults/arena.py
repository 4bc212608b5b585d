"""The real processes that a schedule is played on: servers that stay up, and a pipeline of its own for every seed."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faults.brokers import Brokers
from faults.compaction import COMPACTING, wait_until_compacted
from faults.ledger import Ledger
from faults.pipeline import Pipeline
from faults.proxy import FaultProxy
from faults.schedule import CLICKHOUSE, METERS, NETWORK, PRODUCER, SINKS, Fault, Schedule
from support.oracle import expect, read_topic
from support.traffic import HARD, Sent, send, traffic
from support.verdict import judge

from tokentide.console.broker import reach
from tokentide.console.lag import wait_until_settled
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.console.topics import ensure_topics
from tokentide.schemas import ServiceUnavailableError, TokentideError, TopicNames, changelog_name
from tokentide.sinks import connect
from tokentide.sinks.migration import migrate

__all__ = ["Arena", "Outcome"]

PARTITIONS = 6
SETTLE_SECONDS = 180.0
PRODUCED_SECONDS = 300.0
RUNNING_SECONDS = 120.0
TAIL_EVENTS = 300
TESTS = Path(__file__).parent.parent


@dataclass
class Outcome:
    """What became of a schedule."""

    schedule: Schedule
    problems: list[str]
    seconds: float
    restarts: int
    repeated_alerts: int
    duplicates: int
    rejected: int

    def __str__(self) -> str:
        verdict = "exact" if not self.problems else "WRONG: " + " | ".join(self.problems)
        return (
            f"seed {self.schedule.seed}: {verdict} ({self.schedule.events} events, {self.duplicates} duplicates, "
            f"{self.rejected} rejected, {len(self.schedule.faults)} faults, {self.restarts} restarts, "
            f"{self.repeated_alerts} repeated alerts, {self.seconds:.0f} s)"
        )


class Arena:
    """Kafka of one node or three, and ClickHouse behind a network that fails; up for many schedules."""

    def __init__(self, folder: Path, nodes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._brokers = Brokers(folder / "kafka", nodes)

    @contextmanager
    def open(self) -> Iterator["Arena"]:
        """Start the servers, and stop them at the end."""
        with ExitStack() as stack:
            stack.enter_context(self._brokers.open())
            self._clickhouse = stack.enter_context(
                Stack(
                    self._folder / "servers", broker=self._brokers.bootstrap, meters=0, sinks=0, partitions=1
                )
            )
            self._proxy = stack.enter_context(FaultProxy(self._clickhouse.clickhouse_url))
            yield self

    def play(self, schedule: Schedule) -> Outcome:
        """Run a pipeline of its own through the schedule, let it come to rest, and judge it.

        What it left behind is deleted, unless it was not exact.
        """
        started = time.monotonic()
        name = f"s{schedule.seed}-{os.getpid()}"
        run = _Run(
            schedule, self._folder / name, self._settings(name), self._brokers, self._clickhouse, self._proxy
        )
        outcome = Outcome(schedule, [], 0.0, 0, 0, 0, 0)
        try:
            run.play(outcome)
        except TokentideError as error:
            outcome.problems.append(f"{type(error).__name__}: {error}")
        finally:
            outcome.restarts = run.pipeline.restarts
            run.pipeline.stop()
        if not outcome.problems:
            self._clean(run)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _settings(self, name: str) -> ConsoleSettings:
        topics = TopicNames(**{field.name: f"{name}.{field.name}" for field in fields(TopicNames)})
        base = ConsoleSettings.from_env(
            {}, broker=self._brokers.bootstrap, clickhouse_url=self._clickhouse.clickhouse_url
        )
        return replace(
            base,
            topics=topics,
            meter_id=f"{name}-meter",
            sink_id=f"{name}-sink",
            partitions=PARTITIONS,
            clickhouse=replace(base.clickhouse, database=name.replace("-", "_")),
        )

    def _clean(self, run: "_Run") -> None:
        names = [plan.name for plan in run.settings.topic_plans()]
        with suppress(KafkaException):
            admin = AdminClient({"bootstrap.servers": self._brokers.bootstrap, "log_level": 0})
            for answer in admin.delete_topics(names).values():
                answer.result(20)
        client = connect(run.settings.clickhouse, database="default")
        client.command(f"DROP DATABASE IF EXISTS {run.settings.clickhouse.database}")
        client.close()
        shutil.rmtree(run.folder, ignore_errors=True)


class _Run:
    """One schedule, played once."""

    def __init__(
        self,
        schedule: Schedule,
        folder: Path,
        settings: ConsoleSettings,
        brokers: Brokers,
        clickhouse: Stack,
        proxy: FaultProxy,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._schedule = schedule
        self._brokers = brokers
        self._clickhouse = clickhouse
        self._proxy = proxy
        self._end = datetime.now(UTC) - timedelta(minutes=5)
        self._ledger = Ledger(settings)
        # The workers meet ClickHouse through the proxy; whoever judges does not.
        workers = replace(settings, clickhouse=replace(settings.clickhouse, url=proxy.url))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKENTIDE_")}
        self.pipeline = Pipeline(folder, workers, {**inherited, "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "6"})

    def play(self, outcome: Outcome) -> None:
        """Start, disturb, let rest, send a tail on what was recovered, and judge."""
        self._start()
        outcome.problems += self._disturb()
        self._rest()
        self._send_tail()
        wait_until_settled(self.settings, SETTLE_SECONDS)
        verdict = judge(self.settings, self._ledger.current, self._ledger.superseded)
        outcome.problems += verdict.problems
        outcome.repeated_alerts = verdict.repeated_alerts
        outcome.duplicates, outcome.rejected = verdict.expected.duplicates, len(verdict.expected.rejected)

    def _start(self) -> None:
        plans = self.settings.topic_plans()
        if self._schedule.compacts:
            plans = [
                replace(plan, config={**plan.config, **COMPACTING})
                if plan.config["cleanup.policy"] == "compact"
                else plan
                for plan in plans
            ]
        ensure_topics(reach(self.settings.kafka), plans)
        migrate(self.settings.clickhouse)
        self._ledger.write_all()
        for name in (*METERS, *SINKS):
            self.pipeline.add_worker(name)
        self.pipeline.wait_ready()

    def _disturb(self) -> list[str]:
        """Send the traffic and let the faults happen beside it; returns what kept one from happening."""
        problems = []
        progress = self.folder / "progress"
        arguments = {
            "broker": self.settings.kafka.broker,
            "topic": self.settings.topics.events,
            "seed": self._schedule.seed,
            "events": self._schedule.events,
            "per-second": self._schedule.per_second,
            "end": self._end.isoformat(),
            "progress": progress,
        }
        options = [f"--{name}={value}" for name, value in arguments.items()]
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        self.pipeline.add(PRODUCER, ["-m", "faults.produce", *options], "sent", {"PYTHONPATH": path})
        _wait(progress.exists, PRODUCED_SECONDS, "nothing was produced")
        began = time.monotonic()
        for fault in self._schedule.faults:
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            if fault.kind == "compact":
                problems += self._compact()
            else:
                self._strike(fault)
        self.pipeline.wait_thawed()
        self._brokers.wait()
        _wait(lambda: self.pipeline.is_running(PRODUCER), PRODUCED_SECONDS, "not everything was produced")
        self.pipeline.remove(PRODUCER)
        return problems

    def _strike(self, fault: Fault) -> None:
        if fault.kind == "add":
            self.pipeline.add_worker(fault.target)
        elif fault.kind == "remove":
            self.pipeline.remove(fault.target)
        elif fault.kind == "elect":
            self._brokers.elect()
        elif fault.kind == "budget":
            self._ledger.change(fault.target, fault.detail)
        elif fault.kind in NETWORK:
            self._proxy.trouble(fault.kind, fault.seconds, int(fault.detail or 500))
        elif fault.target.startswith("kafka"):
            self._brokers.strike(fault.kind, int(fault.target.partition("-")[2]), fault.seconds)
        elif fault.target == CLICKHOUSE:
            self._strike_clickhouse(fault)
        else:
            self.pipeline.strike(fault.kind, fault.target, fault.seconds)

    def _strike_clickhouse(self, fault: Fault) -> None:
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "freeze": signal.SIGSTOP}[fault.kind]
        self._clickhouse.kill(CLICKHOUSE, number)
        if fault.kind == "freeze":
            thaw = threading.Timer(fault.seconds, self._clickhouse.kill, (CLICKHOUSE, signal.SIGCONT))
            thaw.start()

    def _compact(self) -> list[str]:
        """Wait for a compaction, and make every meter recover from what it left."""
        names = [changelog_name(self.settings.meter_id, stage) for stage in ("spend", "budgets")]
        problems = wait_until_compacted(self.settings.kafka.broker, names)
        for name in self.pipeline.workers:
            if name.startswith("meter"):
                self.pipeline.strike("kill", name)
        return problems

    def _rest(self) -> None:
        """Return when every process is up again and has dealt with everything."""
        _wait(
            lambda: all(map(self.pipeline.is_running, self.pipeline.workers)),
            RUNNING_SECONDS,
            "not every worker came back",
        )
        wait_until_settled(self.settings, SETTLE_SECONDS)

    def _send_tail(self) -> None:
        """Send events that rest on the state that was recovered; and amend what a new revision does not look at."""
        broker, events = self.settings.kafka.broker, self.settings.topics.events
        seed = -self._schedule.seed - 1
        send(traffic(TAIL_EVENTS, seed=seed, end=self._end, shares=HARD), broker, events)
        if self._ledger.superseded:
            self._ledger.wait_until_known()
            amendments = self._ledger.amendments(expect(read_topic(broker, events)))
            send(
                [Sent(event["event_id"].encode(), json.dumps(event).encode(), False) for event in amendments],
                broker,
                events,
            )


def _wait(is_true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise ServiceUnavailableError(f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.1)
