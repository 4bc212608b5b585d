"""What the whole line costs and how long it takes, on real Apache Kafka and the embedded ClickHouse.

    .venv/bin/python benchmarks/line.py [--events 200000] [--rate 2000] [--seconds 20] [--json]

Inside the clock:
* throughput: one meter and one sink start on a topic that holds all events already; from the moment that both are
  ready until nothing is behind. CPU is what each process used in that time.
* latency: see latency.py.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from latency import latency
from load import fill

from tokentide.console.lag import LagReader
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack

WORKERS = ("meter-1", "sink-1")


def main() -> None:
    """Measure, and print a table or JSON."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--events", type=int, default=200_000)
    options.add_argument("--users", type=int, default=1_000)
    options.add_argument("--rate", type=int, default=2_000)
    options.add_argument("--seconds", type=int, default=20)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), meters=1, sinks=1, partitions=4)
        try:
            stack.start_servers()
            result = throughput(stack, chosen.events, chosen.users)
            result |= latency(stack, chosen.rate, chosen.seconds, chosen.users)
            result["rss_mb"] = {
                name: round(process.rss_bytes / 1e6) for name, process in stack.processes.items()
            }
        finally:
            stack.stop()
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:34} {value}")


def throughput(stack: Stack, events: int, users: int) -> dict[str, Any]:
    """Fill the topic, start the workers, and wait until nothing is behind."""
    fill(stack.bootstrap, stack.settings.topics.events, events, 0, users)
    stack.start_workers()
    stack.wait_ready()
    before = {name: cpu(stack, name) for name in WORKERS}
    done = drain(stack.settings)
    after = {name: cpu(stack, name) for name in WORKERS}
    return {
        "events": events,
        "users": users,
        "meter_events_per_second": round(events / done["meter"]),
        "sink_events_per_second": round(events / done["all"]),
        "meter_cpu_us_per_event": round((after["meter-1"] - before["meter-1"]) / events * 1e6, 1),
        "sink_cpu_us_per_event": round((after["sink-1"] - before["sink-1"]) / events * 1e6, 1),
    }


def drain(settings: ConsoleSettings) -> dict[str, float]:
    """Return the seconds until the meter, and until everybody, is through."""
    started = time.monotonic()
    done: dict[str, float] = {}
    with LagReader(settings) as reader:
        while "all" not in done:
            behind = reader.read()
            if not any(behind.values()):
                done["all"] = time.monotonic() - started
            if not (behind[settings.topics.events] or behind[settings.topics.spend]):
                done.setdefault("meter", time.monotonic() - started)
            time.sleep(0.02)
    return done


def cpu(stack: Stack, name: str) -> float:
    """Return the CPU seconds that a worker has used."""
    times = psutil.Process(stack.processes[name].pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
