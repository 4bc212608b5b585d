"""Kafka and ClickHouse for whole-pipeline tests: embedded always, in containers where a Docker engine answers."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from containers.services import clickhouse_in_docker, docker_problem, kafka_in_docker
from support.servers import Servers


@pytest.fixture(params=["embedded", "docker"])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """The servers that a stack is to run on."""
    if request.param == "embedded":
        yield Servers()
        return
    problem = docker_problem()
    if problem is not None:
        pytest.skip(problem)
    with ExitStack() as running:
        yield Servers(running.enter_context(kafka_in_docker()), running.enter_context(clickhouse_in_docker()))
