"""What the whole line costs and how long it takes, on real Apache Kafka and the embedded ClickHouse.

    .venv/bin/python benchmarks/line.py [--events 200000] [--rate 2000] [--seconds 20] [--json]

Inside the clock:
* throughput: one meter and one sink start on a topic that holds all events already; from the moment that both are
  ready until nothing is behind. CPU is what each process used in that time.
* latency: events at a steady rate; four times a second one of a model that nobody knows, so that it raises an alert
  (`unpriced_model`) of its own. To the alert: from track() until a consumer has the record. To the row: from track()
  until a query sees it; the query is asked again every 20 ms.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer

from tokentide.console.lag import LagReader
from tokentide.console.settings import ConsoleSettings
from tokentide.console.stack import Stack
from tokentide.producers import UsageProducer
from tokentide.sinks import connect

MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-flash"),
)
CANARIES_A_SECOND = 4
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


def event(number: int, users: int) -> dict[str, Any]:
    """Some 20 fields, 450 bytes of JSON."""
    provider, model = MODELS[number % len(MODELS)]
    return {
        "user_id": f"user-{number * 7919 % users:06d}",
        "team_id": f"team-{number * 7919 % users % 50:02d}",
        "org_id": "acme",
        "session_id": f"session-{number % 5000}",
        "operation": ("search", "summary", "chat")[number % 3],
        "provider": provider,
        "model": model,
        "request_id": f"req_{number:024d}",
        "service": "gateway",
        "environment": "prod",
        "input_tokens": 200 + number % 4000,
        "output_tokens": 20 + number % 600,
        "cache_read_tokens": number % 150,
        "latency_ms": 812.0,
        "ttft_ms": 180.0,
        "finish_reason": "stop",
        "stream": True,
        "tags": {"env": "prod", "feature": "search"},
    }


def throughput(stack: Stack, events: int, users: int) -> dict[str, Any]:
    """Fill the topic, start the workers, and wait until nothing is behind."""
    with UsageProducer(broker=stack.bootstrap) as producer:
        for number in range(events):
            producer.track(**event(number, users))
            if number % 10_000 == 0:
                producer.flush(60)
        assert producer.flush(120) == 0
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


def latency(stack: Stack, rate: int, seconds: int, users: int) -> dict[str, Any]:
    """Send at a steady rate, and follow the canaries."""
    alerts: dict[str, float] = {}
    rows: dict[str, float] = {}
    sent: dict[str, tuple[str, float]] = {}
    stop = threading.Event()
    watchers = [
        threading.Thread(target=watch_alerts, args=(stack, alerts, stop)),
        threading.Thread(target=watch_rows, args=(stack, sent, rows, stop)),
    ]
    for watcher in watchers:
        watcher.start()
    time.sleep(2)
    with UsageProducer(broker=stack.bootstrap) as producer:
        started = time.monotonic()
        for number in range(rate * seconds):
            ahead = number / rate - (time.monotonic() - started)
            if ahead > 0:
                time.sleep(ahead)
            if number % (rate // CANARIES_A_SECOND) == 0:
                model, event_id = f"canary-{number}", str(uuid.uuid4())
                sent[event_id] = (model, time.monotonic())
                producer.track(
                    **{**event(number, users), "event_id": event_id, "provider": "openai", "model": model}
                )
            else:
                producer.track(**event(number, users))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (len(alerts) == len(rows) == len(sent)):
        time.sleep(0.1)
    stop.set()
    for watcher in watchers:
        watcher.join()
    to_alert = [alerts[f"openai/{model}"] - at for model, at in sent.values() if f"openai/{model}" in alerts]
    to_row = [rows[event_id] - at for event_id, (_, at) in sent.items() if event_id in rows]
    assert len(to_alert) == len(to_row) == len(sent), "a canary was lost"
    return {
        "latency_events_per_second": rate,
        "canaries": len(sent),
        **percentiles("event_to_alert_ms", to_alert),
        **percentiles("event_to_row_ms", to_row),
    }


def watch_alerts(stack: Stack, found: dict[str, float], stop: threading.Event) -> None:
    """Note when the alert about each model arrives."""
    consumer = Consumer(
        {
            "bootstrap.servers": stack.bootstrap,
            "group.id": f"bench-{uuid.uuid4()}",
            "auto.offset.reset": "latest",
        }
    )
    consumer.subscribe([stack.settings.topics.alerts])
    while not stop.is_set():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            found.setdefault(json.loads(message.value() or b"")["scope_id"], time.monotonic())
    consumer.close()


def watch_rows(
    stack: Stack, sent: dict[str, tuple[str, float]], found: dict[str, float], stop: threading.Event
) -> None:
    """Note when each canary's row can be read."""
    client = connect(stack.settings.clickhouse)
    day = datetime.now(UTC).date().isoformat()
    while not stop.is_set():
        missing = [event_id for event_id in list(sent) if event_id not in found]
        if missing:
            names = ", ".join(f"'{event_id}'" for event_id in missing)
            rows = client.query(
                f"SELECT event_id FROM usage_events WHERE toDate(timestamp) >= '{day}' AND event_id IN ({names})"
            ).result_rows
            for (event_id,) in rows:
                found.setdefault(event_id, time.monotonic())
        time.sleep(0.02)
    client.close()


def percentiles(name: str, seconds: list[float]) -> dict[str, int]:
    """Return p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"{name}_p50": round(cuts[49] * 1000), f"{name}_p99": round(cuts[98] * 1000)}


if __name__ == "__main__":
    main()
