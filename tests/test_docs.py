"""What the documents say, held against the code: settings, commands, links, Python, SQL."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from support.command_lines import command_lines, problem_with
from support.variables import ROOT, variables_in_code

from tokentide.console.settings import ConsoleSettings
from tokentide.producers import ProducerSettings
from tokentide.producers.guard_settings import GuardSettings
from tokentide.schemas import KafkaSettings, TopicNames, UsageEvent
from tokentide.schemas.failures import CLICKHOUSE, KAFKA
from tokentide.schemas.gauge import MetricsSettings
from tokentide.sinks import BatchSettings, ClickHouseSettings, connect, migrate
from tokentide.streams.metrics import METRICS
from tokentide.streams.settings import MeterSettings

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
SCRIPTS = [ROOT / "Makefile", ROOT / ".ci" / "run"]
METRICS_DOCUMENT = (ROOT / "docs" / "metrics.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()


def rows_of_now() -> dict[str, dict[str, Any]]:
    """One call, in each table, that every question of the documents must find."""
    now = datetime.now(UTC)
    return {
        "usage_events": {
            "event_id": "1",
            "timestamp": now,
            "user_id": "user-0042",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "cache_read_tokens": 1000,
            "input_price_per_mtok": Decimal("0.15"),
            "cached_price_per_mtok": Decimal("0.075"),
            "price_status": "unpriced",
        },
        "spend_totals": {
            "scope": "team",
            "scope_id": "team-03",
            "period": "month",
            "period_start": now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
            "cost_usd": Decimal("1.5"),
        },
        "alert_events": {"alert_id": "1", "timestamp": now, "level": "warning", "message": "close"},
        "rejected_events": {"source_topic": "usage.events", "timestamp": now, "reason": "no JSON"},
    }


def blocks(language: str) -> list[Any]:
    """The fenced blocks of a language in all documents, as parameters with a readable id."""
    return [
        pytest.param(block, id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S), 1
        )
    ]


def queries() -> list[Any]:
    """The SQL of each `tokentide sql "..."` in the documents."""
    lines = [line for path in DOCUMENTS for line in command_lines(path.read_text())]
    found = [shlex.split(line)[2] for line in lines if line.startswith('tokentide sql "')]
    return [pytest.param(query, id=query[:40]) for query in found if "..." not in query]


def rows_of_settings() -> dict[str, str]:
    """The default that docs/configuration.md gives for each variable."""
    return dict(re.findall(r"^\| `(TOKENTIDE_\w+)` \| ([^|]*?) \|", CONFIGURATION, re.MULTILINE))


def defaults() -> dict[str, object]:
    """The default in the code of each variable that is one field of a settings class."""
    parts: list[tuple[str, Any]] = [
        ("TOKENTIDE_", ConsoleSettings),
        ("TOKENTIDE_", MeterSettings),
        ("TOKENTIDE_KAFKA_", KafkaSettings),
        ("TOKENTIDE_TOPIC_", TopicNames),
        ("TOKENTIDE_PRODUCER_", ProducerSettings),
        ("TOKENTIDE_GUARD_", GuardSettings),
        ("TOKENTIDE_CLICKHOUSE_", ClickHouseSettings),
        ("TOKENTIDE_SINK_BATCH_", BatchSettings),
        ("TOKENTIDE_METRICS_", MetricsSettings),
    ]
    found = {
        prefix + field.name.upper(): field.default
        for prefix, settings in parts
        for field in fields(settings)
        if field.default is not MISSING
    }
    return found | {"TOKENTIDE_BROKER": KafkaSettings.broker}


def test_every_setting_is_documented_and_every_documented_setting_is_read() -> None:
    documented = rows_of_settings()

    assert documented.keys() == variables_in_code()


@pytest.mark.parametrize("name", sorted(rows_of_settings().keys() & defaults().keys() - {"TOKENTIDE_WORKER"}))
def test_the_documented_default_is_the_one_in_the_code(name: str) -> None:
    written = rows_of_settings()[name].strip("`")
    default = defaults()[name]

    if isinstance(default, int | float):
        assert float(written) == default
    else:
        assert written == (str(default) if default else "none")


@pytest.mark.parametrize("path", [*DOCUMENTS, *EXAMPLES, *SCRIPTS], ids=lambda path: path.name)
def test_every_variable_that_is_mentioned_exists(path: Path) -> None:
    mentioned = set(re.findall(r"TOKENTIDE_[A-Z0-9_]*[A-Z0-9]", path.read_text()))

    assert mentioned <= variables_in_code()


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=lambda path: path.name)
def test_every_command_that_is_shown_exists_with_its_options(path: Path) -> None:
    problems = {
        line: problem
        for line in command_lines(re.sub(r" \$\(if .*\)$", "", path.read_text(), flags=re.MULTILINE))
        if (problem := problem_with(line)) is not None
    }

    assert problems == {}


@pytest.mark.parametrize("failures", [CLICKHOUSE, KAFKA], ids=["ClickHouse", "Kafka"])
def test_every_error_code_is_in_the_document_with_what_is_done_about_it(failures: dict[int, Any]) -> None:
    table = "\n".join(
        f"| {code} | {name} | {handling} | {advice.format(user='...') or '-'} |"
        for code, (name, handling, advice) in sorted(failures.items(), key=lambda item: (item[1][1], item[0]))
    )

    assert f"\n{table}\n\n" in (ROOT / "docs" / "troubleshooting.md").read_text(), f"paste this:\n{table}"


def test_every_metric_is_in_the_document_with_its_help_text() -> None:
    documented = dict(
        re.findall(r"^\| `(tokentide_\w+)` \| [^|]* \| ([^|]*) \|", METRICS_DOCUMENT, re.MULTILINE)
    )

    assert documented == METRICS


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        target
        for path in [*DOCUMENTS, ROOT / ".ci" / "run"]
        for target in re.findall(r"(?:^|`|: |part \w+ )make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }

    assert {"demo", "test", "test-all", "lint"} <= shown
    assert shown <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_that_is_there(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text()) if "://" not in link]

    missing = [link for link in links if not (path.parent / link.partition("#")[0]).exists()]

    assert missing == []


def test_the_architecture_names_every_module_of_the_streams() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()

    modules = {path.name for path in (ROOT / "streams" / "tokentide" / "streams").glob("*.py")}

    assert {name for name in modules if f"[{name}]" not in text} == set()


def test_the_table_of_tasks_names_every_document() -> None:
    table = (ROOT / "README.md").read_text().partition("| task | file |")[2]

    assert {f"({path.relative_to(ROOT)})" for path in ROOT.glob("docs/*.md")} <= set(
        re.findall(r"\([^)]+\)", table)
    )


@pytest.mark.parametrize("block", blocks("python"))
def test_the_python_in_the_documents_sends_an_event_that_the_meter_takes(block: str) -> None:
    # librdkafka's own cluster: it lives as long as this client.
    host = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    # Asked for, a topic is there.
    (node,) = host.list_topics(TopicNames().limits, timeout=10).brokers.values()
    broker = f"{node.host}:{node.port}"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{block}\nassert usage.flush(20) == 0"],
        env={**os.environ, "TOKENTIDE_BROKER": broker},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "docs"})
    # Not as a member of the group, which takes seconds to form.
    partitions = consumer.list_topics(TopicNames().events, timeout=10).topics[TopicNames().events].partitions
    consumer.assign([TopicPartition(TopicNames().events, number, 0) for number in partitions])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert UsageEvent.from_wire(message.value()).user_id == "user-0042"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_compile_and_begin_with_how_to_run_them(path: Path) -> None:
    source = path.read_text()

    compile(source, str(path), "exec")
    assert f"`python examples/{path.name}`" in source.partition("\n")[0]


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """An embedded ClickHouse with one row in each of our tables."""
    path = tmp_path_factory.mktemp("clickhouse")
    command = [
        sys.executable,
        "-m",
        "tokentide.console.cli",
        "clickhouse",
        "--path",
        str(path),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready, url = server.stdout.readline().split()
        assert ready == "ready"
        settings = ClickHouseSettings(url=url)
        migrate(settings)
        client = connect(settings)
        for table, row in rows_of_now().items():
            client.insert(table, [list(row.values())], column_names=list(row))
        client.close()
        yield settings
        server.terminate()


@pytest.mark.parametrize("block", [*blocks("sql"), *queries()])
def test_the_sql_in_the_documents_runs(block: str, clickhouse: ClickHouseSettings) -> None:
    client = connect(clickhouse)

    answer = client.query(block)

    assert answer.row_count == 1
    client.close()
