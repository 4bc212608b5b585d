"""Kafka is away for some minutes, the service is killed twice meanwhile, and no accepted event may be missing.

    .venv/bin/python benchmarks/outage.py [--minutes 10] [--rate 1000] [--json]

A real Apache Kafka is killed. A service tracks events at the rate, with the default settings,
except that 20,000 events fit into librdkafka instead of 100,000, so that most are read back from disk. It is killed
with SIGKILL at a third and at two thirds of the outage and started again. Then Kafka comes back, and the topic is
read until nothing is waiting. Checked: the ids for which `track()` returned True are the ids in the topic. Printed:
how many were there twice (consumers drop them by id), how long the delivery took after the return, how long
`track()` took on the wall clock of its caller.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from figures import percentiles
from load import event

from tokentide.console.kafka import KafkaCluster
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings

_TOPIC = "benchmark.outage"
_USERS = 1_000
_START_SECONDS = 30.0
_DELIVERY_SECONDS = 600.0


def main() -> None:
    """Run the outage, check and print; or, with `--service`, be the service."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--rate", type=int, default=1_000)
    options.add_argument("--json", action="store_true")
    options.add_argument(
        "--service", nargs=4, metavar=("BROKER", "DIR", "NAME", "SECONDS"), help=argparse.SUPPRESS
    )
    chosen = options.parse_args()
    if chosen.service:
        broker, folder, name, seconds = chosen.service
        serve(broker, Path(folder), name, float(seconds), chosen.rate)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), chosen.minutes * 60, chosen.rate)
    print(
        json.dumps(result) if chosen.json else "\n".join(f"{key:24} {each}" for key, each in result.items())
    )


def measure(folder: Path, seconds: float, rate: int) -> dict[str, Any]:
    """Return the figures. Raises RuntimeError when an accepted event is missing."""
    with KafkaCluster(folder / "kafka") as cluster:
        broker = cluster.bootstrap
        admin = AdminClient({"bootstrap.servers": broker})
        admin.create_topics([NewTopic(_TOPIC, 8)])[_TOPIC].result()
        del admin  # it would complain of the outage
        (node,) = cluster.pids
        cluster.kill(node)
        for name in ("first", "second"):
            service = run(broker, folder, name, seconds / 3, rate)
            service.kill()
            service.wait()
        last = run(broker, folder, "last", seconds / 3, rate)
        cluster.restart(node)
        back = time.monotonic()
        if last.wait(_DELIVERY_SECONDS) != 0:
            raise RuntimeError("the last service did not deliver everything")
        took = time.monotonic() - back
        found = ids(broker)
    accepted = {line for path in folder.glob("*.ids") for line in path.read_text().split("\n")[:-1]}
    missing = accepted - found.keys()
    if missing:
        raise RuntimeError(f"{len(missing)} of {len(accepted)} accepted events are not in Kafka")
    durations = [float(line) for path in folder.glob("*.us") for line in path.read_text().split()]
    return {
        "minutes": seconds / 60,
        "events_accepted": len(accepted),
        "events_missing": len(missing),
        "events_twice": sum(found.values()) - len(found),
        "delivery_seconds": round(took, 1),
        **percentiles("us", durations, 1),
    }


def run(broker: str, folder: Path, name: str, seconds: float, rate: int) -> "subprocess.Popen[bytes]":
    """Start a service and return it when it has tracked for so long. Raises RuntimeError when it ends before."""
    arguments = ["--rate", str(rate), "--service", broker, str(folder), name, str(seconds)]
    service = subprocess.Popen([sys.executable, __file__, *arguments])
    deadline = time.monotonic() + _START_SECONDS + seconds * 3
    while not (folder / f"{name}.us").exists():
        if service.poll() is not None or time.monotonic() > deadline:
            service.kill()
            service.wait()
            raise RuntimeError(f"the service {name} ended, or hung, with {service.returncode}")
        time.sleep(0.05)
    return service


def serve(broker: str, folder: Path, name: str, seconds: float, rate: int) -> None:
    """Track at the rate, write down what was accepted, then wait until everything is delivered."""
    settings = ProducerSettings(
        kafka=KafkaSettings(broker=broker), topic=_TOPIC, spool_dir=str(folder / "spool"), queue_events=20_000
    )
    durations = []
    producer = UsageProducer(settings)
    with (folder / f"{name}.ids").open("ab", buffering=0) as accepted:
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            ahead = started + number / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            fields = event(number, _USERS)
            before = time.perf_counter_ns()
            kept = producer.track(event_id=f"{name}-{number}", **fields)
            durations.append(time.perf_counter_ns() - before)
            if kept:
                accepted.write(f"{name}-{number}\n".encode())
    hidden = folder / f"{name}.new"
    hidden.write_text("\n".join(str(each / 1000) for each in durations))
    hidden.rename(folder / f"{name}.us")
    is_done = producer.flush(_DELIVERY_SECONDS) == 0 and producer.recover(_DELIVERY_SECONDS)
    producer.close(0)
    sys.exit(0 if is_done else 1)


def ids(broker: str) -> Counter[str]:
    """Return how often each event is in the topic."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "outage", "enable.partition.eof": True})
    partitions = consumer.list_topics(_TOPIC, timeout=30).topics[_TOPIC].partitions
    consumer.assign([TopicPartition(_TOPIC, each, 0) for each in partitions])
    found = Counter[str]()
    ended = set[int | None]()
    while len(ended) < len(partitions):
        for message in consumer.consume(1000, 10):
            error = message.error()
            if error is None:
                found[json.loads(message.value() or b"")["event_id"]] += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise RuntimeError(error.str())
    consumer.close()
    return found


if __name__ == "__main__":
    main()
