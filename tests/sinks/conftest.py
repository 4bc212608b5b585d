"""The embedded ClickHouse as a process, which tests start, stop, kill and start again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import pytest
from support.databases import make_database

from tokentide.console.kafka.ports import free_ports
from tokentide.sinks import ClickHouseSettings, connect


class Server:
    """`tokentide clickhouse` in `folder`, on a port that stays the same across restarts."""

    def __init__(
        self, folder: Path, arguments: Sequence[str] = (), variables: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.path = folder / "data"
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._variables = variables or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What all its processes have printed."""
        return (self.folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return once it serves."""
        with (self.folder / "log").open("ab") as log:
            begin = log.tell()
            command = [sys.executable, "-m", "tokentide.console.cli", "clickhouse"]
            self._process = subprocess.Popen(
                [*command, "--path", str(self.path), "--port", str(self.port), *self._arguments],
                env=os.environ | self._variables,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while f"ready {self.url}\n" not in self.log[begin:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the embedded ClickHouse did not start: {self.log}")
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, timeout_seconds: float = 30) -> int:
        """Ask it to end, and return its exit code; fails the test when it does not end in time."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(timeout_seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None


@pytest.fixture(scope="session")
def server_type() -> type[Server]:
    """The class, for tests that start a server of their own."""
    return Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running embedded ClickHouse, one for the tests of a module."""
    server = Server(tmp_path_factory.mktemp("clickhouse"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


_NUMBERS = count(1)


@pytest.fixture
def empty(server: Server) -> Iterator[ClickHouseSettings]:
    """Settings that name a database that does not exist yet; it is dropped afterwards."""
    settings = ClickHouseSettings(url=server.url, database=f"test_{next(_NUMBERS)}")
    yield settings
    client = connect(settings, database="")
    client.command(f"DROP DATABASE IF EXISTS {settings.database}")
    client.close()


@pytest.fixture
def settings(empty: ClickHouseSettings) -> ClickHouseSettings:
    """Settings that name a migrated database without rows."""
    make_database(empty)
    return empty
