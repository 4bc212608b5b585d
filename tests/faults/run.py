"""One schedule, played once on the servers of an arena."""

import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from faults.brokers import Brokers
from faults.compaction import COMPACTING, ROUND_SECONDS, wait_until_compacted
from faults.disk import FullDisks
from faults.ledger import Ledger
from faults.pipeline import Pipeline
from faults.proxy import FaultProxy
from faults.schedule import CLICKHOUSE, METERS, NETWORK, PRODUCER, SINKS, Fault, Schedule
from faults.tariff import Tariff
from support.oracle import expect, read_topic
from support.traffic import HARD, Sent, send, traffic
from support.verdict import judge

from tokentide.console.broker import reach
from tokentide.console.lag import wait_until_settled
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.console.topics import ensure_topics
from tokentide.schemas import ServiceUnavailableError, changelog_name
from tokentide.sinks.migration import migrate

__all__ = ["Outcome", "Run"]

SETTLE_SECONDS = 180.0
PRODUCED_SECONDS = 300.0
RUNNING_SECONDS = 120.0
TAIL_EVENTS = 300
TRICKLE_EVENTS = 60
TESTS = Path(__file__).parent.parent


@dataclass
class Outcome:
    """What became of a schedule."""

    schedule: Schedule
    problems: list[str] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    """Faults by name; one that found nothing to hit, for it was away already, is not counted."""
    seconds: float = 0.0
    restarts: int = 0
    repeated_alerts: int = 0
    duplicates: int = 0
    rejected: int = 0
    late: int = 0
    own_prices: int = 0
    """Rows that were priced when own prices were known."""
    struck_at: Counter[str] = field(default_factory=Counter)
    """How often a kill met a moment that matters."""

    def __str__(self) -> str:
        verdict = "exact" if not self.problems else "WRONG: " + " | ".join(self.problems)
        return (
            f"seed {self.schedule.seed}: {verdict} ({self.schedule.events} events, {self.duplicates} duplicates, "
            f"{self.rejected} rejected, {self.late} late, {self.own_prices} under own prices, "
            f"{self.met.total()} faults, {self.restarts} restarts, "
            f"{self.repeated_alerts} repeated alerts, {self.seconds:.0f} s)"
        )


