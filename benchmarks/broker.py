"""The Kafka of a benchmark that runs by itself."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokentide.console.kafka import KafkaCluster

__all__ = ["broker_at"]


@contextmanager
def broker_at(address: str | None) -> Iterator[str]:
    """Yield the address; without one, that of an own Kafka, which is stopped and removed in the end."""
    if address is not None:
        yield address
        return
    with tempfile.TemporaryDirectory() as folder, KafkaCluster(Path(folder)) as cluster:
        yield cluster.bootstrap
