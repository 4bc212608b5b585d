"""The metrics of real workers: they serve what the document lists, and the numbers are those of the pipeline."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.traffic import send, traffic

from tokentide.console.kafka.ports import ports_in_a_row
from tokentide.console.lag import wait_until_settled
from tokentide.console.stack import Stack

ROOT = Path(__file__).parent.parent.parent
PARTITIONS = 2
EVENTS = 2000
# Told by the stages spend and budgets; take a name out when its stage tells it.
Served = dict[str, dict[tuple[str, ...], float]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A meter and a sink that serve metrics and have dealt with some traffic."""
    variables = {**os.environ, "TOKENTIDE_METRICS_PORT": str(ports_in_a_row(2))}
    data_dir = tmp_path_factory.mktemp("stack")
    with Stack(data_dir, partitions=PARTITIONS, variables=variables) as stack:
        end = datetime.now(UTC) - timedelta(minutes=5)
        send(traffic(EVENTS, seed=1, end=end), stack.bootstrap, stack.settings.topics.events)
        wait_until_settled(stack.settings, 120)
        time.sleep(2.5)  # a snapshot is taken each second
        yield stack


def scrape(running: Stack, worker: str) -> Served:
    """The samples by metric, each by the values of its labels in the order of the labels' names."""
    with urllib.request.urlopen(running.metrics_urls[worker], timeout=10) as answer:
        text = answer.read().decode()
    served: Served = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            served.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return served


def documented(*parts: str) -> set[str]:
    """The metrics in these parts of the document."""
    tables = (ROOT / "docs" / "metrics.md").read_text()
    return {
        name
        for part in parts
        for name in re.findall(
            r"^\| `(\w+)` \|", tables.partition(f"\n{part}:\n\n")[2].partition("\n\n")[0], re.M
        )
    }


@pytest.mark.slow
@pytest.mark.parametrize(("worker", "part"), [("meter-1", "A meter"), ("sink-1", "A sink")])
def test_a_worker_serves_what_the_document_lists(running: Stack, worker: str, part: str) -> None:
    served = scrape(running, worker)

    ours = {name for name in served if name.startswith("tokentide_")}
    assert ours == documented("Every worker", part)
    assert served["process_resident_memory_bytes"][()] > 10_000_000


@pytest.mark.slow
def test_the_numbers_are_those_of_the_pipeline(running: Stack) -> None:
    topics = running.settings.topics

    meter, sink = scrape(running, "meter-1"), scrape(running, "sink-1")

    assert meter["tokentide_records_taken_total"][topics.events,] == EVENTS
    # Not that of usage.spend: something comes there each second.
    lags = [*meter["tokentide_consumer_lag"].items(), *sink["tokentide_consumer_lag"].items()]
    assert {place: lag for place, lag in lags if lag and place[1] != topics.spend} == {}
    places = {place for place in meter["tokentide_position"] if place[1] == topics.events}
    assert places == {(str(number), topics.events) for number in range(PARTITIONS)}
    assert sum(meter["tokentide_position"][place] for place in places) == EVENTS
    assert sum(meter["tokentide_committable"][place] for place in places) == EVENTS
    new = EVENTS - meter["tokentide_duplicates_total"][()] - meter["tokentide_rejected_total"][()]
    assert (
        new
        == sum(meter["tokentide_seen_ids"].values())
        == sink["tokentide_rows_stored_total"][topics.priced,]
    )
    assert meter["tokentide_duplicates_total"][()] > 0
    assert sink["tokentide_rows_stored_total"][topics.rejected,] == meter["tokentide_rejected_total"][()] > 0
    assert time.time() - meter["tokentide_snapshot_timestamp_seconds"][()] < 30


@pytest.mark.slow
def test_a_metrics_port_that_is_taken_is_named_and_ends_the_worker_with_code_2(
    running: Stack, tmp_path: Path
) -> None:
    port = re.search(r":(\d+)/", running.metrics_urls["meter-1"])
    assert port is not None

    done = subprocess.run(
        [sys.executable, "-m", "tokentide.console.cli", "worker", "sink"],
        env={
            **os.environ,
            **running.environment,
            "TOKENTIDE_WORKER": "sink-2",
            "TOKENTIDE_WORK_DIR": str(tmp_path),
            "TOKENTIDE_METRICS_PORT": port[1],
        },
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr == (
        f"Metrics cannot be served at 127.0.0.1:{port[1]} ([Errno 98] Address already in use); stop what listens "
        "there, or set TOKENTIDE_METRICS_PORT and TOKENTIDE_METRICS_HOST to what is free, each worker its own.\n"
    )


@pytest.mark.slow
def test_clients_that_ask_nothing_are_in_nobodys_way(running: Stack) -> None:
    address = urlsplit(running.metrics_urls["meter-1"])

    with contextlib.ExitStack() as silent:
        for _ in range(8):
            silent.enter_context(
                socket.create_connection((str(address.hostname), int(address.port or 0)), 10)
            )

        assert scrape(running, "meter-1")
