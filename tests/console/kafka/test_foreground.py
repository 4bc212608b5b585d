"""`tokentide kafka` as a process: it serves, it stops, it says what is wrong, and its brokers never outlive it."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.commands import COMMAND, run, variables
from support.records import Records

from tokentide.console.kafka.ports import free_ports, ports_in_a_row

Serve = Callable[..., "Server"]


class Server:
    """A running `tokentide kafka`."""

    def __init__(self, data_dir: Path, port: int, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "kafka", "--data", str(data_dir), "--port", str(port), *arguments],
            env=variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def first_line(self) -> str:
        """What it prints when it serves."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def brokers(self) -> list[psutil.Process]:
        """Its Java processes."""
        return [child for child in psutil.Process(self.process.pid).children(recursive=True)]

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve(jars: list[Path]) -> Iterator[Serve]:
    """Starts servers, and ends them."""
    running: list[Server] = []

    def start(data_dir: Path, port: int, *arguments: str) -> Server:
        running.append(Server(data_dir, port, *arguments))
        return running[-1]

    yield start
    for server in running:
        server.end()


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    """Whether all have ended after so long; a zombie that nobody has waited for has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
            return True
        time.sleep(0.05)
    return False


def test_it_serves_until_sigterm_and_refuses_a_second_one(serve: Serve, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server = serve(tmp_path, port)

    assert server.first_line() == f"ready 127.0.0.1:{port}\n"
    brokers = server.brokers()
    same_data = run("kafka", "--data", str(tmp_path), "--port", str(port + 1))
    same_port = run("kafka", "--data", str(tmp_path / "other"), "--port", str(port))
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(10) == 0
    assert len(brokers) == 1
    assert gone(brokers, 1)
    assert same_data.code == 2
    assert same_data.err == (
        f"{tmp_path} is in use by the process {server.process.pid}; stop it or choose another data directory.\n"
    )
    assert same_port.code == 2
    assert same_port.err == (
        f"Port {port} on 127.0.0.1 cannot be used ([Errno 98] Address already in use); stop what listens there, "
        f"choose another port, or use the Kafka that runs there with --broker 127.0.0.1:{port}.\n"
    )


@pytest.mark.slow
def test_its_brokers_die_with_it_and_the_data_goes_on(serve: Serve, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server = serve(tmp_path, port)
    server.first_line()
    records = Records(f"127.0.0.1:{port}")
    records.create()
    acked = records.produce(500)
    brokers = server.brokers()

    server.process.kill()
    server.process.wait()

    assert len(brokers) == 1
    assert gone(brokers, 5)
    again = serve(tmp_path, port)
    assert again.first_line() == f"ready 127.0.0.1:{port}\n"
    assert records.read() == acked


@pytest.mark.slow
def test_three_nodes_are_one_address_and_end_together(serve: Serve, tmp_path: Path) -> None:
    port = ports_in_a_row(3)

    server = serve(tmp_path, port, "--nodes", "3")

    assert server.first_line() == f"ready 127.0.0.1:{port},127.0.0.1:{port + 1},127.0.0.1:{port + 2}\n"
    brokers = server.brokers()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0
    assert len(brokers) == 3
    assert gone(brokers, 1)


def test_a_wrong_number_of_nodes_is_wrong_use(tmp_path: Path) -> None:
    refused = run("kafka", "--data", str(tmp_path), "--nodes", "2")

    assert (refused.code, refused.err) == (2, "An embedded Kafka has 1 node or 3, not 2.\n")
