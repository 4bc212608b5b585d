"""`tokentide up` and Stack: everything starts, goes on with its data, and leaves no process behind."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient
from support.commands import COMMAND, run, variables
from support.door import Door
from support.records import Records

from tokentide.console.data_dir import default_data_dir
from tokentide.console.kafka.ports import free_ports
from tokentide.console.stack import Stack
from tokentide.schemas import SettingsError

Up = Callable[..., "Running"]


class Running:
    """A `tokentide up` without workers: they have tests of their own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--meters", "0", "--sinks", "0", *arguments],
            env=variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def until(self, words: str) -> str:
        """The next line that holds these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was never printed:\n{''.join(self.lines)}")

    def family(self) -> list[psutil.Process]:
        """Its descendants."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def up(jars: list[Path]) -> Iterator[Up]:
    """Starts `tokentide up`, and ends it."""
    running: list[Running] = []

    def start(*arguments: str) -> Running:
        running.append(Running(*arguments))
        return running[-1]

    yield start
    for each in running:
        each.end()


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie that nobody has waited for does not."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def await_end(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := living(processes):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def embedded(data_dir: Path) -> list[str]:
    """Arguments for embedded servers on free ports."""
    kafka, clickhouse = free_ports(2)
    return ["--data", str(data_dir), "--kafka-port", str(kafka), "--clickhouse-port", str(clickhouse)]


def test_up_serves_restarts_what_crashes_refuses_a_second_one_and_stops_on_ctrl_c(
    up: Up, tmp_path: Path
) -> None:
    arguments = embedded(tmp_path)
    port = arguments[3]
    (door,) = free_ports(1)

    running = up(*arguments, "--ingest-port", str(door))
    serving = running.until("Everything runs.")
    running.until(f"Usage over HTTP: http://127.0.0.1:{door}/v1/usage")
    usage = {"provider": "openai", "model": "gpt-4o", "inputTokens": 5, "request_id": "A1"}
    sent = Door(running.process, f"127.0.0.1:{door}", f"127.0.0.1:{port}", "usage.events").post(usage)
    second = run("up", *embedded(tmp_path))
    same_port = run("up", *embedded(tmp_path / "other"), "--kafka-port", port)
    (broker,) = [each for each in running.family() if each.name() == "java"]
    broker.kill()
    crashed = running.until("kafka is waiting")
    running.until("kafka is running")
    topics = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}).list_topics(timeout=10).topics
    family = running.family()
    running.process.send_signal(signal.SIGINT)
    started = time.monotonic()
    code = running.process.wait(15)

    assert f"Kafka: 127.0.0.1:{port}  ClickHouse: http://127.0.0.1:{arguments[5]}" in serving
    assert (second.code, second.err) == (
        2,
        f"{tmp_path} is in use by the process {running.process.pid}; stop it or choose another data directory.\n",
    )
    assert same_port.code == 2
    assert same_port.err == (
        f"Port {port} on 127.0.0.1 cannot be used ([Errno 98] Address already in use); stop what listens there, "
        "choose another port with --kafka-port, or use what runs there with --broker.\n"
    )
    assert "Kafka node 1 has ended" in crashed or "ended with code 1" in crashed
    assert "usage.events" in topics
    assert (sent.status, sent.json["event_ids"]) == (202, ["openai/A1"])
    assert (code, time.monotonic() - started < 10) == (0, True)
    assert len(family) == 4
    assert living(family) == []


