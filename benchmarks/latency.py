"""How long it takes from `track()` to an alert on its topic, and to a row that a query finds, at a steady rate.

The load is made before: records as the SDK writes them, which librdkafka sends, because the services whose work
it would be to make them run on other machines. From three seconds on, for a JVM begins slowly, a canary goes
through the SDK's `track()` ten times a second. It is of a model that nobody knows, so that it raises an alert
(`unpriced_model`) of its own. To the alert: from `track()` until a consumer has the record. To the row: from
`track()` until a query sees it; the query is asked again after 20 ms, or four times as long as it took. The
producer's own delay is in both.
"""

import json
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, Producer
from figures import percentiles
from load import event, records

from tokentide.console.stack import Stack
from tokentide.producers import UsageProducer
from tokentide.producers.settings import ProducerSettings
from tokentide.sinks import connect

RATE = 10_000
SECONDS = 20
_CANARIES_A_SECOND = 10
_QUERY_SECONDS = 0.02
_IDLE_SHARE = 4
_LAST_SECONDS = 30.0
_STEP_SECONDS = 0.002
_WARM_SECONDS = 3

Sent = dict[str, tuple[str, float]]
"""Event id of a canary -> its model, and when it was sent."""


def latency(stack: Stack, rate: int = RATE, seconds: int = SECONDS, users: int = 1_000) -> dict[str, Any]:
    """Send at a steady rate, and follow the canaries. Raises RuntimeError when one does not arrive."""
    alerts: dict[str, float] = {}
    rows: dict[str, float] = {}
    sent: Sent = {}
    stop = threading.Event()
    watchers = [
        threading.Thread(target=_watch_alerts, args=(stack, alerts, stop)),
        threading.Thread(target=_watch_rows, args=(stack, sent, rows, stop)),
    ]
    for watcher in watchers:
        watcher.start()
    try:
        # A consumer takes a moment to find its partitions.
        time.sleep(2)
        reached = _send(stack, sent, rate, seconds, users)
        deadline = time.monotonic() + _LAST_SECONDS
        while time.monotonic() < deadline and not (len(alerts) == len(rows) == len(sent)):
            time.sleep(0.1)
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    to_alert = [alerts[f"openai/{model}"] - at for model, at in sent.values() if f"openai/{model}" in alerts]
    to_row = [rows[event_id] - at for event_id, (_, at) in sent.items() if event_id in rows]
    if not len(to_alert) == len(to_row) == len(sent):
        raise RuntimeError(
            f"of {len(sent)} canaries {len(to_alert)} raised an alert and {len(to_row)} became a row "
            f"within {_LAST_SECONDS:.0f} s"
        )
    return {
        "latency_events_per_second": round(reached),
        "canaries": len(sent),
        **percentiles("event_to_alert_ms", [1000 * each for each in to_alert]),
        **percentiles("event_to_row_ms", [1000 * each for each in to_row]),
    }


def _send(stack: Stack, sent: Sent, rate: int, seconds: int, users: int) -> float:
    """Send the events; return how many a second it became."""
    topic = stack.settings.topics.events
    every = max(1, rate // _CANARIES_A_SECOND)
    warm = rate * _WARM_SECONDS
    load = records(warm + rate * seconds, users)
    settings = ProducerSettings(kafka=stack.settings.kafka)
    services = Producer(settings.librdkafka())
    with UsageProducer(broker=stack.bootstrap, topic=topic) as producer:
        started = time.monotonic()
        for number, record in enumerate(load):
            ahead = number / rate - (time.monotonic() - started)
            if ahead > 0:
                services.poll(0)
                time.sleep(max(ahead, _STEP_SECONDS))
            if number >= warm and number % every == 0:
                model, event_id = f"canary-{number}", str(uuid.uuid4())
                sent[event_id] = (model, time.monotonic())
                producer.track(
                    **{**event(number, users), "event_id": event_id, "provider": "openai", "model": model}
                )
            else:
                while len(services) >= settings.queue_events:
                    services.poll(_STEP_SECONDS)
                services.produce(topic, record.value, record.key, headers=record.headers)
        services.flush(_LAST_SECONDS)
        return (warm + rate * seconds) / (time.monotonic() - started)


def _watch_alerts(stack: Stack, found: dict[str, float], stop: threading.Event) -> None:
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


def _watch_rows(stack: Stack, sent: Sent, found: dict[str, float], stop: threading.Event) -> None:
    """Note when each canary's row can be read."""
    client = connect(stack.settings.clickhouse)
    day = datetime.now(UTC).date().isoformat()
    while not stop.is_set():
        asked = time.monotonic()
        missing = [event_id for event_id in list(sent) if event_id not in found]
        if missing:
            names = ", ".join(f"'{event_id}'" for event_id in missing)
            rows = client.query(
                f"SELECT event_id FROM usage_events WHERE toDate(timestamp) >= '{day}' AND event_id IN ({names})"
            ).result_rows
            for (event_id,) in rows:
                found.setdefault(event_id, time.monotonic())
        # A server that answers slowly must not be kept busy by the question alone.
        time.sleep(max(_QUERY_SECONDS, _IDLE_SHARE * (time.monotonic() - asked)))
    client.close()
