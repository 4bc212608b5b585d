"""Servers that stay up for many schedules, each of which gets a pipeline of its own."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faults.brokers import Brokers
from faults.proxy import FaultProxy
from faults.run import Outcome, Run
from faults.schedule import Schedule

from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.schemas import TopicNames
from tokentide.sinks import connect

__all__ = ["Arena"]

PARTITIONS = 6


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
        run = Run(
            schedule, self._folder / name, self._settings(name), self._brokers, self._clickhouse, self._proxy
        )
        outcome = Outcome(schedule)
        try:
            run.play(outcome)
        except (
            Exception
        ) as error:  # whatever it was, the seed was not exact; the next one has another pipeline
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

    def _clean(self, run: Run) -> None:
        names = [plan.name for plan in run.settings.topic_plans()]
        with suppress(KafkaException):
            admin = AdminClient({"bootstrap.servers": self._brokers.bootstrap, "log_level": 0})
            for answer in admin.delete_topics(names).values():
                answer.result(20)
        client = connect(run.settings.clickhouse, database="default")
        client.command(f"DROP DATABASE IF EXISTS {run.settings.clickhouse.database}")
        client.close()
        shutil.rmtree(run.folder, ignore_errors=True)
