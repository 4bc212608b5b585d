"""Real servers for the audit, and a pipeline of its own for each test."""

import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from support.commands import COMMAND, variables
from support.databases import make_database

from tokentide.console.audit.identities import Identities
from tokentide.console.broker import reach
from tokentide.console.kafka.ports import free_ports
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import ensure_topics
from tokentide.schemas import KafkaSettings, TopicNames
from tokentide.sinks import ClickHouseSettings

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def bootstrap(kafka: str) -> str:
    """The address of one Kafka node."""
    return kafka


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded ClickHouse, in a process of its own."""
    folder = tmp_path_factory.mktemp("clickhouse")
    log = folder / "log"
    [port] = free_ports(1)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "clickhouse", "--path", str(folder / "data"), "--port", str(port)],
            env=variables(),
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while f"ready {url}" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the embedded ClickHouse did not start: {log.read_text()}")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def settings(bootstrap: str, clickhouse_url: str) -> ConsoleSettings:
    """A pipeline of three partitions that holds nothing."""
    number = next(_NUMBERS)
    settings = ConsoleSettings(
        kafka=KafkaSettings(bootstrap),
        topics=TopicNames(**{name: f"audit-{number}.{name}" for name in TopicNames.__dataclass_fields__}),
        clickhouse=ClickHouseSettings(url=clickhouse_url, database=f"audit_{number}"),
        meter_id=f"audit-meter-{number}",
        sink_id=f"audit-sink-{number}",
        partitions=3,
    )
    ensure_topics(reach(settings.kafka), settings.topic_plans())
    make_database(settings.clickhouse)
    return settings


@pytest.fixture
def identities(tmp_path: Path) -> Iterator[Identities]:
    """An empty set of identities."""
    with Identities(tmp_path) as empty:
        yield empty
