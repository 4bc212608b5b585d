"""The embedded ClickHouse as a process, which tests start, kill and start again."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tokentide.sinks import ClickHouseSettings, connect, migrate


class Server:
    """An embedded ClickHouse on a port that stays the same across restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it serves."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tokentide.sinks.embedded"]
                + ["--path", str(self.folder / "data"), "--port", str(self.port), "--ready-file", str(ready)],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the embedded ClickHouse did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running embedded ClickHouse, one for the tests of a module."""
    server = Server(tmp_path_factory.mktemp("clickhouse"))
    server.start()
    yield server
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
    migrate(empty)
    return empty
