"""Print every budget alert once: `python examples/follow_alerts.py`, with TOKENTIDE_BROKER for another Kafka."""

import json
import os

from confluent_kafka import Consumer

consumer = Consumer(
    {
        "bootstrap.servers": os.environ.get("TOKENTIDE_BROKER", "127.0.0.1:9092"),
        "group.id": "example-alerts",
        "auto.offset.reset": "earliest",
    }
)
consumer.subscribe(["usage.alerts"])
seen = set()  # in a service: a table with a unique key, kept for as long as the topic keeps its records
try:
    while True:
        message = consumer.poll(1.0)
        if message is None or message.error():
            continue
        alert = json.loads(message.value())
        # After a crash the same alert comes again, with the same id.
        if alert["alert_id"] not in seen:
            seen.add(alert["alert_id"])
            print(f"{alert['level']}: {alert['message']}", flush=True)
except KeyboardInterrupt:
    consumer.close()
