"""What `Guard.check()` costs its caller, with 100,000 limits in its view, read from real Apache Kafka.

    .venv/bin/python benchmarks/guard.py [--broker HOST:PORT] [--limits 100000] [--checks 200000] [--json]

Inside the clock: each single call, on the wall clock of the thread that calls it, of a user, a team, a provider and a
model, with an estimate; half of the users have a budget, and all teams. The limits are published as the meter does,
before, and `load_seconds` is how long the guard takes from its start until it knows them all.

* `quiet`: nothing changes;
* `busy`: the limits of 2,000 users a second change, and the guard's thread takes them in.
"""

import argparse
import json
import logging
import threading
import time
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from broker import broker_at
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from figures import percentiles

from tokentide.producers.guard import Guard
from tokentide.producers.guard_settings import GuardSettings
from tokentide.schemas import BudgetLimit, KafkaSettings, Limits, Period, Scope, Unit

_TOPIC = "benchmark.guard"
_PARTITIONS = 8
_TEAMS = 100
_CHANGES_PER_SECOND = 2_000


def main() -> None:
    """Measure both cases, and print a table or JSON."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--broker", help="an own Kafka is started when none is given")
    options.add_argument("--limits", type=int, default=100_000)
    options.add_argument("--checks", type=int, default=200_000)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    logging.disable(logging.CRITICAL)
    with broker_at(chosen.broker) as broker:
        result = measure(broker, chosen.limits, chosen.checks)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, figures in result.items():
            print(f"{name:8} {figures}")


def measure(broker: str, limits: int, checks: int) -> dict[str, Any]:
    """Return the figures. Raises RuntimeError when the limits could not be published or read."""
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(_TOPIC, _PARTITIONS)])[_TOPIC].result()
    producer = Producer({"bootstrap.servers": broker, "queue.buffering.max.messages": 1_000_000})
    users = limits - _TEAMS
    for number in range(users):
        publish(producer, Scope.USER, f"user-{number}", version=1)
    for number in range(_TEAMS):
        publish(producer, Scope.TEAM, f"team-{number}", version=1)
    if producer.flush(60):
        raise RuntimeError("limits could not be published")
    began = time.monotonic()
    with Guard(GuardSettings(kafka=KafkaSettings(broker=broker), topic=_TOPIC)) as guard:
        if not guard.ready(120) or guard.entities != limits:
            raise RuntimeError(f"{guard.entities} of {limits} limits were read")
        loaded = time.monotonic() - began
        quiet = case(guard, users, checks)
        stop = threading.Event()
        changing = threading.Thread(target=change, args=(producer, users, stop))
        changing.start()
        busy = case(guard, users, checks)
        stop.set()
        changing.join()
    return {"limits": limits, "load_seconds": round(loaded, 1), "quiet": quiet, "busy": busy}


def case(guard: Guard, users: int, checks: int) -> dict[str, float]:
    """Return percentiles of single checks in microseconds."""
    calls = [(f"user-{number * 7919 % (2 * users)}", f"team-{number % _TEAMS}") for number in range(10_000)]
    durations = []
    for number in range(checks):
        user, team = calls[number % len(calls)]
        began = time.perf_counter_ns()
        guard.check(user, team, provider="openai", model="gpt-4o-mini", estimated_tokens=500)
        durations.append(time.perf_counter_ns() - began)
    return percentiles("us", [each / 1000 for each in durations], digits=2)


def change(producer: Producer, users: int, stop: threading.Event) -> None:
    """Publish new limits at a steady rate until told to stop."""
    version = 2
    while not stop.wait(0.05):
        for number in range(_CHANGES_PER_SECOND // 20):
            publish(producer, Scope.USER, f"user-{(version * 100 + number) % users}", version)
        producer.poll(0)
        version += 1
    producer.flush(10)


def publish(producer: Producer, scope: Scope, scope_id: str, version: int) -> None:
    """Send a record of limits as the stage `budgets` does."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    limit = BudgetLimit(
        budget_id=f"{scope}-{scope_id}",
        unit=Unit.USD if scope is Scope.USER else Unit.TOKENS,
        limit=Decimal(100_000),
        used=Decimal(version),
        left=Decimal(100_000 - version),
        exceeded=False,
        period=Period.DAY,
        period_start=today,
        until=today + timedelta(days=1),
    )
    record = Limits(
        scope=scope, scope_id=scope_id, budgets_version=0, version=version, exceeded=False, limits=(limit,)
    )
    key = f"{scope}:{scope_id}".encode()
    producer.produce(_TOPIC, record.model_dump_json().encode(), key, partition=zlib.crc32(key) % _PARTITIONS)


if __name__ == "__main__":
    main()
