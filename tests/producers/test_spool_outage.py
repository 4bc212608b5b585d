"""The outage of benchmarks/outage.py on a real Kafka, in short."""

from pathlib import Path

import pytest
from outage import measure


@pytest.mark.slow
def test_an_outage_of_kafka_with_two_kills_of_the_service_loses_nothing(tmp_path: Path) -> None:
    result = measure(tmp_path, 15, 200)

    assert result["events_accepted"] == 3 * 5 * 200
    assert result["events_missing"] == 0