def test_up_that_is_killed_leaves_no_process_and_goes_on_with_its_data(up: Up, tmp_path: Path) -> None:
    arguments = embedded(tmp_path)
    records = Records(f"127.0.0.1:{arguments[3]}")
    running = up(*arguments)
    running.until("Everything runs.")
    records.create()
    acked = records.produce(100)
    family = running.family()

    running.process.kill()
    running.process.wait()

    assert len(family) == 3
    await_end(family, 5)
    again = up(*arguments)
    again.until("Everything runs.")
    assert records.read() == acked


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_up_stops_in_order_on_other_signals(
    up: Up, tmp_path: Path, clickhouse: str, on_clickhouse: dict[str, str], number: signal.Signals
) -> None:
    (port,) = free_ports(1)
    running = up("--data", str(tmp_path), "--kafka-port", str(port), "--clickhouse", clickhouse)
    running.until("kafka is starting")

    # In the middle of the start.
    running.process.send_signal(number)

    assert running.process.wait(15) == 0
    assert "Everything is stopped." in running.until("Everything is stopped.")


def test_a_stack_on_given_servers_starts_none_and_makes_topics_and_tables(
    tmp_path: Path, on_kafka: dict[str, str], on_clickhouse: dict[str, str]
) -> None:
    settings = on_kafka | on_clickhouse
    stack = Stack(
        tmp_path,
        broker=on_kafka["TOKENTIDE_BROKER"],
        clickhouse_url=on_clickhouse["TOKENTIDE_CLICKHOUSE_URL"],
        meters=0,
        sinks=0,
        partitions=2,
        variables=variables(**settings),
    )

    stack.start_servers()

    assert stack.statuses() == []
    assert run("doctor", environment=stack.environment).code == 0
    assert stack.environment.items() >= (settings | {"TOKENTIDE_PARTITIONS": "2"}).items()
    stack.stop()


def test_a_worker_that_cannot_start_is_an_error_and_nothing_is_left(
    tmp_path: Path, on_kafka: dict[str, str], on_clickhouse: dict[str, str]
) -> None:
    given = on_kafka | on_clickhouse | {"TOKENTIDE_SESSION_TIMEOUT_SECONDS": "soon"}
    addresses = {
        "broker": given["TOKENTIDE_BROKER"],
        "clickhouse_url": given["TOKENTIDE_CLICKHOUSE_URL"],
    }
    before = set(psutil.Process().children(recursive=True))

    with pytest.raises(SettingsError, match="TOKENTIDE_SESSION_TIMEOUT_SECONDS='soon' is not a number"):
        Stack(tmp_path, **addresses, sinks=0, variables=variables(**given)).start()  # type: ignore[arg-type]

    assert set(psutil.Process().children(recursive=True)) <= before


def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be negative"):
        Stack(tmp_path, meters=-1)
    with pytest.raises(SettingsError, match="70000 is no TCP port"):
        Stack(tmp_path, kafka_port=70_000, variables={}).start_servers()
    with pytest.raises(SettingsError, match="set TOKENTIDE_INGEST_KEY"):
        Stack(tmp_path, ingest_port=8090, variables={"TOKENTIDE_INGEST_HOST": "0.0.0.0"})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=f"Port {port} on .*choose another port with --ingest-port"):
            Stack(tmp_path, ingest_port=port, variables={}).start_servers()


@pytest.mark.parametrize(
    ("environment", "end"),
    [({"XDG_DATA_HOME": "/x"}, "/x/tokentide"), ({}, "tokentide")],
)
def test_data_lie_where_the_platform_keeps_them(environment: dict[str, str], end: str) -> None:
    assert str(default_data_dir(environment)).endswith(end)


def test_every_worker_gets_a_metrics_port_of_its_own_and_none_when_it_is_off(tmp_path: Path) -> None:
    on = Stack(tmp_path, meters=2, sinks=1, variables={"TOKENTIDE_METRICS_PORT": "9464"})

    assert on.metrics_urls == {
        "meter-1": "http://127.0.0.1:9464/metrics",
        "meter-2": "http://127.0.0.1:9465/metrics",
        "sink-1": "http://127.0.0.1:9466/metrics",
    }
    assert Stack(tmp_path, meters=2, variables={}).metrics_urls == {}
    with pytest.raises(SettingsError, match="TOKENTIDE_METRICS_PORT='many' is not a whole number"):
        Stack(tmp_path, variables={"TOKENTIDE_METRICS_PORT": "many"})