class Run:
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
        self._tariff = Tariff(settings, self._end)
        self._disks = FullDisks()
        # The workers meet ClickHouse through the proxy; whoever judges does not.
        workers = replace(settings, clickhouse=replace(settings.clickhouse, url=proxy.url))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKENTIDE_")}
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        variables = {**inherited, "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "6", "PYTHONPATH": path}
        round_seconds = ROUND_SECONDS if schedule.compacts else None
        self.pipeline = Pipeline(folder, workers, variables, schedule.clocks, round_seconds)

    def play(self, outcome: Outcome) -> None:
        """Start, disturb, let rest, send a tail on what was recovered, and judge."""
        self._start()
        self._disturb(outcome)
        self._rest()
        self._send_tail()
        self._settle()
        verdict = judge(self.settings, self._ledger.current, self._ledger.superseded)
        outcome.problems += verdict.problems
        outcome.repeated_alerts = verdict.repeated_alerts
        outcome.duplicates, outcome.rejected = verdict.expected.duplicates, len(verdict.expected.rejected)
        outcome.late, outcome.own_prices = verdict.late, verdict.own_prices.total()
        if self._tariff.written and not verdict.own_prices[self._tariff.written]:
            outcome.problems.append(f"prices: no row knew all {self._tariff.written} of them")

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

    def _disturb(self, outcome: Outcome) -> None:
        """Send the traffic and let the faults happen beside it."""
        before = Counter(self._proxy.met)
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
        self.pipeline.add(PRODUCER, ["-m", "faults.produce", *options], "sent", {})
        _wait(progress.exists, PRODUCED_SECONDS, "nothing was produced")
        began = time.monotonic()
        with ThreadPoolExecutor() as beside:
            compactions = []
            for fault in self._schedule.faults:
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                if fault.kind == "compact":
                    compactions.append(beside.submit(self._compact))
                self._note_moment(fault, outcome)
                if self._strike(fault):
                    outcome.met[fault.name] += 1
            self.pipeline.wait_thawed()
            self._disks.wait()
            self._brokers.wait()
            for compaction in compactions:
                outcome.problems += compaction.result()
        _wait(lambda: self.pipeline.is_running(PRODUCER), PRODUCED_SECONDS, "not everything was produced")
        self.pipeline.remove(PRODUCER)
        for kind in self._proxy.met - before:
            outcome.met[f"{kind} {CLICKHOUSE}"] += 1

    def _strike(self, fault: Fault) -> bool:
        """Do it; return whether it hit something, which of the network only the proxy knows later."""
        if fault.kind in NETWORK:
            self._proxy.trouble(fault.kind, fault.seconds, int(fault.detail or 500))
            return False
        if fault.kind in ("kill", "term", "freeze"):
            return self._signal(fault)
        if fault.kind == "add":
            self.pipeline.add_worker(fault.target)
        elif fault.kind == "remove":
            self.pipeline.remove(fault.target)
        elif fault.kind == "elect":
            self._brokers.elect()
        elif fault.kind == "reassign":
            names = [plan.name for plan in self.settings.topic_plans()]
            return self._brokers.reassign(names, int(fault.detail))
        elif fault.kind == "full":
            return self._disks.fill(lambda: self._pid(fault.target), fault.seconds)
        elif fault.kind == "price":
            self._tariff.change(fault.target, fault.detail)
        elif fault.kind == "budget":
            self._ledger.change(fault.target, fault.detail)
        return True

    def _signal(self, fault: Fault) -> bool:
        if fault.target.startswith("kafka"):
            return self._brokers.strike(fault.kind, int(fault.target.partition("-")[2]), fault.seconds)
        if fault.target != CLICKHOUSE:
            return self.pipeline.strike(fault.kind, fault.target, fault.seconds)
        is_there = CLICKHOUSE in self._clickhouse.processes
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "freeze": signal.SIGSTOP}[fault.kind]
        self._clickhouse.kill(CLICKHOUSE, number)
        if fault.kind == "freeze":
            threading.Timer(fault.seconds, self._clickhouse.kill, (CLICKHOUSE, signal.SIGCONT)).start()
        return is_there

    def _pid(self, name: str) -> int | None:
        if name != CLICKHOUSE:
            return self.pipeline.pid(name)
        process = self._clickhouse.processes.get(CLICKHOUSE)
        return None if process is None else process.pid

    def _note_moment(self, fault: Fault, outcome: Outcome) -> None:
        """Note whether a kill meets a worker that is recovering, or an insert that is on its way."""
        if fault.kind not in ("kill", "term"):
            return
        if fault.target.startswith("meter") and self.pipeline.pid(fault.target) is not None:
            when = "ready" if self.pipeline.is_running(fault.target) else "starting or recovering"
            outcome.struck_at[f"meter {when}"] += 1
        if fault.target.startswith(("sink", CLICKHOUSE)) and self._proxy.inserting:
            outcome.struck_at["sink or ClickHouse inside an insert"] += 1

    def _compact(self) -> list[str]:
        """Wait for a compaction, and make every meter recover from what it left."""
        names = [changelog_name(self.settings.meter_id, stage) for stage in ("spend", "budgets")]
        seeds = itertools.count(2_000_000_000 + self._schedule.seed * 100)

        def trickle() -> None:
            """A few events of many users, so that every partition of the changelogs gets records."""
            events = traffic(TRICKLE_EVENTS, seed=next(seeds), end=self._end, shares=HARD)
            send(events, self.settings.kafka.broker, self.settings.topics.events)

        problems = wait_until_compacted(self.settings.kafka.broker, names, trickle)
        for name in self.pipeline.workers:
            if name.startswith("meter"):
                self.pipeline.strike("kill", name)
        return problems

    def _rest(self) -> None:
        """Return when every process is up again and has dealt with everything."""
        try:
            _wait(
                lambda: all(map(self.pipeline.is_running, self.pipeline.workers)),
                RUNNING_SECONDS,
                "not every worker came back",
            )
        except ServiceUnavailableError as error:
            raise ServiceUnavailableError(f"{error}: {self.pipeline.away()}") from error
        self._settle()

    def _settle(self) -> None:
        """Return when nothing is behind; the error says who printed what."""
        try:
            wait_until_settled(self.settings, SETTLE_SECONDS)
        except ServiceUnavailableError as error:
            raise ServiceUnavailableError(f"{error} {self.pipeline.last_words()}") from error

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
