"""Workers that get in each other's way say so."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from tokentide.console.stack import Stack
from tokentide.streams.worker import CRASHED

METER = [sys.executable, "-m", "tokentide.console.cli", "worker", "meter"]
SILENT_LEADER = str(Path(__file__).with_name("silent_leader.py"))


def _environment(stack: Stack) -> dict[str, str]:
    """Return that of a meter of the stack, under the name that its first one has."""
    return {**os.environ, **stack.environment, "TOKENTIDE_WORKER": "meter-1"}


def _log_path(stack: Stack, name: str) -> Path:
    return next(status.log_path for status in stack.statuses() if status.name == name)


def _join(consumer: Consumer, topic: str) -> None:
    """Return when the consumer has its partitions."""
    consumer.subscribe([topic])
    deadline = time.monotonic() + 60
    while not consumer.assignment():
        assert time.monotonic() < deadline
        consumer.poll(0.2)


@pytest.mark.slow
def test_a_worker_whose_group_refuses_it_ends_instead_of_standing_still(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", meters=0, sinks=0, partitions=2) as running:
        group = running.settings.meter_id
        foreign = Consumer({"bootstrap.servers": running.bootstrap, "group.id": group})
        try:
            _join(foreign, running.settings.topics.events)
            ended = subprocess.run(
                METER,
                env=_environment(running),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=45,
                check=False,
            )
        finally:
            foreign.close()
    assert ended.returncode == CRASHED
    assert f"the group {group} cannot be joined: InconsistentGroupProtocolError" in ended.stderr


@contextmanager
def _silent_leader(bootstrap: str, group: str, topic: str) -> Iterator[None]:
    leader = subprocess.Popen(
        [sys.executable, SILENT_LEADER, bootstrap, group, topic], stdout=subprocess.PIPE, text=True
    )
    try:
        assert leader.stdout is not None
        assert leader.stdout.readline() == "leads\n"
        yield
    finally:
        leader.kill()
        leader.communicate()


@pytest.mark.slow
def test_a_worker_whose_group_gives_out_nothing_ends_after_a_minute(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", meters=0, sinks=0, partitions=2) as running:
        group = running.settings.meter_id
        with _silent_leader(running.bootstrap, group, running.settings.topics.events):
            ended = subprocess.run(
                METER,
                env={**_environment(running), "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "15"},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
    assert ended.returncode == CRASHED
    assert f"the group {group} gave out no partitions for 60 seconds" in ended.stderr


@contextmanager
def _without_faust(bootstrap: str) -> Iterator[str]:
    """Serve an address of Kafka that librdkafka reaches, and aiokafka, Faust's client, does not."""
    host, port = bootstrap.split(":")

    class Door(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            hello = self.request.recv(65536)
            if b"aiokafka" in hello or b"faust" in hello:
                return
            with socket.create_connection((host, int(port))) as kafka:
                kafka.sendall(hello)
                back = threading.Thread(target=_pump, args=(kafka, self.request))
                back.start()
                _pump(self.request, kafka)
                back.join()

    class Doors(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Doors(("127.0.0.1", 0), Door) as doors:
        threading.Thread(target=doors.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{doors.server_address[1]}"
        doors.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.slow
def test_a_worker_whose_faust_cannot_start_ends(tmp_path: Path) -> None:
    with (
        Stack(tmp_path / "stack", meters=0, sinks=0, partitions=2) as running,
        _without_faust(running.bootstrap) as address,
    ):
        ended = subprocess.run(
            METER,
            env={**_environment(running), "TOKENTIDE_BROKER": address},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert ended.returncode == CRASHED, ended.stderr
    assert "stopping: Faust" in ended.stderr


@pytest.mark.slow
def test_two_workers_of_one_name_are_told_to_take_two(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", meters=1, sinks=0, partitions=2) as running:
        second = tmp_path / "second.log"
        with second.open("wb") as log:
            process = subprocess.Popen(
                METER,
                env=_environment(running),
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        logs = [second, _log_path(running, "meter-1")]
        try:
            deadline = time.monotonic() + 90
            while not any("give each its own with TOKENTIDE_WORKER" in path.read_text() for path in logs):
                assert time.monotonic() < deadline, [path.read_text()[-500:] for path in logs]
                time.sleep(0.5)
        finally:
            process.kill()
            process.wait()
