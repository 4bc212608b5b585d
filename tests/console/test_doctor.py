"""`tokentide doctor` on a real Kafka and the embedded ClickHouse."""

import json
import time
from importlib.resources import files
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from support.commands import run

from tokentide import sinks
from tokentide.console.doctor import is_in_range


@pytest.fixture
def everything(on_kafka: dict[str, str], on_clickhouse: dict[str, str]) -> dict[str, str]:
    """Variables for a pipeline whose topics and tables exist."""
    variables = on_kafka | on_clickhouse
    assert run("topics", "init", environment=variables).code == 0
    assert run("migrate", environment=variables).code == 0
    return variables


def examined(variables: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and every problem by its check."""
    answer = run("doctor", "--json", *arguments, environment=variables)
    findings = json.loads(answer.out)["findings"]
    problems = {found["check"]: found for found in findings if not found["ok"]}
    assert answer.err == ""
    assert all(found["advice"] for found in problems.values())
    return answer.code, problems


def test_a_pipeline_in_order_is_all_ok(everything: dict[str, str]) -> None:
    answer = run("doctor", environment=everything)

    lines = answer.out.splitlines()
    assert (answer.code, answer.err) == (0, "")
    assert {line.split()[0] for line in lines} == {"ok"}
    assert any("clock of producers: no events yet" in line for line in lines)
    assert any(": 1 node(s), answers in " in line for line in lines)
    assert any("user tide, answers in " in line for line in lines)


def test_a_server_that_is_empty_needs_topics_and_tables(
    on_kafka: dict[str, str], on_clickhouse: dict[str, str]
) -> None:
    code, problems = examined(on_kafka | on_clickhouse)

    tables = problems.pop(f"tables in {on_clickhouse['TOKENTIDE_CLICKHOUSE_DATABASE']}")
    assert code == 1
    count = len([path for path in (files(sinks) / "migrations").iterdir() if path.name.endswith(".sql")])
    assert tables["seen"] == f"{count} of {count} migrations are missing"
    assert tables["advice"] == "run `tokentide migrate`"
    assert len(problems) == 11
    assert {(found["seen"], found["advice"]) for found in problems.values()} == {
        ("missing", "run `tokentide topics init`")
    }


def test_other_partition_counts_are_named_with_the_setting_that_fits(
    on_kafka: dict[str, str], on_clickhouse: dict[str, str]
) -> None:
    events = on_kafka["TOKENTIDE_TOPIC_EVENTS"]
    budgets, prices = on_kafka["TOKENTIDE_TOPIC_BUDGETS"], on_kafka["TOKENTIDE_TOPIC_PRICES"]
    client = AdminClient({"bootstrap.servers": on_kafka["TOKENTIDE_BROKER"]})
    topics = [NewTopic(events, 3, 1), NewTopic(budgets, 2, 1), NewTopic(prices, 2, 1)]
    for answer in client.create_topics(topics).values():
        answer.result(20)

    code, problems = examined(on_kafka | on_clickhouse)

    assert code == 1
    assert problems[f"topic {events}"]["seen"] == "3 partition(s), but 4 are wanted"
    assert problems[f"topic {events}"]["advice"] == "set TOKENTIDE_PARTITIONS=3, or use new topic names"
    assert problems[f"topic {budgets}"]["advice"] == "set TOKENTIDE_TOPIC_BUDGETS to a new name"
    assert problems[f"topic {prices}"]["advice"] == "set TOKENTIDE_TOPIC_PRICES to a new name"


def test_without_servers_each_is_one_problem_with_advice() -> None:
    nowhere = {"TOKENTIDE_BROKER": "127.0.0.1:1", "TOKENTIDE_CLICKHOUSE_URL": "http://127.0.0.1:1"}

    started = time.monotonic()
    code, problems = examined(nowhere)

    assert code == 1
    assert set(problems) == {"kafka", "clickhouse"}
    assert problems["kafka"] == {
        "check": "kafka",
        "ok": False,
        "seen": "Kafka at 127.0.0.1:1 does not answer within 8 s (Connect to ipv4#127.0.0.1:1 failed: "
        "Connection refused)",
        "advice": "start one with `tokentide up` or name another with --broker or TOKENTIDE_BROKER",
    }
    assert problems["clickhouse"]["seen"].endswith("does not answer (Connection refused)")
    assert problems["clickhouse"]["advice"] == "start it, or set TOKENTIDE_CLICKHOUSE_URL"
    assert time.monotonic() - started < 12


def test_a_refused_password_is_a_problem_with_its_variable(everything: dict[str, str]) -> None:
    code, problems = examined(everything | {"TOKENTIDE_CLICKHOUSE_PASSWORD": "wrong"})

    assert code == 1
    assert set(problems) == {"clickhouse"}
    assert problems["clickhouse"]["advice"] == "set TOKENTIDE_CLICKHOUSE_PASSWORD"


def test_a_producer_whose_clock_runs_ahead_is_found(everything: dict[str, str]) -> None:
    producer = Producer({"bootstrap.servers": everything["TOKENTIDE_BROKER"]})
    ahead = int(1000 * (time.time() + 600))
    producer.produce(everything["TOKENTIDE_TOPIC_EVENTS"], b"{}", timestamp=ahead)
    producer.flush(20)

    code, problems = examined(everything)

    assert code == 1
    assert set(problems) == {"clock of producers"}
    assert "synchronise the clocks" in problems["clock of producers"]["advice"]


@pytest.mark.parametrize(
    ("installed", "requirement", "fits"),
    [
        ("0.15.3", "faust-streaming<0.16,>=0.15.3", True),
        ("0.15.2", "faust-streaming<0.16,>=0.15.3", False),
        ("0.16.0", "faust-streaming<0.16,>=0.15.3", False),
        ("0.15.10", "faust-streaming<0.16,>=0.15.3", True),
        ("2.16.1", "confluent-kafka<3,>=2.12", True),
        ("2.9.0", "confluent-kafka<3,>=2.12", False),
        ("1.0", "anything", True),
    ],
)
def test_versions_are_compared_as_numbers(installed: str, requirement: str, fits: bool) -> None:
    assert is_in_range(installed, requirement) is fits
