"""One real Kafka and one embedded ClickHouse for the tests of the console, and names that no other test uses."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from support.commands import COMMAND, variables

from tokentide.console.kafka import KafkaCluster, ensure_jars
from tokentide.console.kafka.ports import HOST, free_ports
from tokentide.console.program import Program
from tokentide.console.supervisor import Supervisor
from tokentide.schemas import ServiceUnavailableError, TopicNames

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def jars() -> list[Path]:
    """The real jars from the user's cache, fetched if need be; without network a laptop skips and CI fails."""
    try:
        return ensure_jars(progress=False)
    except ServiceUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(jars: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka of one node."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as running:
        yield running.bootstrap


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded ClickHouse, whose user is `tide` with the password `sesame`."""
    folder = tmp_path_factory.mktemp("clickhouse")
    (port,) = free_ports(1)
    server = Program(
        "clickhouse",
        [*COMMAND, "clickhouse", "--path", str(folder / "data"), "--port", str(port), "--user", "tide"],
        environment=variables(TOKENTIDE_CLICKHOUSE_PASSWORD="sesame"),
        log_path=folder / "log",
        directory=folder,
        ready_line="ready",
    )
    with Supervisor() as supervisor:
        supervisor.launch(server)
        supervisor.wait_ready(["clickhouse"], timeout_seconds=60)
        yield f"http://{HOST}:{port}"


@pytest.fixture
def topics() -> dict[str, str]:
    """Variables that name topics and groups which no other test uses."""
    number = next(_NUMBERS)
    names = {
        f"TOKENTIDE_TOPIC_{name.upper()}": f"t{number}.{name}"
        for name in (*TopicNames.__dataclass_fields__, "credits")
    }
    return names | {"TOKENTIDE_METER_ID": f"t{number}-meter", "TOKENTIDE_SINK_ID": f"t{number}-sink"}


@pytest.fixture
def on_kafka(kafka: str, topics: dict[str, str]) -> dict[str, str]:
    """Variables for a pipeline of its own on the real Kafka."""
    return {"TOKENTIDE_BROKER": kafka, **topics}


@pytest.fixture
def on_clickhouse(clickhouse: str) -> dict[str, str]:
    """Variables for a database of its own in the embedded ClickHouse."""
    return {
        "TOKENTIDE_CLICKHOUSE_URL": clickhouse,
        "TOKENTIDE_CLICKHOUSE_USER": "tide",
        "TOKENTIDE_CLICKHOUSE_PASSWORD": "sesame",
        "TOKENTIDE_CLICKHOUSE_DATABASE": f"d{next(_NUMBERS)}",
    }
