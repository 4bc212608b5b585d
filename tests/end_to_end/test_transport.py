"""What a worker's transport reads after a seek, on a real Kafka."""

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tokentide.console.kafka.cluster import KafkaCluster

TWICE_READ = str(Path(__file__).with_name("twice_read.py"))


@pytest.mark.slow
def test_what_was_fetched_and_thrown_away_before_the_first_commit_is_fetched_again(tmp_path: Path) -> None:
    """A new assignment throws away what is under way, then seeks; nothing more is ever written."""
    with KafkaCluster(tmp_path / "kafka") as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_topics([NewTopic("events", 1)])["events"].result(30)
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for number in range(10):
            producer.produce("events", str(number).encode())
        assert producer.flush(30) == 0

        reader = subprocess.run(
            [sys.executable, TWICE_READ, kafka.bootstrap, "events", str(tmp_path / "work")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert reader.stdout == f"{list(range(10))}\n" * 2, reader.stderr
