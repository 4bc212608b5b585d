"""Kafka and ClickHouse in containers, from the images that docker-compose.yml names, where Docker runs."""

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.core.container import DockerContainer

from tokentide.console.kafka.ports import free_ports

__all__ = ["clickhouse_in_docker", "docker_problem", "image_of", "kafka_in_docker"]

COMPOSE_FILE = Path(__file__).parent.parent.parent / "docker-compose.yml"
_START_SECONDS = 120.0


@cache
def docker_problem(command: str = "docker") -> str | None:
    """Return why no container can be started here, as one sentence; None when a Docker engine answers."""
    try:
        answer = subprocess.run(
            [command, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except FileNotFoundError:
        return f"there is no `{command}` command on this machine: install Docker to run this in containers"
    except subprocess.TimeoutExpired:
        return f"`{command} version` gave no answer for 10 seconds: start the Docker engine"
    if answer.returncode:
        return f"no Docker engine answers ({' '.join(answer.stderr.split())})"
    return None


def image_of(service: str) -> str:
    """Return the image that docker-compose.yml pins for the service: tests run what users run."""
    image = yaml.safe_load(COMPOSE_FILE.read_text())["services"][service]["image"]
    assert isinstance(image, str)
    return image


@contextmanager
def kafka_in_docker() -> Iterator[str]:
    """Run one node of Kafka, empty; yields its address as host:port."""
    # The broker tells its clients the port under which they reach it, so it must be known before the start.
    port = free_ports(1)[0]
    container = DockerContainer(image_of("kafka")).with_bind_ports(9092, port)
    host = container.get_docker_client().host()
    container.with_envs(
        CLUSTER_ID="dG9rZW50aWRlLXRlc3RzLQ",
        KAFKA_NODE_ID="1",
        KAFKA_PROCESS_ROLES="broker,controller",
        KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:29093",
        KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
        KAFKA_LISTENERS="PLAINTEXT://:9092,CONTROLLER://:29093",
        KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://{host}:{port}",
        KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        KAFKA_INTER_BROKER_LISTENER_NAME="PLAINTEXT",
        KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
        KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
        KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
        KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR="1",
        KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR="1",
        KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
        KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
    )
    with container:
        bootstrap = f"{host}:{port}"
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        _wait_for("Kafka", lambda: _kafka_answers(admin))
        yield bootstrap


@contextmanager
def clickhouse_in_docker() -> Iterator[str]:
    """Run ClickHouse, empty; yields its URL. The user `default` needs no password there."""
    container = DockerContainer(image_of("clickhouse")).with_exposed_ports(8123)
    # Else the image keeps `default` to the container itself.
    container.with_env("CLICKHOUSE_SKIP_USER_SETUP", "1")
    with container:
        url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8123)}"
        _wait_for("ClickHouse", lambda: _clickhouse_answers(url))
        yield url


def _wait_for(service: str, is_up: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_up():
        if time.monotonic() > deadline:
            pytest.fail(f"{service} in its container did not answer within {_START_SECONDS:.0f} seconds")
        time.sleep(0.2)


def _kafka_answers(admin: AdminClient) -> bool:
    try:
        admin.list_topics(timeout=2)
    except KafkaException:
        return False
    return True


def _clickhouse_answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=2) as answer:
            return bool(answer.read() == b"Ok.\n")
    except OSError:
        return False
