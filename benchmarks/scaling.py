"""What an event costs the meter when there are more workers, more users, or one team that has nearly all of them.

    .venv/bin/python benchmarks/scaling.py [--events 200000] [--only NAME ...] [--json]

Each scenario has a topic of its own with 8 partitions, filled before its workers start, on one Kafka and one
ClickHouse. Inside the clock: from the moment that all workers are ready until nothing is behind, over the events that
were not committed by then. Everything of line.py's throughput is in it. `spend` and `changelog` are the records for
an event that the stage `spend` wrote.

On a machine of two cores more workers do not finish earlier; what counts is that an event costs all of them together
no more than it costs one.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from line import cpu, drain
from load import event, send
from pipeline import variables

from tokentide.console.lag import LagReader
from tokentide.console.stack import Stack
from tokentide.schemas import changelog_name

PARTITIONS = 8


@dataclass(frozen=True)
class Scenario:
    """Who sends events, and how many meters share them."""

    name: str
    meters: int = 1
    users: int = 1_000
    teams: int = 50
    hot_percent: int = 0
    """So much of all events belongs to one team."""


@dataclass(frozen=True)
class Cost:
    """What came out of a scenario."""

    scenario: str
    meter_us_per_event: float
    events_per_second: int
    meter_rss_mb: int
    """Of the largest of the meters, at the end."""
    spend_records_per_event: float
    changelog_records_per_event: float


SCENARIOS = (
    Scenario("1 worker"),
    Scenario("2 workers", meters=2),
    Scenario("4 workers", meters=4),
    Scenario("one team has 90 %", hot_percent=90),
    Scenario("100,000 users", users=100_000, teams=1_000),
)


def main() -> None:
    """Run the scenarios one after the other; print a table or JSON."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--only", nargs="+", metavar="NAME", choices=[each.name for each in SCENARIOS])
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    costs = []
    with tempfile.TemporaryDirectory(prefix="tokentide-scaling-") as path:
        servers = Stack(Path(path) / "servers", meters=0, sinks=0, partitions=PARTITIONS)
        try:
            servers.start_servers()
            for number, scenario in enumerate(SCENARIOS):
                if not chosen.only or scenario.name in chosen.only:
                    costs.append(run(scenario, servers, Path(path) / f"scaling_{number}", chosen.events))
                    if not chosen.json:
                        print(_line(costs[-1]), flush=True)
        finally:
            servers.stop()
    if chosen.json:
        print(json.dumps([asdict(each) for each in costs], indent=2))


def run(scenario: Scenario, servers: Stack, folder: Path, events: int) -> Cost:
    """Fill a topic, start the workers, and let them work it off."""
    stack = Stack(
        folder,
        broker=servers.bootstrap,
        clickhouse_url=servers.clickhouse_url,
        meters=scenario.meters,
        sinks=1,
        partitions=PARTITIONS,
        variables=variables(folder.name, f"{folder.name}.events"),
    )
    meters = [f"meter-{number + 1}" for number in range(scenario.meters)]
    topics = stack.settings.topics
    try:
        stack.start_servers()
        send(servers.bootstrap, topics.events, _events(scenario, events))
        stack.start_workers()
        stack.wait_ready()
        with LagReader(stack.settings) as lag:
            left = lag.read()[topics.events]
        used = sum(cpu(stack, name) for name in meters)
        seconds = drain(stack.settings)["meter"]
        used = sum(cpu(stack, name) for name in meters) - used
        changelog = changelog_name(stack.settings.meter_id, "spend")
        return Cost(
            scenario.name,
            round(used / left * 1e6, 1),
            round(left / seconds),
            round(max(stack.processes[name].rss_bytes for name in meters) / 1e6),
            round(_records(servers.bootstrap, topics.spend) / events, 2),
            round(_records(servers.bootstrap, changelog) / events, 2),
        )
    finally:
        stack.stop()


def _events(scenario: Scenario, count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        made = {**event(number, scenario.users), "timestamp": datetime.now(UTC)}
        made["team_id"] = f"team-{number * 7919 % scenario.users % scenario.teams:04d}"
        if number % 100 < scenario.hot_percent:
            made["team_id"] = "team-hot"
        yield made


def _records(broker: str, topic: str) -> int:
    """Return how many records a topic has had."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "scaling", "log_level": 0})
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends: list[int] = [consumer.get_watermark_offsets(place, timeout=30)[1] for place in places]
        return sum(ends)
    finally:
        consumer.close()


def _line(cost: Cost) -> str:
    return (
        f"{cost.scenario:20} {cost.meter_us_per_event:6.1f} us an event  {cost.events_per_second:7,} events/s  "
        f"{cost.meter_rss_mb:4} MB  {cost.spend_records_per_event:.2f} spend and "
        f"{cost.changelog_records_per_event:.2f} changelog records an event"
    )


if __name__ == "__main__":
    main()
