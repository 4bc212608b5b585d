"""The containers of the tests: real servers where a Docker engine answers, a clear sentence where none does."""

import time
import urllib.request

import pytest
from confluent_kafka.admin import AdminClient
from containers.services import clickhouse_in_docker, docker_problem, kafka_in_docker

from tokentide.console.broker import reach
from tokentide.console.topics import ensure_topics
from tokentide.schemas import KafkaSettings, TopicNames, plan_topics
from tokentide.sinks import ClickHouseSettings, migrate

needs_docker = pytest.mark.skipif(docker_problem() is not None, reason=docker_problem() or "Docker answers")


def test_a_machine_without_the_command_is_told_to_install_docker() -> None:
    problem = docker_problem("no-such-docker")

    assert problem == (
        "there is no `no-such-docker` command on this machine: install Docker to run this in containers"
    )


def test_the_look_for_docker_is_quick_and_its_answer_one_line() -> None:
    started = time.monotonic()

    problem = docker_problem.__wrapped__()

    assert time.monotonic() - started < 11
    assert problem is None or "\n" not in problem


@needs_docker
@pytest.mark.slow
def test_kafka_in_a_container_holds_the_topics_of_the_pipeline() -> None:
    plans = plan_topics(TopicNames(), "tokentide-meter", 4)
    with kafka_in_docker() as bootstrap:
        created = ensure_topics(reach(KafkaSettings(bootstrap)), plans).created

        topics = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics

    assert sorted(created) == sorted(plan.name for plan in plans)
    assert {plan.name: len(topics[plan.name].partitions) for plan in plans} == {
        plan.name: plan.partitions for plan in plans
    }


@needs_docker
@pytest.mark.slow
def test_clickhouse_in_a_container_takes_the_migrations() -> None:
    with clickhouse_in_docker() as url:
        applied = migrate(ClickHouseSettings(url=url))
        again = migrate(ClickHouseSettings(url=url))
        with urllib.request.urlopen(
            f"{url}/?query=SELECT+count()+FROM+tokentide.usage", timeout=10
        ) as answer:
            rows = answer.read()

    assert applied
    assert again == []
    assert rows == b"0\n"
