"""How long a meter takes to recover its state from the changelogs, on real Apache Kafka.

    .venv/bin/python benchmarks/recovery.py [--entities 100000] [--hours 24] [--partitions 4] [--json]

Every entity has used something in each of so many hours of one day, so it has that day and that month too; its events
are all in one partition, as those of a user are. Kafka is warm, the meter is a new process with an empty directory.

Inside the clock: from the start of the process until it says that it is ready (all state is recovered), and until a
total that an event has changed stands in `usage.spend`: the event was waiting. CPU is what the process has used until
then.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from tokentide.console.broker import reach
from tokentide.console.kafka import KafkaCluster
from tokentide.console.program import Program
from tokentide.console.settings import ConsoleSettings
from tokentide.console.supervisor import Supervisor
from tokentide.console.topics import ensure_topics
from tokentide.schemas import KafkaSettings, Period, changelog_name, period_start
from tokentide.streams.day import Fence, day_record, fence_record
from tokentide.streams.entity import Entity, Partial
from tokentide.streams.partition import entity_key, entity_partition
from tokentide.streams.progress import POSITION_KEY, Progress
from tokentide.streams.total import Total

DAY = period_start(Period.DAY, int(time.time()))
StateRecord = tuple[int, bytes, bytes]


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokentide-recovery-") as directory:
        path = Path(directory)
        with KafkaCluster(path / "kafka") as cluster:
            settings = ConsoleSettings(kafka=KafkaSettings(cluster.bootstrap), partitions=chosen.partitions)
            ensure_topics(reach(settings.kafka), settings.topic_plans())
            written = write_state(settings, chosen.entities, chosen.hours)
            result = vars(chosen) | {"changelogs_mb": round(written / 1e6)} | recover(settings, path)
    del result["json"]
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:24} {value}")


def spend_records(entities: int, hours: int, partitions: int) -> Iterator[StateRecord]:
    """The changelog of `spend`."""
    for number in range(entities):
        used = {
            DAY + hour * 3600: Total(3, 1000 + number, 50 + hour, 123_456_789_012, 0) for hour in range(hours)
        }
        yield number % partitions, *day_record("user", f"user-{number:06d}", DAY, -1, used)
    for partition in range(partitions):
        yield partition, *fence_record(Fence(-1, 0))


def budget_records(entities: int, partitions: int) -> Iterator[StateRecord]:
    """The changelog of `budgets`."""
    for number in range(entities):
        key = entity_key("user", f"user-{number:06d}")
        entity = Entity()
        for period in (Period.DAY, Period.MONTH):
            partial = Partial(0, 123_456_789_012, 25_000, 0)
            entity.put((period, period_start(period, DAY)), (number % partitions, ""), partial)
        yield entity_partition(key, partitions), key.encode(), entity.record()
    for partition in range(partitions):
        yield partition, POSITION_KEY, Progress(partitions, position=0).record()


def write_state(settings: ConsoleSettings, entities: int, hours: int) -> int:
    """Write both changelogs and one event a partition; return the bytes of the state."""
    producer = Producer({**settings.kafka.librdkafka(), "linger.ms": 20, "compression.type": "lz4"})
    written = 0
    for table, records in (
        ("spend", spend_records(entities, hours, settings.partitions)),
        ("budgets", budget_records(entities, settings.partitions)),
    ):
        topic = changelog_name(settings.meter_id, table)
        for number, (partition, key, value) in enumerate(records):
            written += len(key) + len(value)
            producer.produce(topic, value, key, partition=partition)
            producer.poll(0)
            if number % 10_000 == 0:
                producer.flush(60)
    for partition in range(settings.partitions):
        event = {
            "event_id": f"e-{partition}",
            "timestamp": datetime.now(UTC).isoformat(),
            "user_id": f"user-{partition:06d}",
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 1,
        }
        producer.produce(settings.topics.events, json.dumps(event), partition=partition)
    assert producer.flush(60) == 0
    return written


def recover(settings: ConsoleSettings, path: Path) -> dict[str, Any]:
    """Start the meter and look."""
    meter = Program(
        "meter-1",
        [sys.executable, "-m", "tokentide.console.cli", "worker", "meter"],
        environment={
            **os.environ,
            **settings.environment(),
            "PYTHONUNBUFFERED": "1",
            "TOKENTIDE_WORK_DIR": str(path / "meter"),
        },
        log_path=path / "meter.log",
        directory=path,
        ready_line="ready",
    )
    reader = Consumer({**settings.kafka.librdkafka(), "group.id": "benchmark"})
    partitions = range(settings.partitions)
    reader.assign([TopicPartition(settings.topics.spend, partition, 0) for partition in partitions])
    reader.poll(1)
    with Supervisor() as supervisor:
        started = time.monotonic()
        supervisor.launch(meter)
        supervisor.wait_ready(["meter-1"], timeout_seconds=300)
        ready = time.monotonic() - started
        counted = set[str]()
        while len(counted) < len(partitions):
            message = reader.poll(0.1)
            if message is not None and message.error() is None:
                record = json.loads(message.value() or b"")
                if record.get("scope") == "user":
                    counted.add(record["scope_id"])
        done = time.monotonic() - started
        (status,) = supervisor.statuses()
        used = psutil.Process(status.pid).cpu_times()
    reader.close()
    return {
        "seconds_to_ready": round(ready, 1),
        "seconds_to_first_total": round(done, 1),
        "cpu_seconds": round(used.user + used.system, 1),
        "rss_mb": round(status.rss_bytes / 1e6),
    }


if __name__ == "__main__":
    main()
