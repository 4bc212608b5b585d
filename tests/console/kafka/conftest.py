"""The embedded Kafka under test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tokentide.console.kafka import KafkaCluster


@pytest.fixture(scope="module")
def cluster(jars: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One node for the tests of a module that only look."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as running:
        yield running
